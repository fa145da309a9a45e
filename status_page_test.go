package main

// The page itself: what it may run, that it escapes, and how it writes numbers.

import (
	"bytes"
	"context"
	"html/template"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The policy of the page allows its style and its script and nothing else.
func TestStatusPagePolicyIsStrict(t *testing.T) {
	p := startReloadable(t, 0, testConfig(startDemoBackend(t).URL, withAdmin))
	resp, body := p.page("GET", "/")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || resp.Header.Get("Cache-Control") != "no-store" ||
		resp.Header.Get("X-Frame-Options") != "DENY" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("GET / = %d %v", resp.StatusCode, resp.Header)
	}
	policy := resp.Header.Values("Content-Security-Policy")
	if len(policy) != 1 || !strings.HasPrefix(policy[0], "default-src 'none'; ") || strings.Contains(policy[0], "unsafe") || strings.Contains(policy[0], "*") {
		t.Fatalf("policy %q", policy)
	}
	for _, element := range []string{"style", "script"} {
		parts := regexp.MustCompile("(?s)<"+element+">(.*?)</"+element+">").FindAllStringSubmatch(body, -1)
		if len(parts) != 1 || !strings.Contains(policy[0], element+"-src '"+sourceHash(parts[0][1])+"';") {
			t.Errorf("the page has %d of <%s>, or the policy not its hash", len(parts), element)
		}
	}
	outside := regexp.MustCompile(`(?s)<(style|script)>.*?</`).ReplaceAllString(body, "")
	if found := regexp.MustCompile(`(?i)\sstyle=|\son[a-z]+=|javascript:|\ssrc=|<link[^>]*http`).FindString(outside); found != "" {
		t.Errorf("the page has %q, which the policy forbids", found)
	}
	head, text := p.page("HEAD", "/")
	if head.StatusCode != 200 || text != "" || head.Header.Get("Content-Length") == "" {
		t.Errorf("HEAD / = %d %q %v", head.StatusCode, text, head.Header)
	}
	for _, test := range []struct {
		method, path string
		status       int
	}{{"POST", "/", 405}, {"HEAD", statusPage, 200}, {"DELETE", statusPage, 405}, {"GET", statusPage + "/", 404}, {"GET", "/index.html", 404}} {
		if resp, _ := p.page(test.method, test.path); resp.StatusCode != test.status {
			t.Errorf("%s %s = %d, want %d", test.method, test.path, resp.StatusCode, test.status)
		}
	}
}

// Whatever a name or a text holds, it is text.
func TestStatusPageEscapes(t *testing.T) {
	const evil = `</title><script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	r := &statusReport{State: "failing", Summary: evil, Attention: []string{evil},
		Process:       processStatus{Version: evil},
		Configuration: configurationStatus{Error: evil},
		Accounts:      []accountStatus{{Name: evil, Endpoint: evil, State: evil, LastError: &accountError{RequestID: evil, Code: evil, Reason: evil, Cause: evil}}},
		Users:         []userStatus{{Name: evil, Role: evil, KeyID: evil, Refusals: []reasonStatus{{evil, 1}}}},
		Errors:        []errorStatus{{RequestID: evil, User: evil, Account: evil, Bucket: evil, Operation: evil, Code: evil, Reason: evil, Cause: evil}},
	}
	var b bytes.Buffer
	if err := statusTemplate.Execute(&b, &statusView{r, template.CSS(statusCSS), template.JS(statusJS)}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if strings.Count(text, "<script>") != 1 || strings.Contains(text, "<img") || strings.Contains(text, evil) {
		t.Errorf("the page holds what it should have escaped:\n%s", text)
	}
	if n := strings.Count(text, "&lt;script&gt;"); n < 15 {
		t.Errorf("%d texts are on the page, want all", n)
	}
}

// Reports are made a few at a time, and nobody who has left is waited for.
func TestStatusReportsAreBounded(t *testing.T) {
	s, _, _ := testService(t, testConfig("http://localhost:1"))
	defer s.current.Load().retire(nil)
	pages := newStatusPages(s, new(atomic.Bool))
	for range maxReports {
		pages.turns <- struct{}{}
	}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	w := httptest.NewRecorder()
	pages.answerJSON(w, httptest.NewRequestWithContext(ctx, "GET", "/-/status", nil))
	if w.Body.Len() != 0 {
		t.Errorf("a report is made though %d are being made: %s", maxReports, w.Body)
	}
	<-pages.turns
	w = httptest.NewRecorder()
	pages.answerJSON(w, httptest.NewRequest("GET", "/-/status", nil))
	if w.Code != http.StatusOK || w.Body.Len() == 0 || len(pages.turns) != maxReports-1 {
		t.Errorf("with a place: %d %s, %d places taken", w.Code, w.Body, len(pages.turns))
	}
}

func TestStatusNumbersInWords(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := &statusView{statusReport: &statusReport{Time: now}}
	for _, test := range []struct{ got, want string }{
		{v.Count(0), "0"}, {v.Count(999), "999"}, {v.Count(1234567), "1 234 567"},
		{v.Bytes(0), "0 B"}, {v.Bytes(1023), "1023 B"}, {v.Bytes(1024), "1.0 KiB"}, {v.Bytes(1010 << 10), "1.0 MiB"}, {v.Bytes(20 << 30), "20 GiB"},
		{v.Rate(0), "0"}, {v.Rate(0.01), "<0.1"}, {v.Rate(9.94), "9.9"}, {v.Rate(1234.4), "1 234"},
		{v.Took(0), "–"}, {v.Took(0.5), "0.5 ms"}, {v.Took(123.4), "123 ms"}, {v.Took(1500), "1.5 s"},
		{v.Span(60), "60 s"}, {v.Span(90), "90 s"}, {v.Span(900), "15 min"}, {v.Span(7200), "2 h"}, {v.Span(86400), "1 d"},
		{v.Ago(now), "now"}, {v.Ago(now.Add(time.Second)), "now"}, {v.Ago(now.Add(-61 * time.Second)), "1 min ago"}, {v.Ago(now.Add(-25 * time.Hour)), "1 d 1 h ago"},
		{v.Until(now.Add(90 * time.Minute)), "in 1 h 30 min"}, {v.Until(now.Add(-9 * 24 * time.Hour)), "expired 9 d ago"},
		{v.Unlisted(3, 3, "x"), ""}, {v.Unlisted(100, 20000, "that were seen last"), "the 100 that were seen last, of 20 000"},
	} {
		if got := strings.ReplaceAll(test.got, "\u202f", " "); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestStatusChartIsAnOutline(t *testing.T) {
	values := make([]float64, slotCount)
	if got := area(values, 0); got != "" {
		t.Errorf("nothing is drawn as %q", got)
	}
	values[0], values[88], values[89] = 1, 4, 2
	if got, want := area(values, 4), "M0 28H0V21H2V28H176V0H178V14H180V28Z"; got != want {
		t.Errorf("area = %s, want %s", got, want)
	}
}
