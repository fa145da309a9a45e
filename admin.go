package main

// The operator's pages: status, health, readiness, metrics, profiles, reload. They ask for no key, so
// they are off unless configured, and belong on an address that only operators reach. No
// page has a secret.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// deepTimeout bounds /-/ready?deep=1, which waits for backends.
const deepTimeout = 5 * time.Second

// newAdmin returns the pages of the operator's listener. reload is what SIGHUP does.
func newAdmin(s *service, draining *atomic.Bool, reload func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+healthyPage, func(w http.ResponseWriter, r *http.Request) {
		answerText(w, http.StatusOK, "healthy")
	})
	deep := notForOtherSites(oneAtATime(func(w http.ResponseWriter, r *http.Request) { s.current.Load().answerDeep(w, r) }))
	mux.HandleFunc("GET "+readyPage, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("deep") != "" && !draining.Load() {
			deep(w, r)
			return
		}
		answerReady(w, draining)
	})
	mux.HandleFunc("POST /-/reload", func(w http.ResponseWriter, r *http.Request) { answerReload(w, r, s, reload) })
	status := newStatusPages(s, draining)
	mux.HandleFunc("GET /{$}", status.answerPage)
	mux.HandleFunc("GET "+statusPage, status.answerJSON)
	mux.Handle("GET /metrics", s.metrics)
	mux.HandleFunc("GET /debug/pprof/", notForOtherSites(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", notForOtherSites(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", notForOtherSites(pprof.Trace))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conf := s.current.Load().config
		harden(w.Header(), conf.hsts)
		w.Header()["Cache-Control"] = []string{"no-store"}
		ignoreBody(w, r)
		if !conf.mayNameAdmin(r.Host) {
			answerText(w, http.StatusMisdirectedRequest, "the Host header names another host; add its name to server.admin.allowed_hosts, or ask by address")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// notForOtherSites is for pages that cost something, and answer nothing to a page of another site,
// which a browser lets ask anything that is an image or a link.
func notForOtherSites(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case site == "none", site == "same-origin", site == "" && r.Header.Get("Origin") == "":
			page(w, r)
		default:
			answerText(w, http.StatusForbidden, otherSites)
		}
	}
}

// otherSites is said to pages of other sites.
const otherSites = "not for pages of other sites"

// oneAtATime lets requests wait while one is answered.
func oneAtATime(page http.HandlerFunc) http.HandlerFunc {
	turn := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			page(w, r)
		case <-r.Context().Done():
		}
	}
}

// answerReload reloads and says what came of it. It refuses pages of other sites: a
// browser lets them send a POST anywhere, and says in these headers that it did.
func answerReload(w http.ResponseWriter, r *http.Request, s *service, reload func() error) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" || r.Header.Get("Origin") != "" {
		answerText(w, http.StatusForbidden, otherSites)
		return
	}
	if err := reload(); err != nil {
		answerText(w, http.StatusInternalServerError, err.Error())
		return
	}
	text := "applied"
	if settings := s.awaitsRestart(); len(settings) > 0 {
		text += "\n" + restartOnly + ": " + strings.Join(settings, ", ")
	}
	answerText(w, http.StatusOK, text)
}

// mayNameAdmin reports whether the admin pages accept a Host header. A page in an operator's
// browser can make the name of its own host resolve to this listener, and then read its
// answers (DNS rebinding). It can't do so with an address, or with a name of another owner.
// HTTP/1.0 may leave the header out; browsers do not.
func (conf *config) mayNameAdmin(hostPort string) bool {
	u := url.URL{Host: hostPort}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	_, err := netip.ParseAddr(host)
	own, _, _ := net.SplitHostPort(conf.admin)
	return hostPort == "" || err == nil || host == "localhost" || conf.adminHosts[host] || strings.EqualFold(host, own)
}

func answerText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(strings.TrimSpace(text) + "\n"))
}

// answerDeep asks each account for its first bucket, all at once. It answers 200 if every
// account is ok, else 503, with the state of each.
func (g *gateway) answerDeep(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), deepTimeout)
	defer cancel()
	var mu sync.Mutex // guards status and answers
	status, answers := http.StatusOK, map[string]string{}
	var asked sync.WaitGroup
	for name, u := range g.accounts {
		asked.Go(func() {
			text := g.probe(ctx, u)
			mu.Lock()
			defer mu.Unlock()
			if answers[name] = text; text != "ok" {
				status = http.StatusServiceUnavailable
			}
		})
	}
	asked.Wait()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"ready": status == http.StatusOK, "accounts": answers})
}

// probe returns "ok" if an account's backend accepts the credentials for one of its buckets,
// or else what it answered.
func (g *gateway) probe(ctx context.Context, u *upstream) string {
	var first *bucket
	for _, name := range g.names {
		if b := g.buckets[name]; b.upstream == u {
			first = b
			break
		}
	}
	resp, err := u.roundTrip(ctx, &outgoing{method: http.MethodHead, target: first.target(""), header: http.Header{}, payloadHash: emptyPayload, patience: deepTimeout})
	switch {
	case err != nil && ctx.Err() != nil, errors.Is(err, errNoProgress):
		return "no answer in time"
	case err != nil:
		g.log.Warn("an account is not ready", "account", u.account.name, causeAttr(err))
		return "no answer; the log has the details"
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Sprintf("status %d", resp.StatusCode)
	}
	return "ok"
}
