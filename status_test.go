package main

// The report of the admin listener: what becomes of an account's state, of users and of errors, and
// that it holds no secret.

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// status returns the report of the program.
func (p *testProgram) status(query string) *statusReport {
	p.t.Helper()
	resp, body := p.page("GET", statusPage+query)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		p.t.Fatalf("GET %s = %d %s", statusPage, resp.StatusCode, body)
	}
	var r statusReport
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		p.t.Fatalf("%v: %s", err, body)
	}
	return &r
}

// account returns what a report says of an account.
func (r *statusReport) account(t *testing.T, name string) accountStatus {
	t.Helper()
	i := slices.IndexFunc(r.Accounts, func(a accountStatus) bool { return a.Name == name })
	if i < 0 {
		t.Fatalf("the report has no account %s", name)
	}
	return r.Accounts[i]
}

func (r *statusReport) user(t *testing.T, name string) userStatus {
	t.Helper()
	i := slices.IndexFunc(r.Users, func(u userStatus) bool { return u.Name == name })
	if i < 0 {
		t.Fatalf("the report has no user %s", name)
	}
	return r.Users[i]
}

// An account is red while its backend fails, green when it answers, and no client can change that
// by what it asks for.
func TestStatusOfAnAccountFollowsItsBackend(t *testing.T) {
	var broken atomic.Bool
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case broken.Load():
			w.WriteHeader(500)
		case strings.HasSuffix(r.URL.Path, "/none"):
			w.WriteHeader(404)
		case strings.HasSuffix(r.URL.Path, "/denied"):
			w.WriteHeader(403)
		case strings.HasSuffix(r.URL.Path, "/credentials"):
			w.WriteHeader(403)
			io.WriteString(w, "<Error><Code>InvalidAccessKeyId</Code></Error>")
		case strings.HasSuffix(r.URL.Path, "/cut"):
			w.Header().Set("Content-Length", "100000")
			io.WriteString(w, "12345")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		default:
			io.WriteString(w, "meow")
		}
	})
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	wants := func(when string, want accountHealth, requests, failures int64) {
		t.Helper()
		p.lines() // waits for the requests in flight
		await(t, when, func() bool { return p.status("").Process.RequestsInFlight == 0 })
		a := p.status("").account(t, "main")
		if a.State != want || a.Traffic.Requests != requests || a.Traffic.Failures != failures {
			t.Errorf("%s: %s, %d requests, %d failures, want %s, %d, %d", when, a.State, a.Traffic.Requests, a.Traffic.Failures, want, requests, failures)
		}
	}
	wants("at first", healthIdle, 0, 0)
	p.do("GET", "/photos/k", "stranger-0123456789", "")
	p.do("GET", "/secret/k", userKey, "")
	wants("after refusals", healthIdle, 0, 0)
	p.do("GET", "/photos/k", userKey, "")
	wants("after an answer", healthOK, 1, 0)
	p.do("GET", "/photos/credentials", userKey, "")
	wants("after a refusal of the gateway's credentials", healthFailing, 2, 1)
	p.do("GET", "/photos/none", userKey, "")
	wants("after a 404", healthOK, 3, 1)
	p.do("GET", "/photos/cut", adminKey, "")
	wants("after an answer that broke off", healthFailing, 4, 2)
	p.do("GET", "/photos/denied", userKey, "")
	wants("after a 403", healthOK, 5, 2)
	broken.Store(true)
	p.do("PUT", "/photos/k", userKey, "x")
	wants("after a 500", healthFailing, 6, 3)
	r := p.status("")
	if e := r.account(t, "main").LastError; e == nil || e.Status != 500 || e.RequestID == "" || r.State != "failing" || !strings.HasPrefix(r.Summary, "The account main") {
		t.Errorf("last error %+v, %s: %s", e, r.State, r.Summary)
	}
	broken.Store(false)
	p.do("PUT", "/photos/k", userKey, "x")
	wants("when it is back", healthOK, 7, 3)
	if r := p.status(""); r.State != "ok" || r.Summary != "The account main answers" || r.account(t, "main").Traffic.P99 == 0 {
		t.Errorf("%s: %s, %+v", r.State, r.Summary, r.account(t, "main").Traffic)
	}
}

// A client that does not wait for the answer says nothing of the backend.
func TestStatusOfAnAccountWhoseClientLeft(t *testing.T) {
	release := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	conn := p.dial()
	fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
	await(t, "the backend to be asked", func() bool { return len(backend.requests()) == 1 })
	conn.Close()
	await(t, "the request to end", func() bool { return p.status("").Process.RequestsInFlight == 0 })
	close(release)
	r := p.status("")
	if a := r.account(t, "main"); a.State != healthIdle || a.Traffic.Requests != 0 || len(r.Errors) != 0 || r.user(t, "user").Requests != 1 {
		t.Errorf("%s, %d requests, errors %v", a.State, a.Traffic.Requests, r.Errors)
	}
}

// Requests that nobody asked a backend for do not say why it is down.
func TestStatusOfARefusedAccountKeepsTheCause(t *testing.T) {
	p := startReloadable(t, 0, testConfig("http://127.0.0.1:1", withAdmin))
	for range circuitFailures + 3 {
		p.do("PUT", "/photos/k", userKey, "x")
	}
	r := p.status("")
	a := r.account(t, "main")
	if a.State != healthRefused || a.LastError == nil || !strings.HasSuffix(a.LastError.Cause, "connection refused") {
		t.Errorf("%s, %+v, want refused, by the connection", a.State, a.LastError)
	}
	if a.LastError.Reason != reasonBackendConnect {
		t.Errorf("reason %q, want %s", a.LastError.Reason, reasonBackendConnect)
	}
	if _, page := p.page("GET", "/"); !strings.Contains(page, "To do: is it running? correct host and port in endpoint_url of accounts.main") {
		t.Error("the page does not say what to do")
	}
	if r.Summary != "The account main: connection refused" {
		t.Errorf("summary %q", r.Summary)
	}
	if a.Traffic.Requests != a.Traffic.Failures || a.Traffic.Requests != circuitFailures+3 {
		t.Errorf("%+v", a.Traffic)
	}
}

// What opened the circuit of an account has no part in the account that a reload puts in its place.
func TestStatusOfARefusedAccountThatAReloadRepairs(t *testing.T) {
	p := startReloadable(t, 0, testConfig("http://127.0.0.1:1", withAdmin))
	for range circuitFailures + 3 {
		p.do("PUT", "/photos/k", userKey, "x")
	}
	p.wantSample(`s3proxy_upstream_circuit_open{account="main"}`, 1)
	p.take(testConfig(startDemoBackend(t).URL, withAdmin))
	p.wantSample(`s3proxy_upstream_circuit_open{account="main"}`, 0)
	if r := p.status(""); r.State != "idle" || r.Summary != "The account main has not been asked yet" {
		t.Errorf("after the reload: %s: %s, want idle", r.State, r.Summary)
	}
	p.do("PUT", "/photos/k", userKey, "x")
	await(t, "the request to end", func() bool { return p.status("").Process.RequestsInFlight == 0 })
	if r := p.status(""); r.State != "ok" || r.account(t, "main").State != healthOK || r.Summary != "The account main answers" {
		t.Errorf("after an answer: %s: %s, want ok", r.State, r.Summary)
	}
	p.wantSample(`s3proxy_upstream_circuit_open{account="main"}`, 0)
	p.wantSample(`s3proxy_upstream_up{account="main"}`, 1)
}

// Requests that were in flight at a backend when a reload took it away may still fail.
func TestStatusIsNotOfAnUpstreamThatWasReplaced(t *testing.T) {
	config := testConfig("http://127.0.0.1:1", with("accounts.gone", anotherAccount("http://127.0.0.1:1", "elsewhere")))
	s, rewrite, log := testService(t, config)
	m := newMetrics()
	s.register(m)
	before := s.current.Load()
	gone := before.accounts["gone"].circuit
	fail := func(c *circuit) {
		for range circuitFailures {
			c.leave(false, failedOutcome, time.Now())
		}
	}
	fail(gone)
	rewrite(testConfig("http://127.0.0.1:2"))
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	defer s.current.Load().retire(nil)
	fail(before.accounts["main"].circuit)
	if r := s.report(time.Now(), maxListed, false); r.State != "idle" || r.account(t, "main").State != healthIdle {
		t.Errorf("%s, %s, want idle, idle", r.State, r.account(t, "main").State)
	}
	wantSamples(t, m, map[string]float64{`s3proxy_upstream_circuit_open{account="main"}`: 0})
	if text, _ := scraped(t, m); strings.Contains(text, `circuit_open{account="gone"}`) {
		t.Error("the metrics have the circuit of an account that was removed")
	}
	if text := log.String(); strings.Contains(text, "account=main") {
		t.Errorf("the log says that the new account is refused:\n%s", text)
	}
}

// An account may be refused before a request to it has ended.
func TestStatusOfARefusedAccountWithoutAnError(t *testing.T) {
	s, _, _ := testService(t, testConfig("http://127.0.0.1:1"))
	defer s.current.Load().retire(nil)
	for range circuitFailures {
		s.current.Load().accounts["main"].circuit.leave(false, failedOutcome, time.Now())
	}
	if r := s.report(time.Now(), maxListed, false); r.State != "failing" || r.Summary != "The account main: the backend does not answer" {
		t.Errorf("%s: %s", r.State, r.Summary)
	}
}

func TestStatusOfUsersAndErrors(t *testing.T) {
	p := startReloadable(t, 0, testConfig(startDemoBackend(t).URL, withAdmin, with("users.ro.rate_limit", map[string]any{"requests": 3, "window_seconds": 3600})))
	p.do("PUT", "/photos/k", userKey, "12345")
	p.do("GET", "/photos/none", userKey, "") // no error of the gateway's
	p.do("DELETE", "/photos/k", readOnlyKey, "")
	p.do("DELETE", "/photos/k", readOnlyKey, "")
	resp, _ := p.do("DELETE", "/photos/k", readOnlyKey, "")
	p.do("GET", "/photos/k", readOnlyKey, "")
	p.do("GET", "/strangers-bucket/k", "stranger-0123456789", "")
	await(t, "all requests to end", func() bool { return p.status("").Process.RequestsInFlight == 0 })
	r := p.status("")
	digest := sha256.Sum256([]byte(userKey))
	if u := r.user(t, "user"); u.KeyID != hex.EncodeToString(digest[:])[:8] || u.Requests != 2 || u.ReceivedBytes != 5 || u.SentBytes == 0 || u.Window.Limit != 0 || u.Role != roleUser || time.Since(u.LastSeen) > time.Minute {
		t.Errorf("user: %+v", u)
	}
	if u := r.user(t, "ro"); u.Requests != 4 || u.Window != (windowStatus{3, 3, 3600}) || fmt.Sprint(u.Refusals) != "[{role 3} {rate_limit 1}]" {
		t.Errorf("ro: %+v", u)
	}
	if u := r.user(t, "none"); u.Requests != 0 || !u.LastSeen.IsZero() {
		t.Errorf("none: %+v", u)
	}
	if u := r.UnknownUser; u.Requests != 1 || u.Name != "" || fmt.Sprint(u.Refusals) != "[{unknown_key 1}]" {
		t.Errorf("unknown user: %+v", u)
	}
	var got []string
	for _, e := range r.Errors {
		got = append(got, fmt.Sprintf("%d× %d %s %s %s %s %s", e.Count, e.Status, e.Code, e.Reason, e.User, e.Bucket, e.Operation))
	}
	want := []string{"1× 401 Unauthorized unknown_key   ", "1× 429 TooManyRequests rate_limit ro photos ", "3× 403 AccessDenied role ro photos DeleteObject"}
	if !slices.Equal(got, want) {
		t.Errorf("errors %q, want %q", got, want)
	}
	if id := r.Errors[2].RequestID; id != resp.Header.Get("X-Amz-Request-Id") {
		t.Errorf("the request id is %s, want that of the last, %s", id, resp.Header.Get("X-Amz-Request-Id"))
	}
}

// Users and accounts that stay keep their past; an account with another endpoint is another one.
func TestStatusSurvivesReload(t *testing.T) {
	backend, other := startDemoBackend(t), startDemoBackend(t)
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	p.do("PUT", "/photos/k", userKey, "x")
	p.do("GET", "/photos/k", "stranger-0123456789", "")
	p.take(testConfig(backend.URL, withAdmin, with("users.user.role", "readonly"), with("accounts.main.max_in_flight", 7)))
	r := p.status("")
	if u, a := r.user(t, "user"), r.account(t, "main"); u.Requests != 1 || u.Role != roleReadOnly || a.State != healthOK || a.Traffic.Requests != 1 || a.Connections.MaxInFlight != 7 || len(r.Errors) != 1 {
		t.Errorf("after a reload: %+v, %+v, %v", u, a, r.Errors)
	}
	p.take(testConfig(other.URL, withAdmin, without("users.user")))
	r = p.status("")
	if a := r.account(t, "main"); a.State != healthIdle || a.Traffic.Requests != 0 || r.Configuration.Users != 3 {
		t.Errorf("with another endpoint: %+v", a)
	}
}

func TestStatusOfAUserHasTheFrequentReasonsFirst(t *testing.T) {
	var h userHistory
	for _, reason := range []refusalReason{reasonRole, reasonPath, reasonRateLimit, reasonRateLimit} {
		h.observe(&sample{reason: reason, keyID: "0a1b2c3d"}, time.Now())
	}
	u := newUserStatus(&h)
	if want := "[{rate_limit 2} {path 1} {role 1}]"; fmt.Sprint(u.Refusals) != want || u.KeyID != "0a1b2c3d" {
		t.Errorf("%v, key %s, want %s", u.Refusals, u.KeyID, want)
	}
}

// A failed reload, and what awaits a restart, stand in the report until they are put right.
func TestStatusOfReloads(t *testing.T) {
	good := testConfig(startDemoBackend(t).URL, withAdmin)
	p := startReloadable(t, 0, good)
	before := p.status("")
	if c := before.Configuration; c.Error != "" || !c.Applied.Equal(c.LastReload) || len(c.AwaitsRestart) != 0 || len(before.Attention) != 0 {
		t.Errorf("at the start: %+v, %q", c, before.Attention)
	}
	p.write(testConfig("http://localhost:1", withAdmin, with("users.user.role", "king")))
	if status, _ := p.reload(); status != 500 {
		t.Fatalf("reload = %d, want 500", status)
	}
	r := p.status("")
	if c := r.Configuration; !strings.Contains(c.Error, "users.user.role") || !c.Applied.Equal(before.Configuration.Applied) || !c.LastReload.After(c.Applied) {
		t.Errorf("after a failed reload: %+v", c)
	}
	if r.State != "attention" || len(r.Attention) != 1 || !strings.Contains(r.Attention[0], "users.user.role") {
		t.Errorf("%s, %q", r.State, r.Attention)
	}
	p.take(testConfig(startDemoBackend(t).URL, withAdmin, with("server.max_connections", 5), with("server.port", 1)))
	r = p.status("")
	if c := r.Configuration; c.Error != "" || !slices.Equal(c.AwaitsRestart, []string{"server.port", "server.max_connections"}) || len(r.Attention) != 1 {
		t.Errorf("after a change of listeners: %+v, %q", c, r.Attention)
	}
	p.take(good)
	if r = p.status(""); r.State != "idle" || len(r.Attention) != 0 {
		t.Errorf("in the end: %s, %q", r.State, r.Attention)
	}
}

// Of many accounts those that are down are listed, and of many users those that were seen last.
func TestStatusOfManyAccountsAndUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := []func(map[string]any){}
		for i := range maxListed + 50 {
			changes = append(changes,
				with(fmt.Sprintf("accounts.a-%03d", i), anotherAccount("http://localhost:1", fmt.Sprintf("bucket-%03d", i))),
				with(fmt.Sprintf("users.u-%03d", i), map[string]any{"api_key": fmt.Sprintf("user-key-%012d", i), "role": "user"}))
		}
		s, _, _ := testService(t, testConfig("http://localhost:1", changes...))
		g := s.current.Load()
		g.accounts["a-149"].history.observe(&sample{backend: failedOutcome, cause: "read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer"}, time.Now())
		g.accounts["a-148"].history.observe(&sample{backend: failedOutcome, errorCode: "GatewayTimeout"}, time.Now())
		for i := range maxListed {
			time.Sleep(time.Second) // the clock is synctest's
			g.loads[fmt.Sprintf("u-%03d", maxListed+49-i)].history.observe(&sample{}, time.Now())
		}
		r := s.report(time.Now(), maxListed, false)
		if len(r.Accounts) != maxListed || len(r.Users) != maxListed || r.Configuration.Accounts != maxListed+51 || r.Configuration.Users != maxListed+54 {
			t.Fatalf("%d accounts, %d users, %+v", len(r.Accounts), len(r.Users), r.Configuration)
		}
		if r.Accounts[0].Name != "a-148" || r.Accounts[1].Name != "a-149" || r.Accounts[2].Name != "a-000" {
			t.Errorf("accounts %s, %s, %s, …", r.Accounts[0].Name, r.Accounts[1].Name, r.Accounts[2].Name)
		}
		if want := "2 of 151 accounts fail: a-148: GatewayTimeout; a-149: connection reset by peer"; r.Summary != want {
			t.Errorf("summary %q, want %q", r.Summary, want)
		}
		if first, last := r.Users[0].Name, r.Users[maxListed-1].Name; first != "u-050" || last != "u-149" {
			t.Errorf("users from %s to %s, want u-050 to u-149", first, last)
		}
		pages := newAdmin(s, new(atomic.Bool), s.reload)
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/", nil))
		for _, want := range []string{"the 100 that need attention first, of 151", "the 100 that were seen last, of 154"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("the page does not say %q", want)
			}
		}
		w = httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/-/status?all=1", nil))
		var all statusReport
		if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || len(all.Accounts) != 151 || len(all.Users) != 154 {
			t.Errorf("?all=1: %d accounts, %d users, %v", len(all.Accounts), len(all.Users), err)
		}
		g.retire(nil)
	})
}

// What a report says of all accounts does not depend on how many it lists.
func TestStatusSaysWhatExpiresOfAccountsThatAreNotListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := []func(map[string]any){}
		for i := range maxListed + 12 {
			changes = append(changes, with(fmt.Sprintf("accounts.a-%03d", i), anotherAccount("http://localhost:1", fmt.Sprintf("bucket-%03d", i))))
		}
		s, _, _ := testService(t, testConfig("http://localhost:1", changes...))
		now, accounts := time.Now(), s.current.Load().accounts
		expire := func(name string) {
			accounts[name].account.source.current.Store(&expiringCredentials{credentials: testCredentials, expires: now.Add(-time.Minute)})
		}
		wants := func(want ...string) {
			t.Helper()
			for _, listed := range []int{1, maxListed, 1000} {
				if r := s.report(now, listed, false); r.State != "attention" || !slices.Equal(r.Attention, want) {
					t.Errorf("%d listed: %s, %q, want attention, %q", listed, r.State, r.Attention, want)
				}
			}
		}
		expire("a-111")
		wants("The set of credentials of a-111 has expired")
		accounts["a-110"].pool.certificateEnd.Store(now.Add(time.Hour).Unix())
		wants("The certificate of the backend of a-110 expires in 1 h", "The set of credentials of a-111 has expired")
		var want []string
		for i := range maxListed {
			expire(fmt.Sprintf("a-%03d", i))
			if i < maxExpiries {
				want = append(want, fmt.Sprintf("The set of credentials of a-%03d has expired", i))
			}
		}
		wants(append(want, fmt.Sprintf("%d more certificates or sets of credentials of accounts have expired, or expire soon", maxListed+2-maxExpiries))...)
		s.current.Load().retire(nil)
	})
}

func TestStatusSummary(t *testing.T) {
	for _, test := range []struct{ states, want string }{
		{"a=idle", "The account a has not been asked yet"},
		{"a=ok", "The account a answers"},
		{"a=failing", "The account a: no route to host"},
		{"a=idle b=idle", "None of the 2 accounts has been asked yet"},
		{"a=ok b=ok c=ok", "All 3 accounts answer"},
		{"a=ok b=idle", "1 of 2 accounts answer; the rest have not been asked yet"},
		{"a=ok b=refused c=idle", "1 of 3 accounts fails: b: no route to host"},
		{"a=failing b=refused c=failing d=failing e=failing", "5 of 5 accounts fail: a: no route to host; b: no route to host; c: no route to host; and 2 more"},
	} {
		states := map[string]accountHealth{}
		for pair := range strings.FieldsSeq(test.states) {
			name, state, _ := strings.Cut(pair, "=")
			states[name] = accountHealth(state)
		}
		names := accountsToList(states)
		var reports []accountStatus
		for _, name := range names {
			reports = append(reports, accountStatus{Name: name, LastError: &accountError{Cause: "dial tcp 192.0.2.1:443: connect: no route to host"}})
		}
		if got := summary(names, states, reports); got != test.want {
			t.Errorf("%s: %q, want %q", test.states, got, test.want)
		}
	}
}

func TestStatusAttention(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &statusReport{Time: now}
	if got := r.attention(nil); len(got) != 0 {
		t.Errorf("%q, want nothing", got)
	}
	r.Process = processStatus{Draining: true, DroppedLogLines: 3, CertificateExpires: now.Add(50 * time.Hour), CertificateError: "no such file"}
	r.Limiter = limiterStatus{Store: "down", Address: "redis:6379", Cause: "connection refused"}
	accounts := []accountEnds{
		{name: "a", certificate: now.Add(-time.Hour), credentials: now.Add(time.Minute)},
		{name: "b", certificate: now.Add(30 * 24 * time.Hour), credentials: now},
	}
	want := []string{
		"The gateway is stopping: it accepts no more connections",
		"The shared limiter store at redis:6379 does not answer, and each gateway limits by itself: connection refused",
		"3 lines of the log were dropped",
		"The TLS files could not be reloaded; the previous certificate is in use: no such file",
		"The certificate of the gateway expires in 2 d 2 h",
		"The certificate of the backend of a has expired",
		"The set of credentials of b has expired",
	}
	if got := r.attention(accounts); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The window of a user is looked at, and nothing is counted.
func TestLimiterUsedCountsNothing(t *testing.T) {
	start := time.Now()
	l := newLimiter(map[string]rateLimit{"a": {3, time.Minute}, "free": {}}, start)
	wantUsed := func(at time.Duration, want int) {
		t.Helper()
		for range 2 {
			if got, limit := l.used("a", start.Add(at)); got != want || limit != (rateLimit{3, time.Minute}) {
				t.Errorf("at %s: %d of %v, want %d", at, got, limit, want)
			}
		}
	}
	wantUsed(0, 0)
	for _, at := range []time.Duration{0, 20 * time.Second, 40 * time.Second, 50 * time.Second} {
		l.allow("a", start.Add(at))
	}
	wantUsed(50*time.Second, 3)
	wantUsed(60*time.Second, 2)
	wantUsed(90*time.Second, 1)
	wantUsed(time.Hour, 0)
	l.allow("a", start.Add(61*time.Second)) // the ring begins in its middle
	wantUsed(61*time.Second, 3)
	wantUsed(100*time.Second, 1)
	if got, limit := l.used("free", start); got != 0 || limit.requests != 0 {
		t.Errorf("without a limit: %d of %v", got, limit)
	}
	if got, _ := l.used("nobody", start); got != 0 {
		t.Errorf("nobody: %d", got)
	}
}

// No secret of a configuration, and none that a client or a backend sends, is in the report or on
// the page: not after refusals, failures, or reloads of files with errors.
func TestStatusHoldsNoSecret(t *testing.T) {
	const canary = "canary-0123456789abcdef"
	redis := with("rate_limit", map[string]any{"requests": 2, "window_seconds": 60, "redis_url": "redis://canary-redis-user:" + canary + "@127.0.0.1:1"})
	echo := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { // what a hostile backend knows of the gateway
		w.Header().Set("X-Amz-Request-Id", canary)
		w.WriteHeader(502)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", r.Header.Get("X-Amz-Security-Token"), r.Header.Get("Authorization"))
	})
	config := func(changes ...func(map[string]any)) map[string]any {
		return testConfig(echo.URL, append([]func(map[string]any){withAdmin, redis,
			with("accounts.main.session_token", canary),
			with("users.two", map[string]any{"api_keys": []any{canary + "-1", canary + "-2"}, "role": "user", "allowed_buckets": []any{"photos"}}),
			with("users.digest", map[string]any{"api_key_sha256": strings.Repeat("ca", 32), "role": "user"}),
		}, changes...)...)
	}
	p := startReloadable(t, 0, config())
	check := func(when string) {
		t.Helper()
		for _, path := range []string{"/", statusPage, statusPage + "?all=1"} {
			_, text := p.page("GET", path) // which looks for the secrets of testConfig
			for _, secret := range []string{"canary", strings.Repeat("ca", 16), "AWS4-HMAC", "<script>x"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %s holds %q", when, path, secret)
				}
			}
		}
	}
	hostile := []string{"User-Agent: " + canary + "<script>x", "Referer: " + canary}
	for _, key := range []string{userKey, canary + "-1", canary + "-3", ""} {
		p.do("GET", "/photos/"+canary+"%3Cscript%3Ex", key, "", hostile...)
		p.do("PUT", "/photos/k?uploadId="+canary, key, canary, hostile...)
		p.do("GET", "/photos/k?X-Amz-Signature="+canary+"&X-Amz-Credential="+canary, "", "", hostile...)
		p.do("GET", "/"+canary+"/k", key, "", hostile...)
	}
	check("after requests")
	for _, change := range []func(map[string]any){
		with("accounts.main.secret_access_key", []any{canary}),
		with("accounts.main.endpoint_url", "http://"+canary+":"+canary+"@localhost"),
		with("users.user.api_key", "canary"), // too short
		with("users.user.api_keys", canary),
		with("users.digest.api_key_sha256", canary),
		with("rate_limit.redis_url", "memcached://:"+canary+"@localhost"),
		with("accounts.main.session_token", canary+"\n"),
	} {
		p.write(config(change))
		if status, text := p.reload(); status != 500 {
			t.Errorf("reload = %d %s, want an error", status, text)
		}
		check("after a failed reload")
	}
}

// The table of docs/operations.md has every field of the report, and no other.
func TestStatusFieldsAreInTheDocs(t *testing.T) {
	want := map[string]bool{}
	var walk func(path string, of reflect.Type)
	walk = func(path string, of reflect.Type) {
		switch {
		case of.Kind() == reflect.Pointer:
			walk(path, of.Elem())
		case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
			walk(path+"[]", of.Elem())
		case of.Kind() == reflect.Struct && of != reflect.TypeFor[time.Time]():
			for field := range of.Fields() {
				tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				walk(strings.TrimPrefix(path+"."+tag, "."), field.Type)
			}
		default:
			want[path] = true
		}
	}
	walk("", reflect.TypeFor[statusReport]())
	for path := range want {
		if strings.HasPrefix(path, "unknown_user.") { // the same as users[]
			delete(want, path)
		}
	}
	want["unknown_user"] = true
	for _, row := range docsTable(t, "operations", "field of the report") {
		for name := range strings.SplitSeq(row[0], ", ") {
			path, _ := codeSpan(name)
			if !want[path] {
				t.Errorf("the docs have %s, which is no field", name)
			}
			delete(want, path)
		}
	}
	for path := range want {
		t.Errorf("the docs do not have %s", path)
	}
}

// The ends of the certificates, of the gateway's and of a backend's, and of credentials.
func TestStatusOfWhatExpires(t *testing.T) {
	ends := func(after time.Duration) (time.Time, func(*x509.Certificate)) {
		at := time.Now().Add(after).Truncate(time.Second).UTC()
		return at, func(c *x509.Certificate) { c.NotAfter = at }
	}
	own, changeOwn := ends(50*time.Hour + time.Minute)
	theirs, changeTheirs := ends(100 * 24 * time.Hour)
	ca := newTestCA(t, "The Test Authority")
	cert, key := ca.issue(t, "localhost", changeOwn)
	files := tlsFiles(t, cert, key, certToPEM(ca.cert))
	p := startReloadable(t, 0, testConfig(startSecure(t, ca, changeTheirs), withAdmin,
		with("accounts.main.ca_file", files[2]), with("server.tls_cert_file", files[0]), with("server.tls_key_file", files[1])))
	if at := p.status("").account(t, "main").CertificateExpires; !at.IsZero() {
		t.Errorf("before a connection the backend's certificate expires at %s", at)
	}
	p.page("GET", "/-/ready?deep=1") // connects
	r := p.status("")
	a := r.account(t, "main")
	if !r.Process.CertificateExpires.Equal(own) || !a.CertificateExpires.Equal(theirs) || !a.Credentials.Expires.IsZero() || a.Credentials.Source != "config" {
		t.Errorf("%s, %s, %+v, want %s, %s", r.Process.CertificateExpires, a.CertificateExpires, a.Credentials, own, theirs)
	}
	if want := []string{"The certificate of the gateway expires in 2 d 2 h"}; !slices.Equal(r.Attention, want) {
		t.Errorf("attention %q, want %q", r.Attention, want)
	}
	_, page := p.page("GET", "/")
	if want := `title="` + theirs.Format("2006-01-02 15:04:05 UTC") + `">in 99 d`; !strings.Contains(page, want) {
		t.Errorf("the page does not have %q", want)
	}
}

// TLS files that could not be reloaded are told until they are right.
func TestStatusOfTLSFilesWithAnError(t *testing.T) {
	ca := newTestCA(t, "The Test Authority")
	cert, key := ca.issue(t, "localhost", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(30 * 24 * time.Hour) })
	files := tlsFiles(t, cert, key, "")
	p := startReloadable(t, 0, testConfig("http://localhost:1", withAdmin, with("server.tls_cert_file", files[0]), with("server.tls_key_file", files[1])))
	if r := p.status(""); r.Process.CertificateError != "" || len(r.Attention) != 0 {
		t.Errorf("at the start: error %q, attention %q, want none", r.Process.CertificateError, r.Attention)
	}
	replaceFile(t, files[0], "half a certificate")
	if status, text := p.reload(); status != 500 || !strings.HasPrefix(text, "the TLS files could not be reloaded") || strings.Contains(text, "the configuration could not") {
		t.Errorf("POST /-/reload with half a certificate = %d %s, want 500 that blames the TLS files alone", status, text)
	}
	r := p.status("")
	if !strings.Contains(r.Process.CertificateError, "server.tls_cert_file") || len(r.Attention) != 1 || !strings.Contains(r.Attention[0], r.Process.CertificateError) {
		t.Errorf("half a certificate: error %q, attention %q, want the setting in both", r.Process.CertificateError, r.Attention)
	}
	if _, page := p.page("GET", "/"); !strings.Contains(page, "The TLS files could not be reloaded") {
		t.Error("the page does not say that the TLS files could not be reloaded")
	}
	replaceFile(t, files[0], cert)
	if status, text := p.reload(); status != 200 {
		t.Fatalf("POST /-/reload = %d %s, want 200", status, text)
	}
	if r := p.status(""); r.Process.CertificateError != "" || len(r.Attention) != 0 {
		t.Errorf("afterwards: error %q, attention %q, want none", r.Process.CertificateError, r.Attention)
	}
}

func TestStatusOfCredentialsThatExpire(t *testing.T) {
	s, _, _ := testService(t, testConfig("http://localhost:1"))
	defer s.current.Load().retire(nil)
	now := time.Now()
	source := s.current.Load().accounts["main"].account.source
	source.current.Store(&expiringCredentials{credentials: testCredentials, expires: now.Add(-time.Minute)})
	source.failures.Add(3)
	r := s.report(now, maxListed, false)
	if c := r.account(t, "main").Credentials; c.Expires.Unix() != now.Add(-time.Minute).Unix() || c.Failures != 3 {
		t.Errorf("%+v", c)
	}
	if want := []string{"The set of credentials of main has expired"}; !slices.Equal(r.Attention, want) {
		t.Errorf("attention %q, want %q", r.Attention, want)
	}
}

// With a shared limit the report says where it is kept, and the page what the window counts.
func TestStatusOfASharedLimit(t *testing.T) {
	p := startReloadable(t, 0, testConfig(startDemoBackend(t).URL, withAdmin, with("rate_limit", map[string]any{"requests": 5, "window_seconds": 60, "redis_url": "redis://127.0.0.1:1"})))
	if l := p.status("").Limiter; l != (limiterStatus{Store: "up", Address: "127.0.0.1:1"}) {
		t.Errorf("before a request: %+v", l)
	}
	p.do("GET", "/photos/none", userKey, "")
	r := p.status("")
	if l := r.Limiter; l.Store != "down" || l.Failures != 1 || !strings.Contains(l.Cause, "connection refused") || len(r.Attention) != 1 || r.State != "attention" {
		t.Errorf("after a failure: %+v, %q, %s", l, r.Attention, r.State)
	}
	if w := r.user(t, "user").Window; w != (windowStatus{1, 5, 60}) {
		t.Errorf("window %+v", w)
	}
	if _, page := p.page("GET", "/"); !strings.Contains(page, "The limit is shared") || !strings.Contains(page, "store down") {
		t.Error("the page does not say that the limit is shared, and the store down")
	}
}

// How long a report takes in which every account and user has a past.
func BenchmarkStatusReport(b *testing.B) {
	for _, users := range []int{10, 20000} {
		b.Run(fmt.Sprintf("users=%d/accounts=%d", users, users/20+1), func(b *testing.B) {
			changes := []func(map[string]any){}
			for i := range users / 20 {
				changes = append(changes, with(fmt.Sprintf("accounts.a-%d", i), anotherAccount("http://localhost:1", fmt.Sprintf("bucket-%d", i))))
			}
			for i := range users {
				changes = append(changes, with(fmt.Sprintf("users.u-%d", i), map[string]any{"api_key": fmt.Sprintf("user-key-%012d", i), "role": "user"}))
			}
			conf, err := parseConfig([]byte(configText(b, changes...)), noEnv)
			if err != nil {
				b.Fatal(err)
			}
			s, err := newService(b.Context(), conf, configSource{}, slog.New(slog.DiscardHandler), newMetrics())
			if err != nil {
				b.Fatal(err)
			}
			g, now := s.current.Load(), time.Now()
			for _, u := range g.accounts {
				for i := range slotCount {
					u.history.observe(&sample{backend: answeredOutcome, firstByte: time.Millisecond}, now.Add(time.Duration(i)*slotLength))
				}
			}
			for i := range users {
				g.loads[fmt.Sprintf("u-%d", i)].history.observe(&sample{}, now.Add(time.Duration(i)))
			}
			pages := newStatusPages(s, new(atomic.Bool))
			for _, path := range []string{"/", statusPage + "?all=1"} {
				b.Run("path="+path, func(b *testing.B) {
					size := 0
					for b.Loop() {
						w := httptest.NewRecorder()
						if r := httptest.NewRequest("GET", path, nil); path == "/" {
							pages.answerPage(w, r)
						} else {
							pages.answerJSON(w, r)
						}
						size = w.Body.Len()
					}
					b.ReportMetric(float64(size), "bytes/page")
				})
			}
		})
	}
}
