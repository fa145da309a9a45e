package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCircuit(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	c := &circuit{}
	var opened, closed int
	c.changed = func(open bool) {
		if open {
			opened++
		} else {
			closed++
		}
	}
	send := func(now time.Time, o outcome) error {
		probe, err := c.enter(now)
		if err == nil {
			c.leave(probe, o, now)
		}
		return err
	}
	wait := func(now time.Time) time.Duration {
		var refused *circuitError
		if _, err := c.enter(now); !errors.As(err, &refused) {
			t.Fatalf("at %s the request is not refused: %v", now.Sub(start), err)
		}
		return refused.retryAfter
	}
	for range circuitFailures - 1 {
		send(at(0), failedOutcome)
	}
	send(at(0), answeredOutcome) // which begins the count anew
	for i := range circuitFailures {
		if err := send(at(0), failedOutcome); err != nil {
			t.Fatalf("after %d failures in a row the request is refused: %v", i, err)
		}
	}
	if d := wait(at(0.4)); d != 600*time.Millisecond {
		t.Errorf("after %d failures a request is told to wait for %s, want 600ms", circuitFailures, d)
	}
	probe, err := c.enter(at(1))
	if !probe || err != nil {
		t.Fatalf("after a second enter = %t, %v, want a probe", probe, err)
	}
	wait(at(1)) // while the probe is on its way
	c.leave(probe, failedOutcome, at(1))
	if d := wait(at(1)); d != 2*time.Second {
		t.Errorf("after a probe that failed a request waits for %s, want 2s", d)
	}
	c.leave(false, failedOutcome, at(2.9)) // of a request from before
	probe, _ = c.enter(at(3))
	c.leave(probe, unknownOutcome, at(3)) // its client left
	if probe, err = c.enter(at(3)); !probe || err != nil {
		t.Fatalf("after a probe whose client left enter = %t, %v, want another probe", probe, err)
	}
	c.leave(probe, answeredOutcome, at(3))
	if err := send(at(3), answeredOutcome); err != nil || opened != 1 || closed != 1 {
		t.Errorf("after a probe that was answered: %v, opened %d times, closed %d times, want once each", err, opened, closed)
	}
	for range 100 { // for a long outage
		now := at(100)
		for send(now, failedOutcome) == nil {
		}
		if d := wait(now); d > longestRefusal {
			t.Fatalf("a request waits for %s, want at most %s", d, longestRefusal)
		}
		start = start.Add(longestRefusal)
	}
}

// An account that does not answer is refused fast, and used again once it answers; the others
// don't notice.
func TestDeadAccountIsRefusedFast(t *testing.T) {
	var dead atomic.Bool
	var asked atomic.Int32
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1); dead.Load() {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "meow")
	})
	healthy := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") })
	g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", 100_000), with("accounts.healthy", map[string]any{
		"endpoint_url": healthy.URL, "access_key_id": "id", "secret_access_key": "secret", "buckets": []any{"healthy"}})))
	dead.Store(true)
	var last *http.Response
	var body string
	for range 30 {
		last, body = g.do("PUT", "/photos/k", adminKey, "meow")
	}
	if last.StatusCode != 503 || last.Header.Get("Retry-After") != "1" || !strings.Contains(body, `"SlowDown"`) || asked.Load() != circuitFailures {
		t.Errorf("PUT = %d %s, Retry-After %q, after %d requests to the backend; want 503 SlowDown, 1, after %d",
			last.StatusCode, body, last.Header.Get("Retry-After"), asked.Load(), circuitFailures)
	}
	if resp, body := g.do("GET", "/healthy/k", adminKey, ""); resp.StatusCode != 200 {
		t.Errorf("GET of another account = %d %s, want 200", resp.StatusCode, body)
	}
	dead.Store(false)
	await(t, "the account to be used again", func() bool {
		resp, _ := g.do("GET", "/photos/k", adminKey, "")
		return resp.StatusCode == 200
	})
	for _, want := range []string{"the backend does not answer", "the backend answers again"} {
		if n := strings.Count(g.log.String(), want); n != 1 {
			t.Errorf("the log says %d times %q, want once", n, want)
		}
	}
}

// What a client does is no failure of the backend.
func TestClientsDoNotMakeAnAccountLookDead(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "meow")
	})
	g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", 100_000), with("max_file_size", 1<<20)))
	for range 3 * circuitFailures {
		for _, size := range []int{1000, 200_000} { // read before it is sent, and streamed
			conn := g.dial()
			fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, size, strings.Repeat("x", size/2))
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	}
	if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("GET after uploads that were cut = %d %s, want 200", resp.StatusCode, body)
	}
}

// accounts.NAME.max_in_flight bounds the requests of all users to an account, to the end of
// their answers.
func TestRequestsInFlightOfAnAccountAreBounded(t *testing.T) {
	const limit = 3
	release := make(chan struct{})
	var waiting atomic.Int32
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.(http.Flusher).Flush()
		waiting.Add(1)
		<-release
		w.Write(make([]byte, 100_000))
	})
	g := startGateway(t, testConfig(backend.URL, with("accounts.main.max_in_flight", limit)))
	var clients sync.WaitGroup
	for i := range limit {
		clients.Go(func() {
			key := []string{userKey, adminKey}[i%2]
			if resp, body := g.do("GET", "/photos/k", key, ""); resp.StatusCode != 200 || len(body) != 100_000 {
				t.Errorf("GET within the limit = %d with %d bytes, want 200 with 100000", resp.StatusCode, len(body))
			}
		})
	}
	await(t, "the requests to reach the backend", func() bool { return waiting.Load() == limit })
	resp, body := g.do("GET", "/photos/k", adminKey, "")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, `"SlowDown"`) {
		t.Errorf("GET over the limit = %d %s, Retry-After %q; want 503 SlowDown, 1", resp.StatusCode, body, resp.Header.Get("Retry-After"))
	}
	close(release)
	clients.Wait()
	if resp, body := g.do("GET", "/photos/k", adminKey, ""); resp.StatusCode != 200 {
		t.Errorf("GET after the others = %d %s, want 200", resp.StatusCode, body)
	}
}

// The request whose failure makes the circuit refuse says what is wrong, as does each probe later.
func TestRefusedRetryDoesNotHideTheCause(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	g := startGateway(t, testConfig(closed.URL))
	u := g.gw.accounts["main"]
	for _, state := range []string{"before it refuses", "as a probe"} {
		if state == "as a probe" {
			u.circuit.until = time.Now()
		} else {
			u.circuit.failures = circuitFailures - 1
		}
		resp, _ := g.do("GET", "/photos/k", userKey, "")
		if line := g.lineOf(resp); line["reason"] != "backend_connect" || resp.StatusCode != 502 {
			t.Errorf("%s: %d with the reason %v, want 502 with backend_connect", state, resp.StatusCode, line["reason"])
		}
	}
	resp, _ := g.do("GET", "/photos/k", userKey, "")
	if line := g.lineOf(resp); line["reason"] != "backend_down" {
		t.Errorf("afterwards: the reason is %v, want backend_down", line["reason"])
	}
}
