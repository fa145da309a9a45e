package main

// What is sent to a backend again, when, and how often.

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	maxAttempts   = 3
	firstBackoff  = 100 * time.Millisecond // at most, before the second attempt; twice that before the third
	maxRetryAfter = 10 * time.Second       // if a backend asks for a longer wait, there is no other attempt
)

// roundTrip sends a request and returns the head of the answer, whatever its
// status. The caller closes the body.
//
// A read (GET, HEAD) that fails before the first byte of the answer, or whose status asks
// for it, is sent again, up to maxAttempts times in all and within the account's budget, with
// exponential backoff and full jitter. A write is sent once: if a backend breaks the
// connection, nobody knows whether it has done the write.
func (u *upstream) roundTrip(ctx context.Context, out *outgoing) (*http.Response, error) {
	attempts := 1
	if out.isRead() {
		attempts = maxAttempts
	}
	u.budget.sent(time.Now())
	connect := u.pool.get
	var before error
	for attempt := 1; ; attempt++ {
		resp, err := u.attempt(ctx, out, connect)
		if before != nil && isRefusal(err) {
			return nil, before // which made the circuit refuse, and says what is wrong
		}
		if attempt == attempts || ctx.Err() != nil || !retriable(resp, err) {
			return resp, err
		}
		wait, ok := u.retryDelay(attempt, resp)
		if !ok || !u.budget.take(time.Now()) {
			return resp, err
		}
		u.counts.retried(retryReasonOf(statusOf(resp), err))
		u.log.Debug("retry", "account", u.account.name, "attempt", attempt, "wait", wait, "status", statusOf(resp), causeAttr(err))
		if resp != nil {
			io.CopyN(io.Discard, resp.Body, maxErrorDocument) // a drained connection is kept
			resp.Body.Close()
		}
		if err := sleep(ctx, wait, nil); err != nil {
			return nil, err
		}
		if before = err; err != nil {
			connect = u.pool.dial // the kept ones may be as broken
		}
	}
}

// retriable reports whether an attempt at a read failed in a way that may be temporary.
// S3's SlowDown is a 503; other services answer 429.
func retriable(resp *http.Response, err error) bool {
	if err != nil {
		return !isRefusal(err) && !errors.Is(err, errNoProgress) // then the time is used up
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// isRefusal reports whether the backend was not asked, because it has not answered others.
func isRefusal(err error) bool {
	_, refused := errors.AsType[*circuitError](err)
	return refused
}

// retryDelay returns how long to wait before the next attempt. It returns false if the
// backend asks for more than maxRetryAfter.
func (u *upstream) retryDelay(attempt int, resp *http.Response) (time.Duration, bool) {
	wait := rand.N(u.backoff << (attempt - 1))
	if resp == nil {
		return wait, true
	}
	after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	return max(wait, after), after <= maxRetryAfter
}

// retryAfter reads a Retry-After header, seconds or a date: RFC 9110 section
// 10.2.3. For anything else it returns 0.
func retryAfter(value string, now time.Time) time.Duration {
	switch seconds, err := strconv.ParseUint(value, 10, 31); {
	case err == nil:
		return time.Duration(seconds) * time.Second
	case errors.Is(err, strconv.ErrRange):
		return math.MaxInt64 // longer than anybody waits
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

func statusOf(resp *http.Response) int {
	if resp == nil {
		return 0
	}
	return resp.StatusCode
}

// The budget of an account: of the requests in retryWindow, a share of 1/retryShare may be
// sent again, and alwaysRetries in any case, so that an account with few requests has some. A
// backend that is down then gets at most a tenth more requests, not three times as many.
const (
	retryWindow   = 10 // seconds
	retryShare    = 10
	alwaysRetries = 10
)

func newRetryBudget(now time.Time) *retryBudget {
	return &retryBudget{epoch: now, always: alwaysRetries}
}

// A retryBudget counts the requests of an account and those that were sent again, retries
// and resumptions together, by the second. It may be used by several goroutines at once.
type retryBudget struct {
	epoch  time.Time
	always int // retries that there is room for in any window

	mu      sync.Mutex // guards the rest
	seconds [retryWindow]struct {
		at                int64 // seconds since epoch
		requests, retries int
	}
}

// sent counts a request, when it is sent for the first time.
func (b *retryBudget) sent(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seconds[b.second(now)].requests++
}

// take counts a request that is sent again, and returns true, if the budget has room.
func (b *retryBudget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	current := b.second(now)
	requests, retries := 0, 0
	for _, s := range b.seconds {
		if s.at > b.seconds[current].at-retryWindow {
			requests += s.requests
			retries += s.retries
		}
	}
	if retries >= max(requests/retryShare, b.always) {
		return false
	}
	b.seconds[current].retries++
	return true
}

// second returns the index of the second now, cleared if it was of an earlier one. It
// requires that mu is held.
func (b *retryBudget) second(now time.Time) int {
	at := int64(now.Sub(b.epoch) / time.Second)
	i := int(at % retryWindow)
	if s := &b.seconds[i]; s.at != at {
		s.at, s.requests, s.retries = at, 0, 0
	}
	return i
}
