package main

// The limiter that many gateways share: the same sliding window, kept in Redis as a list of
// instants by the server's clock. Redis runs a script alone, so no two gateways see the same
// room in a window.
//
// A failure of the store stops no request. When the server leaves a call unanswered for
// redisDeadline, or fails it in another way, the limiter of this process decides at once and
// from then on, and the server is probed in the background until it answers again. Load does
// not cause that: if a server that answers has no time for a request, the client is told to retry.

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	firstProbe = 100 * time.Millisecond // more than redisDeadline, so that no call from before the failure is unanswered
	maxProbe   = time.Second            // the wait doubles after each probe, up to this
	steady     = 10 * time.Second       // if the store answered for less than this, the wait goes on doubling
)

// windowScript does what window.admit does. It takes a limit, in requests, and
// its window, in microseconds, and returns
//
//	1 if admitted, or 0
//	how many more would be admitted now
//	the microseconds until the oldest instant leaves
//	the microseconds until the next request would be admitted; 0 if admitted
//
// A list takes 10 bytes for an instant where a sorted set takes 120, and may have two in one
// microsecond. It is in order, because a clock that steps back stands still at the newest
// instant. Instants more than a window ahead come from a clock that was wrong, and would lock
// the user out, so they are dropped. The instants that have left are found by doubling and
// halving, because a million that leave at once must not delay the server. An instant has 16
// digits and is written with %.0f, because Lua's default keeps 14. After a limit was lowered
// there are more instants than it admits, and the next request waits for all that are too
// many.
var windowScript = newRedisScript(`
local key, limit, window = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function instant(i)
	return tonumber(redis.call('LINDEX', key, i))
end

local count = redis.call('LLEN', key)
if count > 0 and instant(-1) > clock + window then
	redis.call('DEL', key)
	count = 0
end
local now = clock
if count > 0 then
	now = math.max(now, instant(-1))
end

local function left(i)
	return instant(i) + window <= now
end

if count > 0 and left(0) then
	local last, stays = 0, 1
	while stays < count and left(stays) do
		last, stays = stays, stays * 2
	end
	stays = math.min(stays, count)
	while stays - last > 1 do
		local middle = math.floor((last + stays) / 2)
		if left(middle) then last = middle else stays = middle end
	end
	redis.call('LTRIM', key, stays, -1)
	count = count - stays
end

if count >= limit then
	return {0, 0, instant(0) + window - now, instant(count - limit) + window - now}
end
redis.call('RPUSH', key, string.format('%.0f', now))
redis.call('PEXPIRE', key, string.format('%.0f', math.ceil((now + window - clock) / 1000) + 1))
return {1, limit - count - 1, instant(0) + window - now, 0}
`)

// windowKey returns the key of a user's window. The part in braces chooses the node of a
// cluster, so the key of the probe is on the same node.
func windowKey(name string) string { return windowPrefix + "{" + name + "}" }

// windowPrefix begins the key of every window.
const windowPrefix = "s3proxy:limit:"

// A sharedLimiter decides together with all gateways that use the same store. It may be used
// by several goroutines at once.
type sharedLimiter struct {
	*sharedWindows
	local  *limiter
	limits map[string]rateLimit
}

// newSharedLimiter returns a limiter with a store. The local limiter, with the same limits,
// decides while the store is down.
func newSharedLimiter(store *redisStore, local *limiter, limits map[string]rateLimit, log *slog.Logger) *sharedLimiter {
	return &sharedLimiter{&sharedWindows{store: store, log: log}, local, limits}
}

// with returns a limiter with other limits and the same store, whose state is kept.
func (s *sharedLimiter) with(local *limiter, limits map[string]rateLimit) *sharedLimiter {
	return &sharedLimiter{s.sharedWindows, local, limits}
}

// busyRetry is the Retry-After of a request for which the store had no time.
const busyRetry = time.Second

// allow decides on a request of name at the instant now, within twice redisPatience. It has no
// context: a client that leaves must neither break a connection to the store nor look like a
// failure of the store.
//
// The local limiter learns what the store admits, so nobody gets a new window when the store
// goes down.
func (s *sharedLimiter) allow(name string, now time.Time) decision {
	limit := s.limits[name]
	if limit.requests <= 0 {
		return decision{admitted: true}
	}
	if s.down.Load() {
		return s.local.allow(name, now)
	}
	s.calls.Add(1)
	d, err := s.admit(windowKey(name), limit, now)
	if err == errRedisBusy && !s.down.Load() {
		s.busy.Add(1)
		return decision{limit: limit.requests, reset: now.Add(busyRetry), retryAfter: busyRetry, busy: true}
	}
	if err != nil {
		s.failed(name, err)
		return s.local.allow(name, now)
	}
	if d.admitted {
		s.local.allow(name, now)
	}
	return d
}

// sharedWindows are the windows in a store, and whether it can be relied on.
type sharedWindows struct {
	store    *redisStore
	log      *slog.Logger
	calls    atomic.Uint64          // decisions asked of the store
	failures atomic.Uint64          // of them, those it did not make
	busy     atomic.Uint64          // of them, those for which it had no time
	down     atomic.Bool            // only the goroutine of probe asks the store
	cause    atomic.Pointer[string] // why it is down, or was the last time

	// Both belong to the goroutine that changes down.
	wait time.Duration // before the last probe
	back time.Time     // when the store was found to answer again
}

// healthy reports whether the store is asked.
func (w *sharedWindows) healthy() bool { return !w.down.Load() }

// admit asks the store. Its reply has durations from now on, so the two clocks need not
// agree.
func (w *sharedWindows) admit(key string, limit rateLimit, now time.Time) (decision, error) {
	span := limit.window.Microseconds()
	var r [4]int64
	args := []string{strconv.Itoa(limit.requests), strconv.FormatInt(span, 10)}
	if err := w.store.eval(windowScript, key, args, r[:]); err != nil {
		return decision{}, err
	}
	admitted, remaining, reset, retry := r[0], r[1], r[2], r[3]
	if admitted>>1 != 0 || remaining < 0 || remaining >= int64(limit.requests) || reset <= 0 || reset > span || retry < 0 || retry > span {
		return decision{}, fmt.Errorf("%w: %v", errRedisScript, r)
	}
	return decision{
		admitted:   admitted == 1,
		limit:      limit.requests,
		remaining:  int(remaining),
		reset:      now.Add(time.Duration(reset) * time.Microsecond),
		retryAfter: time.Duration(retry) * time.Microsecond,
	}, nil
}

// failed makes the local limiter decide from now on, and starts probe. Of many calls that fail
// at once, only the first does.
func (w *sharedWindows) failed(name string, err error) {
	w.failures.Add(1)
	if w.store.isClosed() || !w.down.CompareAndSwap(false, true) {
		return
	}
	w.store.forget()
	w.because(err)
	w.log.Warn("the shared limiter does not answer: each gateway limits by itself", "store", w.store.server.addr, causeAttr(err))
	wait := firstProbe
	if !w.back.IsZero() && time.Since(w.back) < steady {
		wait = min(2*w.wait, maxProbe)
	}
	go w.probe(name, wait)
}

// because notes why the store is down.
func (w *sharedWindows) because(err error) {
	text := causeText(err)
	w.cause.Store(&text)
}

// whyDown returns why the store is not asked, "" if it is.
func (w *sharedWindows) whyDown() string {
	if cause := w.cause.Load(); cause != nil && !w.healthy() {
		return *cause
	}
	return ""
}

// probe asks for a window of a millisecond until it gets an answer. The key is on the node that
// failed, and the script is the same, so the answer proves the right to write, too. probe ends
// with the store.
func (w *sharedWindows) probe(name string, wait time.Duration) {
	for ; ; wait = min(2*wait, maxProbe) {
		select {
		case <-w.store.closed:
			return
		case <-time.After(wait):
		}
		_, err := w.admit(windowKey(name)+":probe", rateLimit{1, time.Millisecond}, time.Now())
		if err == nil {
			break
		}
		w.because(err)
	}
	w.wait, w.back = wait, time.Now()
	w.log.Info("the shared limiter answers again", "store", w.store.server.addr)
	w.down.Store(false)
}
