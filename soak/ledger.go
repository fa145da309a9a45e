package main

// The ledger: what each request may do, what arrived, and each broken promise.

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A trace identifies one request of a client, all the way to a backend: it is the trace id of a
// traceparent header, which the gateway forwards. https://www.w3.org/TR/trace-context/
type trace uint64

const traceHeader = "Traceparent"

func (t trace) header() string {
	return fmt.Sprintf("00-5000000000000000%016x-%016x-01", uint64(t), uint64(t))
}

// traceOf returns the trace of a request, or 0.
func traceOf(h http.Header) trace {
	parts := strings.Split(h.Get(traceHeader), "-")
	if len(parts) != 4 || len(parts[2]) != 16 {
		return 0
	}
	id, err := hex.DecodeString(parts[2])
	if err != nil {
		return 0
	}
	return trace(binary.BigEndian.Uint64(id))
}

// A permission says what a request may do at a backend.
type permission struct {
	forbidden bool                // it may not arrive at all
	stores    func(*version) bool // whether this is what the client sent whole, and if so sets its content; nil: it may store nothing
	arrived   map[string]int      // writes that arrived, by method and target
	fault     string              // that was injected into it
}

// A ledger is what all parts of a run share. All methods may be called at once.
type ledger struct {
	begun   time.Time
	last    atomic.Uint64 // trace given out
	secrets secretSet

	mu         sync.Mutex // guards the rest
	open       map[trace]*permission
	violations []violation
	counts     map[string]int64 // of everything that the report says
	notes      []string         // lines of the report
	failed     chan struct{}    // closed at the first violation
}

// A violation is a promise that was broken.
type violation struct {
	at      time.Duration // since the start of the run
	promise string
	detail  string
}

func newLedger() *ledger {
	return &ledger{begun: time.Now(), open: map[trace]*permission{}, counts: map[string]int64{}, failed: make(chan struct{})}
}

// The promises, by what the report calls them.
const (
	promiseWhole     = "nothing is stored that no client sent whole"
	promiseDurable   = "an acknowledged write is stored, once and as it was sent"
	promiseClean     = "an answer that ends cleanly is right"
	promiseAllowed   = "nobody is served who may not be"
	promiseOnce      = "no write is sent twice"
	promiseNeighbour = "an account's trouble is not another's"
	promiseLimit     = "a limit holds"
	promiseSecret    = "no secret is in the log"
	promiseProcess   = "no race, no panic, no unexpected end"
	promiseProgress  = "a client that makes no progress is cut off"
	promiseReload    = "a bad configuration replaces no good one"
	promiseRecovery  = "all is well again when the faults end"
	promiseLeak      = "goroutines, descriptors and memory return to their start"
	promiseSigned    = "a backend gets nothing that is not signed for it"
)

// promises are listed in the report in this order.
var promises = []string{promiseWhole, promiseDurable, promiseClean, promiseAllowed, promiseOnce, promiseNeighbour,
	promiseLimit, promiseSecret, promiseProcess, promiseProgress, promiseReload, promiseRecovery, promiseLeak, promiseSigned}

// broken records that a promise was broken.
func (l *ledger) broken(promise, format string, arguments ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.violations) == 0 {
		close(l.failed)
	}
	l.violations = append(l.violations, violation{time.Since(l.begun), promise, fmt.Sprintf(format, arguments...)})
}

// count adds to a figure of the report.
func (l *ledger) count(name string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[name] += n
}

// permit opens a trace for a request that a client is about to send.
func (l *ledger) permit(p *permission) trace {
	t := trace(l.last.Add(1))
	p.arrived = map[string]int{}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[t] = p
	return t
}

// close ends a trace some time after its client has its answer, or has given up. Writes of a
// request whose client has left may still arrive.
func (l *ledger) close(t trace) {
	time.AfterFunc(lingering, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, t)
	})
}

// lingering is how long after its end a request may still arrive at a backend.
const lingering = 30 * time.Second

// arrived is called with each request that reaches a backend, or the fault proxy before it.
// It returns whether the request may be there.
func (l *ledger) arrived(method, target string, h http.Header) bool {
	t := traceOf(h)
	write := method != http.MethodGet && method != http.MethodHead
	l.mu.Lock()
	p := l.open[t]
	n := 0
	if p != nil && write {
		p.arrived[method+" "+target]++
		n = p.arrived[method+" "+target]
	}
	l.mu.Unlock()
	switch {
	case p == nil && write:
		l.broken(promiseWhole, "%s %s arrived, and no client sent it", method, target)
	case p != nil && p.forbidden:
		l.broken(promiseAllowed, "%s %s arrived, and may not", method, target)
	case n > 1:
		l.broken(promiseOnce, "%s %s arrived %d times", method, target, n)
	default:
		return true
	}
	return false
}

// injected notes a fault in a request.
func (l *ledger) injected(t trace, fault string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts["fault "+fault]++
	if p := l.open[t]; p != nil && p.fault == "" {
		p.fault = fault
	}
}

// ended counts how a request ended for its client: ok, refused or broken.
func (l *ledger) ended(t trace, operation, outcome string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts["operation "+operation+" "+outcome]++
	if p := l.open[t]; p != nil && p.fault != "" {
		l.counts["met "+p.fault+" "+outcome]++
	}
}

// mayStore reports whether the request with a trace may store a version.
func (l *ledger) mayStore(t trace, v *version) bool {
	l.mu.Lock()
	p := l.open[t]
	l.mu.Unlock()
	return p != nil && p.stores != nil && p.stores(v)
}

// A secretSet holds what may be in no log.
type secretSet struct {
	mu         sync.RWMutex
	texts      map[string]bool
	signatures map[string]bool // in hex, of clients and of the gateway
}

// add adds an API key, a backend's secret or a password.
func (s *secretSet) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.texts == nil {
		s.texts, s.signatures = map[string]bool{}, map[string]bool{}
	}
	s.texts[text] = true
}

func (s *secretSet) addSignature(sum string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signatures[sum] = true
}

// in returns a secret that a line holds, or "".
func (s *secretSet) in(line string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for text := range s.texts {
		if strings.Contains(line, text) {
			return text
		}
	}
	for run := range strings.FieldsFuncSeq(line, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		if len(run) == 64 && s.signatures[run] {
			return run
		}
	}
	return ""
}
