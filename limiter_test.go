package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// secondsAfter is an instant, in seconds after the limiter was made.
func secondsAfter(epoch time.Time, seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

// The table is a limit of 3 in 60 s, over all that a clock can do. The burst at
// the boundary is the one that two counters and a weighted mean would admit.
func TestLimiterAllow(t *testing.T) {
	type step struct {
		second    float64
		admitted  bool
		remaining int
		reset     float64 // seconds after the epoch
		retry     float64 // seconds
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"the example of the file's comment", []step{
			{10, true, 2, 70, 0},
			{20, true, 1, 70, 0},
			{50, true, 0, 70, 0},
			{65, false, 0, 70, 5},
			{71, true, 0, 80, 0},
			{71, false, 0, 80, 9},
		}},
		{"all at once, and again when all have left", []step{
			{0, true, 2, 60, 0},
			{0, true, 1, 60, 0},
			{0, true, 0, 60, 0},
			{0, false, 0, 60, 60},
			{59.999, false, 0, 60, 0.001},
			{60, true, 2, 120, 0},
			{60, true, 1, 120, 0},
			{60, true, 0, 120, 0},
			{60, false, 0, 120, 60},
		}},
		{"a burst across a boundary of minutes", []step{
			{59, true, 2, 119, 0},
			{59.5, true, 1, 119, 0},
			{59.9, true, 0, 119, 0},
			{60, false, 0, 119, 59},
			{60.1, false, 0, 119, 58.9},
			{61, false, 0, 119, 58},
			{118.999, false, 0, 119, 0.001},
			{119, true, 0, 119.5, 0},
			{119.1, false, 0, 119.5, 0.4},
			{119.5, true, 0, 119.9, 0},
		}},
		{"a refused request does not count", []step{
			{0, true, 2, 60, 0},
			{1, true, 1, 60, 0},
			{2, true, 0, 60, 0},
			{30, false, 0, 60, 30},
			{59, false, 0, 60, 1},
			{60, true, 0, 61, 0},
			{61, true, 0, 62, 0},
			{62, true, 0, 120, 0},
		}},
		{"a clock that goes back stands still", []step{
			{100, true, 2, 160, 0},
			{40, true, 1, 160, 0},
			{10, true, 0, 160, 0},
			{10, false, 0, 160, 60},
			{100, false, 0, 160, 60},
			{159, false, 0, 160, 1},
			{160, true, 2, 220, 0},
		}},
		{"a clock that jumps ahead, and comes back", []step{
			{0, true, 2, 60, 0},
			{3600, true, 2, 3660, 0},
			{1, true, 1, 3660, 0},
			{2, true, 0, 3660, 0},
			{3, false, 0, 3660, 60},
			{3660, true, 2, 3720, 0},
		}},
		{"instants before the limiter was made", []step{
			{-100, true, 2, -40, 0},
			{-50, true, 1, -40, 0},
			{-40, true, 1, 10, 0},
			{0, true, 0, 10, 0},
			{5, false, 0, 10, 5},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			epoch := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			l := newLimiter(map[string]rateLimit{"u": {3, 60 * time.Second}}, epoch)
			for i, s := range test.steps {
				got := l.allow("u", secondsAfter(epoch, s.second))
				want := decision{s.admitted, 3, s.remaining, secondsAfter(epoch, s.reset), secondsAfter(epoch, s.retry).Sub(epoch), false}
				if got != want {
					t.Errorf("step %d: allow(%v s) = %+v, want %+v", i, s.second, got, want)
				}
			}
		})
	}
}

// Users have windows of their own, of their own length.
func TestLimiterNames(t *testing.T) {
	epoch := time.Now()
	l := newLimiter(map[string]rateLimit{"a": {1, time.Second}, "b": {2, time.Minute}, "free": {0, time.Minute}}, epoch)
	for i, test := range []struct {
		name     string
		second   float64
		admitted bool
	}{
		{"a", 0, true}, {"a", 0, false},
		{"b", 0, true}, {"b", 0, true}, {"b", 0, false},
		{"a", 1, true}, {"b", 1, false}, {"b", 60, true},
	} {
		if got := l.allow(test.name, secondsAfter(epoch, test.second)).admitted; got != test.admitted {
			t.Errorf("step %d: allow(%s, %v s) = %t, want %t", i, test.name, test.second, got, test.admitted)
		}
	}
	// Nobody without a limit is refused, and nobody gets a window by asking.
	for _, name := range []string{"free", "stranger", ""} {
		for range 1000 {
			if got := l.allow(name, epoch); got != (decision{admitted: true}) {
				t.Fatalf("allow(%q) = %+v, want admitted without a limit", name, got)
			}
		}
	}
	if len(l.windows) != 2 {
		t.Errorf("%d windows, want the 2 of the configuration", len(l.windows))
	}
}

// A slidingLog is the definition, in O(n): every admitted instant is kept, and
// the window is counted anew for each request.
type slidingLog struct {
	limit    rateLimit
	admitted []time.Time
	newest   time.Time
}

func (s *slidingLog) allow(now time.Time) decision {
	if now.After(s.newest) {
		s.newest = now
	}
	var inside []time.Time
	for _, at := range s.admitted {
		if s.newest.Sub(at) < s.limit.window {
			inside = append(inside, at)
		}
	}
	d := decision{limit: s.limit.requests}
	if len(inside) < s.limit.requests {
		d.admitted = true
		s.admitted = append(s.admitted, s.newest)
		inside = append(inside, s.newest)
	}
	d.remaining = s.limit.requests - len(inside)
	d.reset = inside[0].Add(s.limit.window)
	if !d.admitted {
		d.retryAfter = d.reset.Sub(s.newest)
	}
	return d
}

// On random instants, some of them going back, the ring decides as the
// definition does; and no interval holds more than the limit.
func TestLimiterModel(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		rule := rateLimit{1 + random.IntN(9)*(1+random.IntN(8)), time.Duration(1+random.IntN(50)) * time.Millisecond}
		epoch := time.Unix(1e9, 0)
		l := newLimiter(map[string]rateLimit{"u": rule}, epoch)
		model := &slidingLog{limit: rule, newest: epoch.Add(-time.Hour)}
		now := epoch
		for i := range 400 {
			switch random.IntN(20) {
			case 0: // a pause in which everything may leave
				now = now.Add(time.Duration(random.Int64N(int64(3 * rule.window))))
			case 1: // a clock set back
				now = now.Add(-time.Duration(random.Int64N(int64(rule.window))))
			case 2: // the boundary itself
				now = now.Add(rule.window)
			default:
				now = now.Add(time.Duration(random.Int64N(int64(rule.window) / int64(rule.requests))))
			}
			if got, want := l.allow("u", now), model.allow(now); got != want {
				t.Fatalf("seed %d, %+v, request %d: allow = %+v, want %+v", seed, rule, i, got, want)
			}
		}
		for i := rule.requests; i < len(model.admitted); i++ {
			if span := model.admitted[i].Sub(model.admitted[i-rule.requests]); span < rule.window {
				t.Fatalf("seed %d: %d requests within %s, the limit is %+v", seed, rule.requests+1, span, rule)
			}
		}
	}
}

// The seed of the benchmark's users spreads the goroutines over them.
func BenchmarkLimiter(b *testing.B) {
	for _, users := range []int{1, 10_000} {
		limits := map[string]rateLimit{}
		names := make([]string, users)
		for i := range names {
			names[i] = fmt.Sprintf("user-%05d", i)
			limits[names[i]] = rateLimit{100, time.Minute}
		}
		warm := func() *limiter { // every user has been here once, and has a ring
			l := newLimiter(limits, time.Now())
			for _, name := range names {
				l.allow(name, time.Now())
			}
			return l
		}
		b.Run(fmt.Sprintf("users=%d", users), func(b *testing.B) {
			l := warm()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.allow(names[i%users], time.Now())
			}
		})
		b.Run(fmt.Sprintf("users=%d/parallel", users), func(b *testing.B) {
			l := warm()
			var start atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := int(start.Add(977)); pb.Next(); i++ {
					l.allow(names[i%users], time.Now())
				}
			})
		})
	}
}

// A limiter that takes over decides as if it had been there all the time: on the
// same limit, on a lower and on a higher one, for a user who stays.
func TestLimiterSucceed(t *testing.T) {
	epoch := time.Unix(1e9, 0)
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	for _, test := range []struct {
		name  string
		limit rateLimit
		now   int
		admit int // how many more at once, now
	}{
		{"same", rateLimit{3, time.Minute}, 50, 1},
		{"same, later", rateLimit{3, time.Minute}, 61, 2}, // of 0 s counts no more
		{"higher", rateLimit{5, time.Minute}, 50, 3},
		{"lower", rateLimit{1, time.Minute}, 50, 0},
		{"lower, later", rateLimit{1, time.Minute}, 71, 1}, // the latest was at 10 s
		{"shorter", rateLimit{3, 5 * time.Second}, 12, 2},
		{"longer", rateLimit{3, time.Hour}, 100, 1},
		{"none", rateLimit{}, 50, 1000},
	} {
		old := newLimiter(map[string]rateLimit{"stays": {3, time.Minute}, "goes": {3, time.Minute}}, epoch)
		old.allow("stays", at(0))
		limits := map[string]rateLimit{"stays": test.limit, "comes": {1, time.Minute}}
		l := old.successor(limits)
		old.allow("stays", at(10)) // the old one still decides
		l.apply(limits)
		admitted := 0
		for range 1000 {
			if l.allow("stays", at(test.now)).admitted {
				admitted++
			}
		}
		if admitted != test.admit {
			t.Errorf("%s: %d more admitted at %d s, want %d", test.name, admitted, test.now, test.admit)
		}
		if !l.allow("comes", at(test.now)).admitted || l.allow("comes", at(test.now)).admitted {
			t.Errorf("%s: a user who comes has another window than a new one", test.name)
		}
	}
}

// A wall clock that is set neither opens the limit nor locks anybody out: the
// limiter counts from an instant with a monotonic reading, by which Go compares.
func TestLimiterSurvivesStepsOfTheClock(t *testing.T) {
	g := startGateway(t, testConfig(startRecorder(t, nil).URL, with("rate_limit.requests", 3)))
	l := g.gw.limiter
	if !strings.Contains(l.epoch.String(), " m=") {
		t.Errorf("the limiter's epoch %s has no monotonic reading", l.epoch)
	}
	for _, step := range []time.Duration{-time.Hour, time.Hour, -24 * time.Hour} {
		l := newLimiter(map[string]rateLimit{"u": {3, time.Minute}}, l.epoch)
		now := l.epoch.Add(time.Second)
		for i := range 3 {
			if d := l.allow("u", now); !d.admitted {
				t.Errorf("request %d = %+v, want it admitted", i, d)
			}
		}
		d := l.allow("u", now.Add(step))
		switch {
		case step > 0 && !d.admitted:
			t.Errorf("an hour later = %+v, want it admitted", d)
		case step < 0 && (d.admitted || d.retryAfter > time.Minute):
			t.Errorf("%s later = %+v, want it refused for no more than a window", step, d)
		}
		if step < 0 {
			if d := l.allow("u", now.Add(time.Minute)); !d.admitted || d.remaining != 2 {
				t.Errorf("a minute after a step of %s = %+v, want an empty window", step, d)
			}
		}
	}
}
