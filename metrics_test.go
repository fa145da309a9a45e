package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// filledMetrics has a sample in every family.
func filledMetrics() *metrics {
	m := newMetrics()
	for _, f := range m.families {
		switch {
		case f.collect != nil:
		case slices.Equal(f.labels, []string{"account"}):
			m.setAccountFunc(f.name, func() map[string]float64 { return map[string]float64{"minio": 1, "aws": 2} })
		default:
			m.setFunc(f.name, func() float64 { return 1 })
		}
	}
	m.account("minio").opened.Add(1)
	m.refused("bob")
	m.observe(sample{user: "alice", account: "minio", bucket: "photos", operation: "GetObject", code: 200,
		duration: 30 * time.Millisecond, firstByte: 3 * time.Millisecond, received: 0, sent: 1000})
	m.observe(sample{code: 401, reason: reasonUnknownKey, duration: time.Microsecond, sent: 90})
	m.failed("aws", reasonBackendTLS, time.Unix(1_600_000_000, 0))
	return m
}

// A parsedFamily is what an exposition says of one.
type parsedFamily struct {
	kind    string
	samples map[string]float64 // by name and labels, as written
	order   []string           // of the samples
}

var (
	headLine   = regexp.MustCompile(`^# HELP ([a-z][a-z0-9_]*) ([^\\\n]+)\n# TYPE ([a-z0-9_]+) (counter|gauge|histogram|summary)\n`)
	sampleLine = regexp.MustCompile(`^([a-z][a-z0-9_]*)(\{[a-z]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z]+="(?:[^"\\\n]|\\[\\"n])*")*\})? ([^ \n]+)\n`)
)

// parseExposition reads the text format, more strictly than Prometheus does:
// every family has a head and samples, in the order of names, no sample comes twice,
// and nothing else is there.
func parseExposition(t *testing.T, text string) map[string]parsedFamily {
	t.Helper()
	families := map[string]parsedFamily{}
	last := ""
	for text != "" {
		head := headLine.FindStringSubmatch(text)
		if head == nil || head[1] != head[3] {
			t.Fatalf("no head of a family at %q", shortened(text, 200))
		}
		name, f := head[1], parsedFamily{kind: head[4], samples: map[string]float64{}}
		if name <= last {
			t.Errorf("%s comes after %s", name, last)
		}
		last = name
		if (f.kind == "counter") != strings.HasSuffix(name, "_total") {
			t.Errorf("the %s is named %s", f.kind, name)
		}
		for text = text[len(head[0]):]; !strings.HasPrefix(text, "#") && text != ""; {
			line := sampleLine.FindStringSubmatch(text)
			if line == nil {
				t.Fatalf("no sample at %q", shortened(text, 200))
			}
			suffix, ok := strings.CutPrefix(line[1], name)
			allowed := map[string][]string{"counter": {""}, "gauge": {""}, "summary": {"", "_sum", "_count"}, "histogram": {"_bucket", "_sum", "_count"}}
			if !ok || !slices.Contains(allowed[f.kind], suffix) {
				t.Errorf("the %s %s has a sample %s", f.kind, name, line[1])
			}
			value, err := strconv.ParseFloat(line[3], 64)
			if err != nil {
				t.Errorf("%s: %v", line[0], err)
			}
			if _, twice := f.samples[line[1]+line[2]]; twice {
				t.Errorf("%s comes twice", line[1]+line[2])
			}
			f.samples[line[1]+line[2]] = value
			f.order = append(f.order, line[1]+line[2])
			text = text[len(line[0]):]
		}
		if len(f.samples) == 0 {
			t.Errorf("%s has no sample", name)
		}
		families[name] = f
	}
	return families
}

func scraped(t *testing.T, m *metrics) (string, map[string]parsedFamily) {
	t.Helper()
	var text strings.Builder
	if err := m.write(&text); err != nil {
		t.Fatal(err)
	}
	return text.String(), parseExposition(t, text.String())
}

// wantSamples compares some samples of an exposition.
func wantSamples(t *testing.T, m *metrics, want map[string]float64) {
	t.Helper()
	_, families := scraped(t, m)
	for sample, value := range want {
		name, _, _ := strings.Cut(sample, "{")
		f, ok := families[name]
		if !ok {
			f = families[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")]
		}
		if got, ok := f.samples[sample]; !ok || got != value {
			t.Errorf("%s = %v (there: %t), want %v", sample, got, ok, value)
		}
	}
}

// Every family of the table is written; a misspelt name of runtime/metrics or a
// line of /proc that is not found would leave one out.
func TestMetricsFamilies(t *testing.T) {
	m := filledMetrics()
	_, written := scraped(t, m)
	for _, f := range m.families {
		if runtime.GOOS != "linux" && strings.HasPrefix(f.name, "process_") {
			continue
		}
		if written[f.name].kind != f.kind {
			t.Errorf("%s is written as %q, want %s", f.name, written[f.name].kind, f.kind)
		}
	}
	if len(written) > len(m.families) {
		t.Errorf("%d families are written, of %d", len(written), len(m.families))
	}
}

func TestMetricsObserve(t *testing.T) {
	m := filledMetrics()
	for _, code := range []int{99, -1, 0, 600, math.MaxInt} {
		m.observe(sample{user: "eve", operation: "PutObject", code: code, received: 7})
	}
	m.observe(sample{user: "eve", operation: "PutObject", code: statusClientGone})
	m.observe(sample{user: "other", bucket: "other", operation: "other", code: 401}) // these names may be configured
	m.inFlight.Add(3)
	minio := m.account("minio")
	minio.reused.Add(4)
	minio.retried(retryStatus503)
	wantSamples(t, m, map[string]float64{
		`s3proxy_requests_total{user="alice",bucket="photos",account="minio",operation="GetObject",code="200"}`: 1,
		`s3proxy_requests_total{user="other",bucket="other",account="other",operation="other",code="401"}`:      2,
		`s3proxy_requests_total{user="eve",bucket="other",account="other",operation="PutObject",code="other"}`:  5,
		`s3proxy_requests_total{user="eve",bucket="other",account="other",operation="PutObject",code="499"}`:    1,
		`s3proxy_received_bytes_total{user="eve",bucket="other"}`:                                               35,
		`s3proxy_sent_bytes_total{user="alice",bucket="photos"}`:                                                1000,
		`s3proxy_sent_bytes_total{user="other",bucket="other"}`:                                                 90,
		`s3proxy_request_duration_seconds_sum{account="minio",operation="GetObject"}`:                           0.03,
		`s3proxy_request_duration_seconds_count{account="other",operation="other"}`:                             2,
		`s3proxy_upstream_first_byte_seconds_count{account="minio",operation="GetObject"}`:                      1,
		`s3proxy_upstream_first_byte_seconds_count{account="other",operation="other"}`:                          0,
		`s3proxy_requests_in_flight`:                                          3,
		`s3proxy_ratelimit_refused_total{user="bob"}`:                         1,
		`s3proxy_upstream_connections_opened_total{account="minio"}`:          1,
		`s3proxy_upstream_connections_reused_total{account="minio"}`:          4,
		`s3proxy_upstream_retries_total{account="minio",reason="status_503"}`: 1,
		`s3proxy_upstream_retries_total{account="minio",reason="connection"}`: 0,
		`s3proxy_credentials_expiry_timestamp_seconds{account="aws"}`:         2,
		`s3proxy_refusals_total{account="other",reason="unknown_key"}`:        1,
		`s3proxy_upstream_up{account="minio"}`:                                1,

		`s3proxy_upstream_last_error_timestamp_seconds{account="aws",reason="backend_tls"}`: 1_600_000_000,
	})
}

// The names are those of the format's own page, written as it writes them.
func TestMetricsEscaping(t *testing.T) {
	m := newMetrics()
	m.observe(sample{user: `C:\DIR\FILE.TXT`, bucket: "Cannot find file:\n\"FILE.TXT\"", sent: 3})
	text, _ := scraped(t, m)
	if want := `{user="C:\\DIR\\FILE.TXT",bucket="Cannot find file:\n\"FILE.TXT\""} 3` + "\n"; !strings.Contains(text, want) {
		t.Errorf("no %s in:\n%s", want, text)
	}
}

// A bucket has what is less than or equal to its bound.
func TestMetricsHistogram(t *testing.T) {
	m := newMetrics()
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Second, 60 * time.Second, time.Hour} {
		m.observe(sample{account: "minio", operation: "GetObject", duration: d})
	}
	_, families := scraped(t, m)
	f := families["s3proxy_request_duration_seconds"]
	previous := 0.0
	for _, bucket := range []struct {
		le    string
		count float64
	}{{"0.001", 2}, {"0.0025", 3}, {"0.005", 3}, {"0.5", 3}, {"1", 4}, {"30", 4}, {"60", 5}, {"300", 5}, {"+Inf", 6}} {
		got := f.samples[`s3proxy_request_duration_seconds_bucket{account="minio",operation="GetObject",le="`+bucket.le+`"}`]
		if got != bucket.count || got < previous {
			t.Errorf("le=%s: %v, want %v", bucket.le, got, bucket.count)
		}
		previous = got
	}
	if got := f.samples[`s3proxy_request_duration_seconds_count{account="minio",operation="GetObject"}`]; got != 6 {
		t.Errorf("count = %v, want 6", got)
	}
	if got := f.samples[`s3proxy_request_duration_seconds_sum{account="minio",operation="GetObject"}`]; got != 3661.002 {
		t.Errorf("sum = %v, want 3661.002", got)
	}
	if !slices.IsSorted(bounds[:]) {
		t.Error("the bounds are not sorted")
	}
}

func TestMetricsSetFunc(t *testing.T) {
	m := newMetrics()
	up := math.NaN()
	m.setFunc("s3proxy_ratelimit_store_up", func() float64 { return up })
	if text, _ := scraped(t, m); strings.Contains(text, "s3proxy_ratelimit_store_up") {
		t.Error("a family without a value is written")
	}
	up = 1
	m.setAccountFunc("s3proxy_credentials_refresh_failures_total", func() map[string]float64 {
		return map[string]float64{"z": 1, "a": 2, "m": 3}
	})
	text, _ := scraped(t, m)
	for _, want := range []string{"\ns3proxy_ratelimit_store_up 1\n", `_total{account="a"} 2
s3proxy_credentials_refresh_failures_total{account="m"} 3
s3proxy_credentials_refresh_failures_total{account="z"} 1
`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the text", want)
		}
	}
	for _, name := range []string{"s3proxy_no_such_name", "s3proxy_requests_total", "s3proxy_ratelimit_store_up"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("setFunc(%q) does not panic", name)
				}
			}()
			m.setFunc(name, func() float64 { return 0 })
		}()
	}
}

// Nothing is lost or counted twice, with scrapes in between, and every
// scrape is well-formed.
func TestMetricsConcurrent(t *testing.T) {
	m := newMetrics()
	const workers, rounds = 8, 2000
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for i := range rounds {
				m.observe(sample{user: "user" + strconv.Itoa(i%10), account: "minio", bucket: "photos", operation: "PutObject",
					code: 200, duration: time.Millisecond, firstByte: time.Millisecond, received: 3, sent: 2})
				m.account("minio").retried(retryTimeout)
			}
		})
	}
	for range 5 {
		scraped(t, m)
	}
	wait.Wait()
	want := map[string]float64{
		`s3proxy_request_duration_seconds_bucket{account="minio",operation="PutObject",le="0.001"}`: workers * rounds,
		`s3proxy_request_duration_seconds_sum{account="minio",operation="PutObject"}`:               workers * rounds / 1000,
		`s3proxy_upstream_first_byte_seconds_count{account="minio",operation="PutObject"}`:          workers * rounds,
		`s3proxy_upstream_retries_total{account="minio",reason="timeout"}`:                          workers * rounds,
	}
	for i := range 10 {
		owner := fmt.Sprintf(`{user="user%d",bucket="photos"`, i)
		want["s3proxy_requests_total"+owner+`,account="minio",operation="PutObject",code="200"}`] = workers * rounds / 10
		want["s3proxy_received_bytes_total"+owner+"}"] = 3 * workers * rounds / 10
		want["s3proxy_sent_bytes_total"+owner+"}"] = 2 * workers * rounds / 10
	}
	wantSamples(t, m, want)
	_, families := scraped(t, m)
	if order := families["s3proxy_requests_total"].order; !slices.IsSorted(order) {
		t.Errorf("the samples are not sorted: %q", order)
	}
}

func TestMetricsAllocateNothing(t *testing.T) {
	m := newMetrics()
	s := sample{user: "alice", account: "minio", bucket: "photos", operation: "GetObject", code: 206, duration: time.Second, firstByte: time.Second}
	if n := testing.AllocsPerRun(100, func() { m.observe(s); m.refused("alice") }); n != 0 {
		t.Errorf("%v allocations for a request, want 0", n)
	}
}

// Names may change with each reload for years: there is an end to what is kept.
func TestMetricsSeriesBound(t *testing.T) {
	m := newMetrics()
	m.overLimit.count.Store(maxSeries - 5) // as if so many were there
	for i := range 15 {
		m.refused("user" + strconv.Itoa(i))
	}
	m.refused("user0")
	for user, want := range map[string]int64{"user0": 2, "user4": 1, otherLabel: 10} {
		if got := m.overLimit.at(labels{user}).Load(); got != want {
			t.Errorf("%s was refused %d times, want %d", user, got, want)
		}
	}
	if n := m.overLimit.count.Load(); n != maxSeries+1 {
		t.Errorf("%d series, want %d", n, maxSeries+1)
	}
	m.requests.count.Store(maxSeries)
	for i := range 100 {
		m.observe(sample{user: "alice", bucket: "photos", account: fmt.Sprint("account", i), operation: "GetObject", code: 503})
	}
	if n := m.requests.count.Load(); n != maxSeries+1 {
		t.Errorf("%d series of requests, want %d", n, maxSeries+1)
	}
	wantSamples(t, m, map[string]float64{
		`s3proxy_requests_total{user="other",bucket="other",account="other",operation="GetObject",code="503"}`: 100,
	})
}

// A scrape takes the memory to sort the names, and none for the text: with 20,000
// users of two buckets, 8 MB for 10 MB of text.
func TestMetricsScrapeMemory(t *testing.T) {
	if !alone(t) {
		return
	}
	m := newMetrics()
	const users = 4000
	for i := range users {
		m.observe(sample{user: "user" + strconv.Itoa(i), bucket: "photos", operation: "GetObject", code: 200})
	}
	var before, after runtime.MemStats
	var text countingWriter
	runtime.ReadMemStats(&before)
	m.write(&text)
	runtime.ReadMemStats(&after)
	sorted := 3 * users * unsafe.Sizeof(labels{}) // of three families, one after the other
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > uint64(sorted)+128<<10 {
		t.Errorf("%d bytes allocated for a text of %d", allocated, text)
	}
	if text < 3*users*60 {
		t.Errorf("the text has %d bytes", text)
	}
}

type countingWriter int

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}

func TestMetricsHandler(t *testing.T) {
	m := filledMetrics()
	for _, test := range []struct {
		accept string
		zipped bool
	}{{"", false}, {"gzip", true}, {"deflate, gzip", true}, {"gzip;q=0", false}, {"x-gzip", false}, {"identity", false}} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept-Encoding", test.accept)
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
			t.Errorf("Content-Type: %s", got)
		}
		var body io.Reader = w.Body
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != test.zipped {
			t.Errorf("Accept-Encoding %q: gzip is %t, want %t", test.accept, got, test.zipped)
		} else if got {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if families := parseExposition(t, string(text)); families["s3proxy_requests_total"].kind != "counter" {
			t.Errorf("Accept-Encoding %q: no requests", test.accept)
		}
	}
}

// Scrapers that don't read hold a few places, not memory without end.
func TestMetricsTooManyScrapes(t *testing.T) {
	m := newMetrics()
	for range maxScrapes {
		m.scrapes <- struct{}{}
	}
	scrape := func() int {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Code
	}
	if got := scrape(); got != 503 {
		t.Errorf("status %d with %d scrapes under way, want 503", got, maxScrapes)
	}
	<-m.scrapes
	for range 2 { // each gives its place back
		if got := scrape(); got != 200 {
			t.Errorf("status %d with a place left, want 200", got)
		}
	}
}

func TestRetryReasonOf(t *testing.T) {
	for _, test := range []struct {
		status int
		err    error
		want   retryReason
	}{
		{500, nil, retryStatus500},
		{502, nil, retryStatus502},
		{503, nil, retryStatus503},
		{504, nil, retryStatus504},
		{0, io.ErrUnexpectedEOF, retryConnection},
		{0, errors.New("connection refused"), retryConnection},
		{0, fmt.Errorf("dial: %w", context.DeadlineExceeded), retryTimeout},
		{0, fmt.Errorf("read: %w", os.ErrDeadlineExceeded), retryTimeout},
	} {
		if got := retryReasonOf(test.status, test.err); got != test.want {
			t.Errorf("retryReasonOf(%d, %v) = %s, want %s", test.status, test.err, retryReasons[got], retryReasons[test.want])
		}
	}
	if retryReasons[retryStatus504] != "status_504" {
		t.Error("the reasons and their names are not in one order")
	}
}

// The numbers of the process are held against what the test does to it.
func TestMetricsProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	if !alone(t) {
		return
	}
	process := func() map[string]float64 {
		values := map[string]float64{}
		_, families := scraped(t, newMetrics())
		for name, f := range families {
			if v, ok := f.samples[name]; ok {
				values[name] = v
			}
		}
		return values
	}
	debug.FreeOSMemory() // or the ballast could lie in what is resident
	before := process()
	const files = 100
	for range files {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	ballast := make([]byte, 64<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	after := process()
	runtime.KeepAlive(ballast)
	for start := time.Now(); after["process_cpu_seconds_total"] == before["process_cpu_seconds_total"]; after = process() {
		if time.Since(start) > 5*time.Second {
			t.Fatal("no CPU time is counted")
		}
	}
	if n := after["process_open_fds"] - before["process_open_fds"]; n < files/2 || n > files*3/2 {
		t.Errorf("%v files more are open, want %d", n, files)
	}
	if n := after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]; n < 32<<20 {
		t.Errorf("%v bytes more are resident, want 64 MiB", n)
	}
	if after["process_virtual_memory_bytes"] < after["process_resident_memory_bytes"] {
		t.Error("more memory is resident than is mapped")
	}
	if n := after["go_memstats_alloc_bytes_total"] - before["go_memstats_alloc_bytes_total"]; n < 64<<20 {
		t.Errorf("%v bytes allocated, want 64 MiB", n)
	}
	if n := before["process_cpu_seconds_total"]; n < 0 || n > 3600 {
		t.Errorf("%v s of CPU time", n)
	}
	if age := time.Since(time.UnixMilli(int64(1000 * before["process_start_time_seconds"]))); age < -2*time.Second || age > time.Hour {
		t.Errorf("the process was started %v ago", age)
	}
	if before["process_max_fds"] < before["process_open_fds"] {
		t.Errorf("%v files may be open, and %v are", before["process_max_fds"], before["process_open_fds"])
	}
}

var (
	metricName = regexp.MustCompile(`\b(?:s3proxy|go|process)_[a-z0-9_]+\b`)
	selector   = regexp.MustCompile(`\b((?:s3proxy|go|process)_[a-z0-9_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
)

// The dashboard and the rules ask for nothing that is not there: neither a
// metric nor a label of it.
func TestDeployedNamesExist(t *testing.T) {
	known := map[string][]string{}
	for _, f := range newMetrics().families {
		switch f.kind {
		case "histogram":
			known[f.name+"_bucket"] = append([]string{"le"}, f.labels...)
			known[f.name+"_sum"], known[f.name+"_count"] = f.labels, f.labels
		case "summary":
			known[f.name] = append([]string{"quantile"}, f.labels...)
			known[f.name+"_sum"], known[f.name+"_count"] = f.labels, f.labels
		default:
			known[f.name] = f.labels
		}
	}
	asked := map[string]bool{}
	for _, file := range []string{"deploy/grafana.json", "deploy/alerts.yml", "deploy/alerts_test.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte(`\"`), []byte(`"`)) // in JSON
		for _, name := range metricName.FindAllString(string(text), -1) {
			asked[name] = true
			if _, ok := known[name]; !ok {
				t.Errorf("%s names %s, which is no metric", file, name)
			}
		}
		for _, s := range selector.FindAllStringSubmatch(string(text), -1) {
			for _, label := range matcher.FindAllStringSubmatch(s[2], -1) {
				if l := label[1]; l != "job" && l != "instance" && !slices.Contains(known[s[1]], l) {
					t.Errorf("%s asks %s for a label %s, which it does not have", file, s[1], l)
				}
			}
		}
	}
	if len(asked) < 20 {
		t.Errorf("only %d metrics are named", len(asked))
	}
}

// The dashboard is one that Grafana can import: panels have their own ids and
// places, and take the data source from the variable.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID           string
		Title         string
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Type string }
		}
		Panels []struct {
			ID         int
			Type       string
			Title      string
			Datasource struct{ Type, UID string }
			GridPos    struct{ H, W, X, Y int }
			Targets    []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.Title == "" || dashboard.UID == "" || dashboard.SchemaVersion < 36 {
		t.Errorf("title %q, uid %q, schema %d", dashboard.Title, dashboard.UID, dashboard.SchemaVersion)
	}
	variables := map[string]string{}
	for _, v := range dashboard.Templating.List {
		variables["$"+v.Name] = v.Type
	}
	if variables["$datasource"] != "datasource" {
		t.Error("there is no variable for the data source")
	}
	used := regexp.MustCompile(`\$[a-z_]+`)
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%s: id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if there := cells[[2]int{x, y}]; there != "" || x >= 24 {
					t.Fatalf("%s: is where %q is, or beyond the edge", p.Title, there)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: data source %+v, %d targets", p.Title, p.Datasource, len(p.Targets))
		}
		for _, target := range p.Targets {
			for _, name := range used.FindAllString(target.Expr, -1) {
				if variables[name] == "" && name != "$__rate_interval" {
					t.Errorf("%s: no variable %s", p.Title, name)
				}
			}
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m := newMetrics()
	s := sample{user: "alice", account: "minio", bucket: "photos", operation: "GetObject", code: 200,
		duration: 3 * time.Millisecond, firstByte: time.Millisecond, sent: 1000}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.observe(s)
		}
	})
}
