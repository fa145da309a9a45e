package main

// Is the gateway alive, and may requests come? Load balancers ask that of the address
// where the requests go, without a key. No bucket can begin with "-", so the two pages
// are in nobody's way; with server.domain, where a host names the bucket, its objects
// may have any key, and the pages are not there.

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

// A healthFront answers the pages of health and passes everything else on. They are
// neither logged nor counted, and say nothing of the configuration.
type healthFront struct {
	service  *service
	draining *atomic.Bool
}

// ServeHTTP implements http.Handler.
func (f healthFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page := r.URL.Path
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if page != healthyPage && page != readyPage || !reads || r.URL.RawPath != "" {
		f.service.ServeHTTP(w, r)
		return
	}
	conf := f.service.current.Load().config
	if hostedBucket(r.Host, conf.domain) != "" {
		f.service.ServeHTTP(w, r)
		return
	}
	harden(w.Header(), conf.hsts)
	w.Header()["Cache-Control"] = []string{"no-store"}
	if r.ProtoMajor > 1 { // a client of HTTP/1.1 that takes nothing is cut off by its watchedConn
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(conf.idleTimeout))
	}
	ignoreBody(w, r)
	if page == healthyPage {
		answerText(w, http.StatusOK, "healthy")
	} else {
		answerReady(w, f.draining)
	}
}

// ignoreBody makes HTTP/1.1 close the connection after the answer if the request has a
// body, which none of the pages reads. net/http would first wait for the end of the body,
// for as long as the client likes.
func ignoreBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && r.ProtoMajor == 1 {
		w.Header()["Connection"] = []string{"close"}
		http.NewResponseController(w).SetReadDeadline(time.Now())
	}
}

// answerReady says whether requests may come: not once the process is about to end.
func answerReady(w http.ResponseWriter, draining *atomic.Bool) {
	if draining.Load() {
		answerText(w, http.StatusServiceUnavailable, "draining")
		return
	}
	answerText(w, http.StatusOK, "ready")
}
