package main

// What is remembered of the past: how long, how much, and at what cost.

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAccountHistoryIsAQuarterOfAnHour(t *testing.T) {
	start := time.Now()
	h := newAccountHistory(start)
	answered := &sample{backend: answeredOutcome, firstByte: 3 * time.Millisecond}
	failed := &sample{backend: failedOutcome}
	for _, r := range []struct {
		at time.Duration
		s  *sample
	}{{0, answered}, {9 * time.Second, failed}, {10 * time.Second, answered}, {25 * time.Second, answered}} {
		h.observe(r.s, start.Add(r.at))
	}
	for _, test := range []struct {
		at                     time.Duration
		requests, failures     uint32
		oldest, last, beforeIt uint32 // requests in these slots
	}{
		{25 * time.Second, 4, 1, 0, 1, 1},
		{39 * time.Second, 4, 1, 0, 0, 1},
		{899 * time.Second, 4, 1, 2, 0, 0}, // the first slot is the oldest now
		{900 * time.Second, 2, 0, 1, 0, 0}, // and has left
		{920 * time.Second, 0, 0, 0, 0, 0},
		{time.Hour, 0, 0, 0, 0, 0},
	} {
		p := h.snapshot(start.Add(test.at))
		total := p.sum(slotCount)
		if total.requests != test.requests || total.failures != test.failures {
			t.Errorf("at %s: %d requests, %d failures, want %d, %d", test.at, total.requests, total.failures, test.requests, test.failures)
		}
		if a, b, c := p.slots[0].requests, p.slots[slotCount-1].requests, p.slots[slotCount-2].requests; a != test.oldest || b != test.last || c != test.beforeIt {
			t.Errorf("at %s: slots with %d … %d, %d, want %d … %d, %d", test.at, a, c, b, test.oldest, test.beforeIt, test.last)
		}
	}
	// The ring is used again, and a clock that steps back breaks nothing.
	h.observe(answered, start.Add(time.Hour))
	h.observe(answered, start.Add(-time.Hour))
	if total := h.snapshot(start.Add(time.Hour)).sum(slotCount); total.requests != 2 {
		t.Errorf("after an hour: %d requests, want 2", total.requests)
	}
}

// What the state of an account follows from, and what it does not.
func TestAccountStateFollowsTheLastAnswer(t *testing.T) {
	now := time.Now()
	h := newAccountHistory(now)
	wantUp := func(when string, answers, known bool) {
		t.Helper()
		if a, k := h.up(); k != known || known && a != answers {
			t.Errorf("%s: up = %t, %t, want %t, %t", when, a, k, answers, known)
		}
	}
	wantUp("at first", false, false)
	h.observe(&sample{backend: unknownOutcome}, now)
	wantUp("after a client that left", false, false)
	h.observe(&sample{backend: failedOutcome, requestID: "1", cause: "connection refused", code: 502}, now)
	wantUp("after a failure", false, true)
	h.observe(&sample{backend: failedOutcome, requestID: "2", cause: "asked again in 1s", code: 503, reason: reasonBackendDown}, now)
	if f := h.snapshot(now).failure; f.requestID != "1" || f.cause != "connection refused" || f.status != 502 {
		t.Errorf("last failure = %+v, want the one before the circuit opened", f)
	}
	h.observe(&sample{backend: unknownOutcome}, now)
	wantUp("after a client that left", false, true)
	h.observe(&sample{backend: answeredOutcome, code: 404}, now.Add(time.Second))
	wantUp("after an answer", true, true)
	if p := h.snapshot(now); !p.success.Equal(now.Add(time.Second)) || p.failure.requestID != "1" {
		t.Errorf("success at %s, last failure %+v", p.success, p.failure)
	}
}

// The formula is that of histogram_quantile:
// https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile
func TestQuantileIsThatOfPrometheus(t *testing.T) {
	for _, test := range []struct {
		answers []time.Duration
		part    float64
		want    time.Duration
	}{
		{nil, 0.5, 0},
		{[]time.Duration{time.Microsecond}, 0.5, 500 * time.Microsecond},    // the middle of 0 to 1 ms
		{[]time.Duration{3 * time.Millisecond}, 1, 5 * time.Millisecond},    // the end of its bucket
		{[]time.Duration{1, 1, 1, 30 * time.Millisecond}, 0.5, 666667},      // two thirds of 1 ms
		{[]time.Duration{1, 1, 1, 30 * time.Millisecond}, 0.99, 49 * 1e6},   // 96 % of the way from 25 to 50 ms
		{[]time.Duration{time.Hour, time.Hour}, 0.5, bounds[len(bounds)-1]}, // above the last bound
		{[]time.Duration{time.Millisecond, time.Hour}, 0.25, 500 * time.Microsecond},
	} {
		h := newAccountHistory(time.Now())
		for _, d := range test.answers {
			h.observe(&sample{backend: answeredOutcome, firstByte: d}, h.epoch)
		}
		total := h.snapshot(h.epoch).sum(slotCount)
		if got := total.quantile(test.part); math.Abs(float64(got-test.want)) > 1000 {
			t.Errorf("quantile %v of %v = %s, want %s", test.part, test.answers, got, test.want)
		}
	}
}

func TestUserHistoryCountsByReason(t *testing.T) {
	var h userHistory
	now := time.Now()
	h.observe(&sample{received: 5, sent: 7, keyID: "0a1b2c3d"}, now)
	h.observe(&sample{reason: "role", sent: 1}, now.Add(time.Second))
	for range 2 {
		h.observe(&sample{reason: "rate_limit", keyID: "ffffffff"}, now.Add(2*time.Second))
	}
	if h.keyID != "ffffffff" || h.requests != 4 || h.received != 5 || h.sent != 8 || !h.lastSeen().Equal(now.Add(2*time.Second)) {
		t.Errorf("key %s, %d requests, %d and %d bytes, seen %s", h.keyID, h.requests, h.received, h.sent, h.lastSeen())
	}
	if want := "[{role 1} {rate_limit 2}]"; fmt.Sprint(h.reasons) != want {
		t.Errorf("reasons %v, want %s", h.reasons, want)
	}
}

// A flood of one kind of error, or a long text, displaces nothing.
func TestErrorHistoryKeepsKinds(t *testing.T) {
	var h errorHistory
	now := time.Now()
	h.observe(&sample{reason: "backend_connect", code: 502, account: "minio", requestID: "first"}, now)
	h.observe(&sample{code: 404}, now)
	for i := range 1000 {
		h.observe(&sample{reason: "unknown_key", code: 401, requestID: fmt.Sprint(i), cause: strings.Repeat("x", 1000)}, now.Add(time.Duration(i)))
	}
	list := h.list()
	if len(list) != 2 || list[0].count != 1000 || list[0].requestID != "999" || len(list[0].cause) > maxShown+len("…") || list[1].requestID != "first" {
		t.Errorf("%.2000v", list)
	}
	for i := range 3 * keptErrors {
		h.observe(&sample{reason: "path", code: 400, user: fmt.Sprint(i)}, now.Add(time.Second+time.Duration(i)))
	}
	if list = h.list(); len(list) != keptErrors || list[0].user != "149" || list[keptErrors-1].user != "100" {
		t.Errorf("%d errors, the first of %s, want the last %d", len(list), list[0].user, keptErrors)
	}
}

// Nobody displaces the errors of others: a stranger by the names of buckets, a backend by its codes
// and statuses, or a user by buckets and operations.
func TestErrorHistoryIsNotFloodedByOne(t *testing.T) {
	now := time.Now()
	flood := func(of func(i int) sample) func(h *errorHistory) {
		return func(h *errorHistory) {
			for i := range 1000 {
				s := of(i)
				h.observe(&s, now.Add(time.Minute+time.Duration(i)))
			}
		}
	}
	reasonsOf := []refusalReason{reasonNoKey, reasonUnknownKey, reasonUnknownUser, reasonBadSignature, reasonMalformedSignature}
	for _, test := range []struct {
		name  string
		flood func(h *errorHistory)
		kinds int // of the flood, at most
	}{
		{"a stranger who names buckets", flood(func(i int) sample {
			return sample{code: 401, reason: reasonsOf[i%5], bucket: fmt.Sprint("bucket", i%12), account: fmt.Sprint("account", i%3)}
		}), 5},
		{"a backend with any code", flood(func(i int) sample {
			return sample{user: "user", account: "bad", bucket: "photos", operation: "GetObject", reason: reasonBackendDenied, code: 403, upstreamStatus: 403, errorCode: fmt.Sprint("Code", i)}
		}), 1},
		{"a backend with any status, of many users", flood(func(i int) sample {
			return sample{user: fmt.Sprint("user", i%7), account: "bad", reason: reasonBackendError, code: 500 + i%100, upstreamStatus: 500 + i%100}
		}), keptErrors - 10},
		{"a user with many buckets", flood(func(i int) sample {
			return sample{user: "eve", account: "main", bucket: fmt.Sprint("bucket", i), operation: "DeleteObject", reason: reasonRole, code: 403, errorCode: "AccessDenied"}
		}), keptErrors - 10},
	} {
		var h errorHistory
		for i := range 10 { // of two users, and of the account of the flood's user
			h.observe(&sample{user: fmt.Sprint("alice", i%2), account: "main", bucket: fmt.Sprint("b", i), code: 502, reason: reasonBackendConnect}, now)
		}
		test.flood(&h)
		kept := 0
		for _, e := range h.list() {
			if strings.HasPrefix(e.user, "alice") {
				kept++
			}
		}
		if flooding := len(h.list()) - kept; kept != 10 || flooding > test.kinds || flooding == 0 {
			t.Errorf("%s: %d of the 10 errors before are kept, and %d of the flood, want all, and at most %d", test.name, kept, flooding, test.kinds)
		}
	}
}

// Codes that are not known are of one kind, which has the last of them.
func TestErrorHistoryHasTheLastCode(t *testing.T) {
	var h errorHistory
	for i, code := range []string{"AccessDenied", "Strange", "Stranger", "NotSignedUp", ""} {
		h.observe(&sample{reason: reasonBackendDenied, code: 403, user: "user", errorCode: code}, time.Unix(int64(i), 0))
	}
	var got []string
	for _, e := range h.list() {
		got = append(got, fmt.Sprint(e.count, " ", e.lastCode))
	}
	if want := []string{"1 ", "1 NotSignedUp", "2 Stranger", "1 AccessDenied"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRememberingCostsNoMemory(t *testing.T) {
	h, u := newAccountHistory(time.Now()), &userHistory{}
	s := &sample{backend: answeredOutcome, firstByte: time.Millisecond, keyID: "0a1b2c3d", reason: "role"}
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(time.Second)
		h.observe(s, now)
		u.observe(s, now)
	}); n > 0 {
		t.Errorf("%v allocations for a request, want none", n)
	}
}

func BenchmarkRemember(b *testing.B) {
	for _, goroutines := range []int{1, 8} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			h, u, recent := newAccountHistory(time.Now()), &userHistory{}, &recentHistory{}
			b.SetParallelism(goroutines)
			b.ReportAllocs()
			now := time.Now()
			b.RunParallel(func(p *testing.PB) {
				s := &sample{backend: answeredOutcome, firstByte: 3 * time.Millisecond, keyID: "0a1b2c3d", received: 1, sent: 2}
				for p.Next() {
					u.observe(s, now)
					h.observe(s, now)
					recent.errors.observe(s, now)
				}
			})
		})
	}
}
