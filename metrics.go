package main

// What the gateway counts, in the text format of Prometheus, version 0.0.4.
// https://prometheus.io/docs/instrumenting/exposition_formats/
//
// A request costs three lookups in maps that readers don't lock, seven atomic additions, and
// no memory once its series exist; one that fails, a lookup and an addition more. Labels are the
// names of users, buckets and accounts in the configuration, of operations in the table, and
// of reasons; anything else that a stranger sends is "other". It knows nothing of requests.

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxSeries bounds the label sets of one vec, at about 200 bytes each. It has room for
	// 20,000 users with a few buckets each; then users, buckets and accounts become "other".
	maxSeries = 1 << 18
	// maxScrapes bounds the scrapes at one time: each sorts what it writes.
	maxScrapes    = 4
	scrapeTimeout = 30 * time.Second // for the scraper to take the answer
	otherLabel    = "other"          // the label of an unknown name
)

// metrics are what one process has counted since it started. They live on when
// the configuration is loaded again. All methods may be called by several
// goroutines at once, but setFunc and setAccountFunc.
type metrics struct {
	inFlight atomic.Int64 // requests in flight

	requests  vec[atomic.Int64] // by user, bucket, account, operation, code
	traffic   vec[traffic]      // by user, bucket
	latencies vec[latency]      // by account, operation
	overLimit vec[atomic.Int64] // by user
	refusals  vec[atomic.Int64] // by account, reason
	troubles  vec[atomic.Int64] // by account, reason: Unix seconds of the last one
	accounts  vec[accountMetrics]
	families  []family // sorted by name
	scrapes   chan struct{}
}

// A sample is what one request adds. An empty name is unknown.
type sample struct {
	user, account, bucket, operation string

	code           int           // HTTP status, or statusClientGone
	reason         refusalReason // "": none
	duration       time.Duration // from the head of the request to the end of the answer
	firstByte      time.Duration // until the backend's first byte; 0: no backend was asked
	received, sent int64         // bytes of bodies, at the client's side

	requestID      string
	keyID          string // of the user's key; "": none
	errorCode      string // that the client got; "": no error
	cause          string // for the operator, in fixed words; "": none
	upstreamStatus int    // 0: no answer of a backend
	backend        outcome
}

type traffic struct{ received, sent atomic.Int64 } // bytes

type latency struct{ duration, firstByte histogram }

// accountMetrics count what happens at one account's backend.
type accountMetrics struct {
	opened  atomic.Int64 // connections dialed
	reused  atomic.Int64 // requests on a connection that was kept
	resumed atomic.Int64 // bodies that broke off and were continued, or asked for again
	retries [len(retryReasons)]atomic.Int64
}

// A retryReason says why a request was sent to a backend again.
type retryReason int

const (
	retryConnection retryReason = iota // the connection could not be made, or broke
	retryTimeout
	retryStale     // a kept connection that the backend had closed
	retryStatus429 // and in this order
	retryStatus500
	retryStatus502
	retryStatus503
	retryStatus504
)

var retryReasons = [...]string{"connection", "timeout", "stale_connection", "status_429", "status_500", "status_502", "status_503", "status_504"}

// retryReasonOf returns the reason for another attempt: after an answer, its status; after an
// error, if status is 0, the kind of error.
func retryReasonOf(status int, err error) retryReason {
	if i := slices.Index(retryReasons[:], "status_"+strconv.Itoa(status)); i >= 0 {
		return retryReason(i)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return retryTimeout
	}
	return retryConnection
}

func newMetrics() *metrics {
	m := &metrics{scrapes: make(chan struct{}, maxScrapes)}
	m.families = append(append(m.ownFamilies(), runtimeFamilies()...), processFamilies()...)
	slices.SortFunc(m.families, func(a, b family) int { return strings.Compare(a.name, b.name) })
	return m
}

// observe counts a request that has ended.
func (m *metrics) observe(s sample) {
	userName, bucketName, operationName := cmp.Or(s.user, otherLabel), cmp.Or(s.bucket, otherLabel), cmp.Or(s.operation, otherLabel)
	accountName := cmp.Or(s.account, otherLabel)
	m.requests.at(labels{userName, bucketName, accountName, operationName, statusTexts[max(0, min(s.code, len(statusTexts)-1))]}).Add(1)
	t := m.traffic.at(labels{userName, bucketName})
	t.received.Add(s.received)
	t.sent.Add(s.sent)
	l := m.latencies.at(labels{accountName, operationName})
	l.duration.observe(s.duration)
	if s.firstByte > 0 {
		l.firstByte.observe(s.firstByte)
	}
	if s.reason != "" {
		m.refusals.at(labels{accountName, string(s.reason)}).Add(1)
	}
}

// failed notes that an account can't serve its clients, and why.
func (m *metrics) failed(accountName string, why refusalReason, at time.Time) {
	m.troubles.at(labels{accountName, string(why)}).Store(at.Unix())
}

// refused counts a request over its user's limit.
func (m *metrics) refused(userName string) {
	m.overLimit.at(labels{cmp.Or(userName, otherLabel)}).Add(1)
}

// account returns the counters of an account, for its upstream to keep.
func (m *metrics) account(name string) *accountMetrics {
	return m.accounts.at(labels{cmp.Or(name, otherLabel)})
}

func (a *accountMetrics) retried(why retryReason) { a.retries[why].Add(1) }

// setFunc sets the function that returns the value of a family at each scrape. If it returns
// NaN, the family is left out. setFunc panics if the name is not in the table or has a
// function already. It must be called before the first scrape.
func (m *metrics) setFunc(name string, value func() float64) {
	m.setCollect(name, gaugeOf(value))
}

// setAccountFunc is setFunc for values by the account's name.
func (m *metrics) setAccountFunc(name string, values func() map[string]float64) {
	m.setCollect(name, func(e *exposition) {
		now := values()
		for _, accountName := range slices.Sorted(maps.Keys(now)) {
			e.sample(now[accountName], accountName)
		}
	})
}

func (m *metrics) setCollect(name string, collect func(*exposition)) {
	i := slices.IndexFunc(m.families, func(f family) bool { return f.name == name && f.collect == nil })
	if i < 0 {
		panic("metrics: no family waits for a value as " + name)
	}
	m.families[i].collect = collect
}

// statusTexts are the labels of status codes, made once. The first and the last are for
// numbers that are not status codes.
var statusTexts = func() (codes [601]string) {
	for i := range codes {
		codes[i] = otherLabel
		if i >= 100 && i <= 599 {
			codes[i] = strconv.Itoa(i)
		}
	}
	return codes
}()

// Counting.

// labels are the values of a family's labels, in its order; the rest is "".
type labels [5]string

// A vec holds a V for each label set that was seen.
type vec[V any] struct {
	series sync.Map // labels → *V
	count  atomic.Int64
}

// at returns the value for a label set, which it makes if there is none.
func (v *vec[V]) at(l labels) *V {
	if value, ok := v.series.Load(l); ok {
		return value.(*V)
	}
	if v.count.Load() >= maxSeries {
		// Names of the configuration, of which there may be any number, are among the first
		// three labels; the others are from short lists.
		for i := range 3 {
			if l[i] != "" {
				l[i] = otherLabel
			}
		}
	}
	value, loaded := v.series.LoadOrStore(l, new(V))
	if !loaded {
		v.count.Add(1)
	}
	return value.(*V)
}

// each calls f with all label sets, sorted.
func (v *vec[V]) each(f func(labels, *V)) {
	keys := make([]labels, 0, v.count.Load())
	v.series.Range(func(l, _ any) bool { keys = append(keys, l.(labels)); return true })
	slices.SortFunc(keys, func(a, b labels) int { return slices.Compare(a[:], b[:]) })
	for _, l := range keys {
		f(l, v.at(l))
	}
}

// bounds are the upper ends of the histograms' buckets: from a small object in the
// backend's memory to a part of gigabytes on a slow line.
var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

// A histogram counts durations.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Int64 // each without those before it
	sum     atomic.Int64                  // microseconds: nanoseconds would overflow within months
}

func (h *histogram) observe(d time.Duration) {
	i, _ := slices.BinarySearch(bounds[:], d) // a bound belongs to its bucket
	h.buckets[i].Add(1)
	h.sum.Add(d.Microseconds())
}

// Writing.

// A family is a metric: its name and what the samples are of. collect writes
// them; it is nil until setFunc.
type family struct {
	name, kind, help string
	labels           []string
	collect          func(*exposition)
}

// An exposition writes families. Errors are kept by the bufio.Writer.
type exposition struct {
	w      *bufio.Writer
	family family
	begun  bool // the family's head is written
}

// ServeHTTP implements http.Handler.
func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case m.scrapes <- struct{}{}:
		defer func() { <-m.scrapes }()
	default:
		http.Error(w, "too many scrapes at a time; try again later", http.StatusServiceUnavailable)
		return
	}
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Now().Add(scrapeTimeout))
	defer control.SetWriteDeadline(time.Time{}) // the connection may be used for a longer answer
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	codings := strings.ReplaceAll(r.Header.Get("Accept-Encoding"), " ", "")
	if !slices.Contains(strings.Split(codings, ","), "gzip") { // a coding with a weight gets the plain text, which is always right
		m.write(w)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	zipped := gzip.NewWriter(w)
	m.write(zipped)
	zipped.Close()
}

// write writes all families, sorted by name. It blocks no request: a request that ends
// meanwhile may be in one family and not yet in another.
func (m *metrics) write(w io.Writer) error {
	e := &exposition{w: bufio.NewWriterSize(w, 32<<10)}
	for _, f := range m.families {
		if f.collect != nil {
			e.family, e.begun = f, false
			f.collect(e)
		}
	}
	return e.w.Flush()
}

// sample writes one line, with the values of the family's labels.
func (e *exposition) sample(value float64, values ...string) {
	e.line("", value, values, "", "")
}

// line writes a line of a family. Its name may have a suffix, and it may have one more
// label.
func (e *exposition) line(suffix string, value float64, values []string, extra, extraValue string) {
	if math.IsNaN(value) {
		return
	}
	if !e.begun {
		e.begun = true
		e.print("# HELP ", e.family.name, " ", e.family.help, "\n# TYPE ", e.family.name, " ", e.family.kind, "\n")
	}
	e.print(e.family.name, suffix)
	separator := "{"
	for i, name := range e.family.labels {
		e.print(separator, name, `="`, labelEscapes.Replace(values[i]), `"`)
		separator = ","
	}
	if extra != "" {
		e.print(separator, extra, `="`, extraValue, `"`)
		separator = ","
	}
	if separator == "," {
		e.print("}")
	}
	e.print(" ")
	e.w.Write(strconv.AppendFloat(e.w.AvailableBuffer(), value, 'f', -1, 64))
	e.print("\n")
}

func (e *exposition) print(parts ...string) {
	for _, part := range parts {
		e.w.WriteString(part)
	}
}

// histogram writes the lines of a histogram. Buckets are cumulative here.
func (e *exposition) histogram(h *histogram, values ...string) {
	count := int64(0)
	for i := range h.buckets {
		count += h.buckets[i].Load()
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i].Seconds(), 'f', -1, 64)
		}
		e.line("_bucket", float64(count), values, "le", le)
	}
	e.line("_sum", float64(h.sum.Load())/1e6, values, "", "")
	e.line("_count", float64(count), values, "", "")
}

// labelEscapes are the escapes of the format. A name in the configuration may hold anything.
var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// The families.

const (
	counter = "counter"
	gauge   = "gauge"
)

// gaugeOf collects a family of a single sample, without labels.
func gaugeOf(value func() float64) func(*exposition) {
	return func(e *exposition) { e.sample(value()) }
}

// ownFamilies are what the gateway says of itself. A family without collect is counted
// elsewhere: see setFunc.
func (m *metrics) ownFamilies() []family {
	return slices.Concat(m.requestFamilies(), m.upstreamFamilies(), m.stateFamilies())
}

// requestFamilies are what clients asked for and got.
func (m *metrics) requestFamilies() []family {
	ownerLabels := []string{"user", "bucket"}
	return []family{
		{"s3proxy_ratelimit_refused_total", counter, "Requests refused because the user was over the limit.", []string{"user"}, func(e *exposition) {
			m.overLimit.each(func(l labels, n *atomic.Int64) { e.sample(float64(n.Load()), l[:]...) })
		}},
		{"s3proxy_received_bytes_total", counter, "Bytes of request bodies received from clients.", ownerLabels, func(e *exposition) {
			m.traffic.each(func(l labels, t *traffic) { e.sample(float64(t.received.Load()), l[:]...) })
		}},
		{"s3proxy_refusals_total", counter, "Requests that failed, by the reason in the log.", []string{"account", "reason"}, func(e *exposition) {
			m.refusals.each(func(l labels, n *atomic.Int64) { e.sample(float64(n.Load()), l[:]...) })
		}},
		{"s3proxy_request_duration_seconds", "histogram", "Time from the head of a request to the end of its answer.", []string{"account", "operation"}, func(e *exposition) {
			m.latencies.each(func(l labels, t *latency) { e.histogram(&t.duration, l[:]...) })
		}},
		{"s3proxy_requests_in_flight", gauge, "Requests that are being answered.", nil, gaugeOf(func() float64 { return float64(m.inFlight.Load()) })},
		{"s3proxy_requests_total", counter, "Requests answered, by status code; 499 is a client that left before.", []string{"user", "bucket", "account", "operation", "code"}, func(e *exposition) {
			m.requests.each(func(l labels, n *atomic.Int64) { e.sample(float64(n.Load()), l[:]...) })
		}},
		{"s3proxy_sent_bytes_total", counter, "Bytes of response bodies sent to clients.", ownerLabels, func(e *exposition) {
			m.traffic.each(func(l labels, t *traffic) { e.sample(float64(t.sent.Load()), l[:]...) })
		}},
	}
}

// upstreamFamilies are what backends were asked for, by account.
func (m *metrics) upstreamFamilies() []family {
	accountLabel := []string{"account"}
	return []family{
		{"s3proxy_credentials_expiry_timestamp_seconds", gauge, "When the credentials in use for the account expire.", accountLabel, nil},
		{"s3proxy_credentials_refresh_failures_total", counter, "Attempts to fetch credentials for the account that failed.", accountLabel, nil},
		{"s3proxy_upstream_circuit_open", gauge, "1 while requests for the account are refused because its backend does not answer.", accountLabel, nil},
		{"s3proxy_upstream_connections_opened_total", counter, "Connections to the backend that were opened.", accountLabel, func(e *exposition) {
			m.accounts.each(func(l labels, a *accountMetrics) { e.sample(float64(a.opened.Load()), l[:]...) })
		}},
		{"s3proxy_upstream_connections_reused_total", counter, "Requests sent on a connection to the backend that was kept.", accountLabel, func(e *exposition) {
			m.accounts.each(func(l labels, a *accountMetrics) { e.sample(float64(a.reused.Load()), l[:]...) })
		}},
		{"s3proxy_upstream_first_byte_seconds", "histogram", "Time from asking the backend to the first byte of its answer.", []string{"account", "operation"}, func(e *exposition) {
			m.latencies.each(func(l labels, t *latency) { e.histogram(&t.firstByte, l[:]...) })
		}},
		{"s3proxy_upstream_last_error_timestamp_seconds", gauge, "When a request to the account last failed for this reason.", []string{"account", "reason"}, func(e *exposition) {
			m.troubles.each(func(l labels, at *atomic.Int64) { e.sample(float64(at.Load()), l[:]...) })
		}},
		{"s3proxy_upstream_resumed_total", counter, "Bodies that the backend broke off and that were continued, or asked for again.", accountLabel, func(e *exposition) {
			m.accounts.each(func(l labels, a *accountMetrics) { e.sample(float64(a.resumed.Load()), l[:]...) })
		}},
		{"s3proxy_upstream_retries_total", counter, "Requests sent to the backend again, by what went wrong.", []string{"account", "reason"}, func(e *exposition) {
			m.accounts.each(func(l labels, a *accountMetrics) {
				for i, reason := range retryReasons {
					e.sample(float64(a.retries[i].Load()), l[0], reason)
				}
			})
		}},
		{"s3proxy_upstream_up", gauge, "1 if the backend did what it was asked at the last request, 0 if it failed.", accountLabel, nil},
	}
}

// stateFamilies are the state of the process and of what it was configured with.
func (m *metrics) stateFamilies() []family {
	return []family{
		{"s3proxy_build_info", gauge, "1, with what the gateway was built from.", []string{"version", "revision", "goversion"}, buildInfo},
		{"s3proxy_certificate_expiry_timestamp_seconds", gauge, "When the certificate that clients see expires.", nil, nil},
		{"s3proxy_client_connections", gauge, "Connections from clients that are open.", nil, nil},
		{"s3proxy_config_last_reload_success_timestamp_seconds", gauge, "When a configuration was last applied.", nil, nil},
		{"s3proxy_config_last_reload_successful", gauge, "1 if the last reload was applied, 0 if it failed.", nil, nil},
		{"s3proxy_log_dropped_lines_total", counter, "Log lines dropped because the log was too slow or gone.", nil, nil},
		{"s3proxy_ratelimit_store_busy_total", counter, "Requests refused because the shared limiter store had no time to decide on them.", nil, nil},
		{"s3proxy_ratelimit_store_up", gauge, "1 if the shared limiter store is in use, 0 if this process limits by itself.", nil, nil},
	}
}

func buildInfo(e *exposition) {
	version, revision := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	e.sample(1, cmp.Or(version, "unknown"), cmp.Or(revision, "unknown"), runtime.Version())
}
