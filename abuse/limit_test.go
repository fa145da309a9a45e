package abuse

// The limit of requests.

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Of ten times as many parallel requests as the limit, as many pass as it says;
// the others are told when to come back, in the form their client understands.
func TestLimitHoldsUnderParallelRequests(t *testing.T) {
	const limit = 20
	for _, signs := range []bool{false, true} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") })
		g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", limit), with("rate_limit.window_seconds", 3600)))
		var header []string
		wantStatus := 429
		if signs {
			header, wantStatus = []string{"Authorization: AWS4-HMAC-SHA256 x"}, 503
		}
		var mu sync.Mutex // guards passed and remaining
		passed, remaining := 0, map[string]int{}
		var clients sync.WaitGroup
		for range 10 * limit {
			clients.Go(func() {
				resp, body := g.do("GET", "/photos/k", userKey, "", header...)
				h := resp.Header
				reset, err := strconv.ParseInt(h.Get("X-Ratelimit-Reset"), 10, 64)
				if until := time.Until(time.Unix(reset, 0)); err != nil || until < 3500*time.Second || until > 3601*time.Second || h.Get("X-Ratelimit-Limit") != "20" {
					t.Errorf("X-RateLimit-Limit %q, -Reset %q, want 20, and an hour from now", h.Get("X-Ratelimit-Limit"), h.Get("X-Ratelimit-Reset"))
				}
				mu.Lock()
				defer mu.Unlock()
				if resp.StatusCode == 200 {
					passed++
					remaining[h.Get("X-Ratelimit-Remaining")]++
					return
				}
				after, err := strconv.Atoi(h.Get("Retry-After"))
				if err != nil || after < 3500 || after > 3600 || h.Get("X-Ratelimit-Remaining") != "0" {
					t.Errorf("Retry-After %q, X-RateLimit-Remaining %q, want about 3600, and 0", h.Get("Retry-After"), h.Get("X-Ratelimit-Remaining"))
				}
				wantCode := "TooManyRequests"
				if signs {
					wantCode = "SlowDown"
				}
				if code := refusalCode(t, resp, body); resp.StatusCode != wantStatus || code != wantCode || strings.HasPrefix(body, "<?xml") != signs {
					t.Errorf("answer = %d %s, want %d %s", resp.StatusCode, body, wantStatus, wantCode)
				}
				checkHardened(t, resp)
			})
		}
		clients.Wait()
		if passed != limit || len(backend.requests()) != limit {
			t.Errorf("%d requests passed, and the backend got %d, want %d", passed, len(backend.requests()), limit)
		}
		for i := range limit {
			if remaining[strconv.Itoa(i)] != 1 {
				t.Errorf("X-RateLimit-Remaining %d was said %d times, want once", i, remaining[strconv.Itoa(i)])
			}
		}
		// Another user has a limit of their own.
		if resp, _ := g.do("GET", "/photos/k", readOnlyKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET by another user = %d, want 200", resp.StatusCode)
		}
	}
}

// Whoever is known is told where they stand with every answer, refusals too;
// strangers are told nothing, and cost nobody's allowance.
func TestLimitIsToldWithEveryAnswer(t *testing.T) {
	backend := startStore(t)
	g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", 1000), with("max_file_size", 10)))
	g.do("PUT", "/photos/k", userKey, "meow")
	for i, test := range []struct {
		method, target, body string
		status               int
	}{
		{"GET", "/", "", 200}, {"GET", "/photos", "", 200}, {"GET", "/photos?list-type=2", "", 200}, {"HEAD", "/photos", "", 200},
		{"GET", "/photos/k", "", 200}, {"HEAD", "/photos/k", "", 200}, {"PUT", "/photos/k", "x", 200}, {"DELETE", "/photos/none", "", 204},
		{"GET", "/photos/none", "", 404}, {"GET", "/secret/k", "", 403}, {"PUT", "/photos/k", "01234567890", 413},
		{"GET", "/photos/k?policy", "", 501}, {"DELETE", "/photos/k?versionId=1", "", 403},
	} {
		resp, _ := g.do(test.method, test.target, userKey, test.body)
		h := resp.Header
		if resp.StatusCode != test.status || h.Get("X-Ratelimit-Limit") != "1000" || h.Get("X-Ratelimit-Remaining") != strconv.Itoa(998-i) || h.Get("X-Ratelimit-Reset") == "" {
			t.Errorf("%s %s = %d, X-RateLimit-Limit %q, -Remaining %q, -Reset %q, want %d, 1000, %d, and an instant",
				test.method, test.target, resp.StatusCode, h.Get("X-Ratelimit-Limit"), h.Get("X-Ratelimit-Remaining"), h.Get("X-Ratelimit-Reset"), test.status, 998-i)
		}
	}
	for _, key := range []string{"", "wrong-key-0123456789"} {
		if resp, _ := g.do("GET", "/photos/k", key, ""); resp.StatusCode != 401 || resp.Header.Get("X-Ratelimit-Limit") != "" {
			t.Errorf("GET by a stranger = %d, X-RateLimit-Limit %q, want 401 without", resp.StatusCode, resp.Header.Get("X-Ratelimit-Limit"))
		}
	}
	if resp, _ := g.do("GET", "/", userKey, ""); resp.Header.Get("X-Ratelimit-Remaining") != "985" {
		t.Errorf("X-RateLimit-Remaining = %s, want 985: no stranger's request counts", resp.Header.Get("X-Ratelimit-Remaining"))
	}
}
