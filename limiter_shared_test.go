package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newSharedTest returns a shared limiter of 3 requests in 60 s for u, and its log.
func newSharedTest(store *redisStore) (*sharedLimiter, *bytes.Buffer) {
	limits := map[string]rateLimit{"u": {3, time.Minute}, "free": {0, time.Minute}}
	log := new(bytes.Buffer)
	return newSharedLimiter(store, newLimiter(limits, time.Now()), limits, slog.New(slog.NewTextHandler(log, nil))), log
}

func TestSharedLimiterDecision(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		reply string
		want  decision
	}{
		{"*4\r\n:1\r\n:2\r\n:60000000\r\n:0\r\n", decision{true, 3, 2, now.Add(time.Minute), 0, false}},
		{"*4\r\n:0\r\n:0\r\n:1500000\r\n:1500001\r\n", decision{false, 3, 0, now.Add(1500 * time.Millisecond), 1500001 * time.Microsecond, false}},
	} {
		var commands [][]string
		_, store := newFakeRedis(t, func(_ string, command []string) string {
			commands = append(commands, command)
			return test.reply
		})
		s, log := newSharedTest(store)
		if got := s.allow("u", now); got != test.want || !s.healthy() || log.Len() > 0 {
			t.Errorf("%q: allow = %+v, want %+v; log %q", test.reply, got, test.want, log)
		}
		for _, name := range []string{"free", "stranger", ""} {
			if got := s.allow(name, now); got != (decision{admitted: true}) {
				t.Errorf("allow(%q) = %+v, want admitted without a limit", name, got)
			}
		}
		want := [][]string{{"EVALSHA", windowScript.sha, "1", "s3proxy:limit:{u}", "3", "60000000"}}
		if !reflect.DeepEqual(commands, want) || s.calls.Load() != 1 || s.failures.Load() != 0 {
			t.Errorf("commands %q, want %q", commands, want)
		}
	}
	// Numbers that no window has.
	for _, numbers := range [][4]int64{{2, 0, 1, 0}, {-1, 0, 1, 0}, {1, 3, 1, 0}, {1, -1, 1, 0}, {1, 0, 0, 0}, {1, 0, 60000001, 0}, {0, 0, 1, -1}, {0, 0, 1, 1 << 62}} {
		synctest.Test(t, func(t *testing.T) {
			_, store := newFakeRedis(t, always(fmt.Sprintf("*4\r\n:%d\r\n:%d\r\n:%d\r\n:%d\r\n", numbers[0], numbers[1], numbers[2], numbers[3])))
			s, _ := newSharedTest(store)
			now := time.Now()
			want := decision{true, 3, 2, now.Add(time.Minute), 0, false} // the local limiter's
			if got := s.allow("u", now); !reflect.DeepEqual(got, want) || s.healthy() {
				t.Errorf("%d: allow = %+v, healthy = %t, want %+v and false", numbers, got, s.healthy(), want)
			}
			store.close()
		})
	}
}

// The store goes and comes back: only the calls that saw it go are late, limits
// hold all the while, and there is one line for each.
func TestSharedLimiterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const admit, refuse = "*4\r\n:1\r\n:1\r\n:60000000\r\n:0\r\n", "*4\r\n:0\r\n:0\r\n:60000000\r\n:60000000\r\n"
		fake, store := newFakeRedis(t, always(admit))
		defer store.close()
		s, log := newSharedTest(store)
		want := func(what string, admitted, healthy bool, took time.Duration, lines int) {
			t.Helper()
			begin := time.Now()
			if got := s.allow("u", begin).admitted; got != admitted {
				t.Errorf("%s: admitted = %t, want %t", what, got, admitted)
			}
			if d := time.Since(begin); d != took {
				t.Errorf("%s: took %s, want %s", what, d, took)
			}
			if s.healthy() != healthy || strings.Count(log.String(), "\n") != lines {
				t.Errorf("%s: healthy = %t, want %t; want %d lines in the log:\n%s", what, s.healthy(), healthy, lines, log)
			}
		}
		want("the store admits", true, true, 0, 0)
		want("the store admits", true, true, 0, 0)

		fake.set(always(""))
		var calls sync.WaitGroup
		var admitted atomic.Int64
		for range 10 { // they fail together; two of the three places are taken here, too
			calls.Go(func() {
				if s.allow("u", time.Now()).admitted {
					admitted.Add(1)
				}
			})
		}
		calls.Wait()
		if n := admitted.Load(); n != 1 {
			t.Errorf("%d admitted when the store goes, want the one that it left over", n)
		}
		for range 100 {
			want("the store is gone", false, false, 0, 1)
		}
		if calls, failures := s.calls.Load(), s.failures.Load(); calls != 12 || failures != 10 {
			t.Errorf("%d calls, %d failures, want 12 and 10", calls, failures)
		}

		_, before, _ := fake.seen()
		time.Sleep(time.Minute) // the local window is free again
		synctest.Wait()
		_, after, open := fake.seen()
		if n := len(after) - len(before); n < 50 || n > 65 || open > 1 {
			t.Errorf("%d probes in a minute and %d connections, want about one probe a second and at most its connection", n, open)
		}
		for i := range 5 {
			want("the store is still gone", i < 3, false, 0, 1)
		}

		// A probe asks for a millisecond.
		const probed = "*4\r\n:1\r\n:0\r\n:1000\r\n:0\r\n"
		back := func(reply string) func(string, []string) string {
			return func(_ string, command []string) string {
				if strings.HasSuffix(command[3], "{u}:probe") {
					return probed
				}
				return reply
			}
		}
		fake.set(back(refuse))
		time.Sleep(time.Minute) // the local window would admit
		want("the store refuses", false, true, 0, 2)

		// A store that comes, and goes with the next request, is asked no more than
		// a store that is gone.
		_, before, _ = fake.seen()
		fake.set(back("-WRONGTYPE\r\n"))
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			s.allow("u", time.Now())
		}
		if _, after, _ = fake.seen(); len(after)-len(before) > 2*65 {
			t.Errorf("%d commands in a minute, want at most two a second", len(after)-len(before))
		}
	})
}

// What is known of the store survives a reload of the limits, and its probe ends
// with it.
func TestSharedLimiterReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, store := newFakeRedis(t, always(hangUp))
		s, log := newSharedTest(store)
		s.allow("u", time.Now())
		limits := map[string]rateLimit{"u": {1, time.Minute}}
		again := s.with(newLimiter(limits, time.Now()), limits)
		if got := again.allow("u", time.Now()); again.healthy() || again.failures.Load() != 1 || got.limit != 1 {
			t.Errorf("after a reload: healthy = %t, failures = %d, %+v", again.healthy(), again.failures.Load(), got)
		}
		fake.set(always("*4\r\n:1\r\n:0\r\n:1000\r\n:0\r\n"))
		time.Sleep(firstProbe)
		synctest.Wait()
		if !again.healthy() || !s.healthy() {
			t.Error("the store is back, and not made use of")
		}
		store.close() // a request may still have the limiter of before
		for range 2 {
			if d := again.allow("u", time.Now()); d.limit != 1 || !again.healthy() {
				t.Errorf("after close: allow = %+v, healthy = %t", d, again.healthy())
			}
		}
		if strings.Count(log.String(), "\n") != 2 {
			t.Errorf("want two lines in the log:\n%s", log)
		}
	})
	synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
		_, store := newFakeRedis(t, always(hangUp))
		s, _ := newSharedTest(store)
		s.allow("u", time.Now())
		store.close()
	})
}

// No secret of the store's URL is in the log, whatever goes wrong.
func TestSharedLimiterLog(t *testing.T) {
	for _, reply := range []string{"-WRONGPASS invalid username-password pair\r\n", "-ERR unknown command 'AUTH', with args beginning with: 'bob' 'hunter2'\r\n", "", hangUp, "?\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			_, store := newFakeRedis(t, always(reply))
			defer store.close()
			store.server.user, store.server.password = "bob", "hunter2"
			s, log := newSharedTest(store)
			s.allow("u", time.Now())
			if text := log.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "hunter2") || !strings.Contains(text, "seed:1") {
				t.Errorf("%q: log %s", reply, text)
			}
		})
	}
}
