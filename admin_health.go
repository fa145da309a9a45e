package main

// Health and readiness on the front listener, without a key, for load balancers that know no
// other address. No bucket begins with "-", so the two pages hide none. With server.domain a
// host can name a bucket, whose objects may have any key; such a host has no pages.

import (
	"net/http"
	"sync/atomic"
	"time"
)

// The pages, on the main listener and on the operator's.
const (
	healthyPage = "/-/healthy"
	readyPage   = "/-/ready"
)

// A healthFront answers the health pages and passes on everything else. The pages are neither
// logged nor counted, and tell nothing of the configuration.
type healthFront struct {
	service  *service
	draining *atomic.Bool
}

// isHealthPage reports whether a request on the front listener is for one of the pages. The domain
// is server.domain.
func isHealthPage(r *http.Request, domain string) bool {
	page := r.URL.Path
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	return (page == healthyPage || page == readyPage) && reads && r.URL.RawPath == "" && hostedBucket(r.Host, domain) == ""
}

// ServeHTTP implements http.Handler.
func (f healthFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conf := f.service.current.Load().config
	if !isHealthPage(r, conf.domain) {
		f.service.ServeHTTP(w, r)
		return
	}
	harden(w.Header(), conf.hsts)
	w.Header()["Cache-Control"] = []string{"no-store"}
	if r.ProtoMajor > 1 { // in HTTP/1.1 the watchedConn cuts off a client that takes nothing
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(conf.idleTimeout))
	}
	ignoreBody(w, r)
	if r.URL.Path == healthyPage {
		answerText(w, http.StatusOK, "healthy")
	} else {
		answerReady(w, f.draining)
	}
}

// ignoreBody closes an HTTP/1.1 connection after the answer if the request has a body, which
// no page reads. Otherwise net/http would wait for the end of the body without a limit.
func ignoreBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && r.ProtoMajor == 1 {
		w.Header()["Connection"] = []string{"close"}
		http.NewResponseController(w).SetReadDeadline(time.Now())
	}
}

// answerReady answers 200, or 503 while the process drains.
func answerReady(w http.ResponseWriter, draining *atomic.Bool) {
	if draining.Load() {
		answerText(w, http.StatusServiceUnavailable, "draining")
		return
	}
	answerText(w, http.StatusOK, "ready")
}
