package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// In any ten seconds a tenth of an account's requests may be sent again, and a few in
// any case.
func TestRetryBudget(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	taken := func(b *retryBudget, now time.Time) int {
		n := 0
		for n < 10_000 && b.take(now) {
			n++
		}
		return n
	}
	b := newRetryBudget(start)
	if n := taken(b, at(0)); n != alwaysRetries {
		t.Errorf("without requests the budget has %d retries, want %d", n, alwaysRetries)
	}
	if n := taken(b, at(9.9)); n != 0 {
		t.Errorf("within the window of %d retries the budget has %d more, want none", alwaysRetries, n)
	}
	if n := taken(b, at(10)); n != alwaysRetries {
		t.Errorf("after the window the budget has %d retries, want %d", n, alwaysRetries)
	}
	b = newRetryBudget(start)
	for i := range 1000 {
		b.sent(at(float64(i) / 125)) // over eight seconds
	}
	if n := taken(b, at(8)); n != 100 {
		t.Errorf("for 1000 requests the budget has %d retries, want 100", n)
	}
	if n := taken(b, at(30)); n != alwaysRetries {
		t.Errorf("long after 1000 requests the budget has %d retries, want %d", n, alwaysRetries)
	}
}

// A backend that is down gets the requests of its clients and a few retries, not three
// times as many.
func TestDeadBackendIsNotHammered(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })
	g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", 100_000)))
	g.gw.accounts["main"].budget = newRetryBudget(time.Now())
	const requests = 500
	for range requests {
		if resp, _ := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 503 {
			t.Fatalf("GET = %d, want the backend's 503", resp.StatusCode)
		}
	}
	// All within a window, if the machine is fast; else there may be one tenth for each.
	if n := len(backend.requests()); n > requests+requests/retryShare*2 {
		t.Errorf("the backend got %d requests for %d of clients", n, requests)
	}
}

// A kept connection that turns out dead is replaced once, by a new one: not by the next
// of the pool, which is as dead.
func TestDeadConnectionsOfThePoolAreNotTriedOneByOne(t *testing.T) {
	const kept = 40
	var requests, later atomic.Int32
	var all sync.WaitGroup
	all.Add(kept)
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for first := true; ; first = false {
			if _, _, err := readHead(r); err != nil {
				return
			}
			if requests.Add(1) <= kept {
				all.Done()
				all.Wait() // so that each request has a connection of its own
			} else if later.Add(1); !first {
				conn.(*net.TCPConn).SetLinger(0)
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := startGateway(t, testConfig(endpoint))
	var clients sync.WaitGroup
	for range kept {
		clients.Go(func() { g.do("GET", "/photos/k", userKey, "") })
	}
	clients.Wait()
	resp, body := g.do("GET", "/photos/k", userKey, "")
	if n := later.Load(); resp.StatusCode != 200 || n != 2 {
		t.Errorf("GET = %d %s after %d requests, want 200 after 2", resp.StatusCode, body, n)
	}
}

// A backend's 429 is S3's SlowDown to the client, whose SDK retries that.
func TestTooManyRequestsOfABackendIsSlowDown(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(429)
		fmt.Fprint(w, "<Error><Code>TooManyRequests</Code></Error>")
	})
	g := startGateway(t, testConfig(backend.URL))
	resp, body := g.do("PUT", "/photos/k", userKey, "meow")
	if resp.StatusCode != 503 || !strings.Contains(body, `"SlowDown"`) || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("PUT = %d %s, Retry-After %q; want 503 SlowDown, 7", resp.StatusCode, body, resp.Header.Get("Retry-After"))
	}
}
