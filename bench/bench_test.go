//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{100, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
	}
	values := []float64{2, 1}
	if median(values); values[0] != 2 {
		t.Error("median has sorted what it was given")
	}
}

func TestQuantile(t *testing.T) {
	var hundred []time.Duration // 1 to 100 µs
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Microsecond)
	}
	for _, test := range []struct {
		sorted  []time.Duration
		q, want float64
	}{
		{nil, 0.5, 0},
		{hundred[:1], 0.99, 1},
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := quantile(test.sorted, test.q); got != test.want {
			t.Errorf("quantile(%d values, %v) = %v, want %v", len(test.sorted), test.q, got, test.want)
		}
	}
}

func TestParseCPU(t *testing.T) {
	// The fields of proc(5): pid (comm) state ppid … utime stime cutime cstime …
	const fields = " S 1 42 42 0 -1 4194560 900 17 3 5 120 34 7 8 20 0 5 0 1000 2000000 300"
	for _, name := range []string{"nginx", "a) b (c", ""} {
		got, err := parseCPU("42 (" + name + ")" + fields)
		if want := 1540 * time.Millisecond; got != want || err != nil {
			t.Errorf("parseCPU of (%s) = %v, %v, want %v", name, got, err, want)
		}
	}
	for _, stat := range []string{"", "42 (nginx)", "42 (nginx) S 1 2 3", "42 (nginx) S 1 42 42 0 -1 4194560 900 17 3 5 x 34 7"} {
		if got, err := parseCPU(stat); err == nil {
			t.Errorf("parseCPU(%q) = %v, want an error", stat, got)
		}
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Errorf("of this process: %v", err)
	}
}

func TestParsePeak(t *testing.T) {
	got, err := parsePeak("Name:\tnginx\nVmPeak:\t  9000 kB\nVmHWM:\t    2560 kB\nVmRSS:\t    1024 kB\n")
	if got != 2.5 || err != nil {
		t.Errorf("parsePeak = %v, %v, want 2.5", got, err)
	}
	for _, status := range []string{"", "Name:\tnginx\n", "Name:\tnginx\nVmHWM:\t\n"} {
		if got, err := parsePeak(status); err == nil {
			t.Errorf("parsePeak(%q) = %v, want an error", status, got)
		}
	}
	if got, err := peakRSS(os.Getpid()); got < 1 || err != nil {
		t.Errorf("of this process: %v MiB, %v", got, err)
	}
}

func TestSummarize(t *testing.T) {
	twice := []time.Duration{10 * time.Microsecond, 30 * time.Microsecond}
	turns := []turn{
		{cpu: 20 * time.Millisecond, elapsed: time.Second, latencies: twice, peakRSS: 10},
		{cpu: 40 * time.Millisecond, elapsed: time.Second, latencies: twice, peakRSS: 30},
		{cpu: 900 * time.Millisecond, elapsed: 2 * time.Second, latencies: twice, peakRSS: 20},
	}
	r := summarize(work{name: "GET 1 MiB", size: 1 << 20}, ours, turns)
	if r.CPU != 20000 || r.Unit != "µs/request" || r.PerSecond != 2 || r.MiBps != 2 || r.P50 != 10 || r.P99 != 30 || r.PeakRSS != 30 || r.Requests != 6 {
		t.Errorf("summarize = %+v", r)
	}
	r = summarize(work{name: "GET 256 MiB", size: 256 << 20, large: true}, ours, turns)
	if math.Abs(r.CPU-0.08) > 1e-12 || r.Unit != "s/GiB" { // 40 ms for half a GiB
		t.Errorf("summarize = %+v", r)
	}
}

func TestCheckTargets(t *testing.T) {
	results := []*result{
		{Work: get4KiB, Contender: ours, CPU: 60, P99: 900},
		{Work: get4KiB, Contender: bare, CPU: 100, P99: 800},
		{Work: get256MiB, Contender: ours, CPU: 0.5, PerSecond: 3},
		{Work: get256MiB, Contender: "nginx", CPU: 1, PerSecond: 2},
		{Work: oneConnection, Contender: ours, P50: 200},
		{Work: oneConnection, Contender: direct, P50: 90},
	}
	want := map[string]struct {
		is  float64
		met bool
	}{
		get4KiB + " CPU":             {0.6, true},
		get4KiB + " p99":             {1.125, false},
		get256MiB + " CPU":           {0.5, false},
		get256MiB + " throughput":    {1.5, true},
		oneConnection + " added p50": {110, true},
	}
	for _, v := range checkTargets(results) {
		name := v.Work + " " + v.What
		if w, ok := want[name]; !ok || math.Abs(v.Is-w.is) > 1e-12 || v.Met != w.met {
			t.Errorf("%s beside %s: %v, met %v; want %+v", name, v.Against, v.Is, v.Met, w)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("no verdict on %v", want)
	}
}

// Each target names a work that there is, and each work is one that has a name of
// its own.
func TestTargetsNameWorks(t *testing.T) {
	names := map[string]bool{}
	for _, w := range works {
		if names[w.name] {
			t.Errorf("two works are called %q", w.name)
		}
		names[w.name] = true
	}
	for _, target := range targets {
		if !names[target.work] {
			t.Errorf("the target for %q names no work", target.work)
		}
	}
}

func sample() *report {
	r := &report{Date: "2026-11-23", Machine: "Fast & <Furious>", Programs: "Go 1.26", Backend: "nginx"}
	for _, w := range []string{get4KiB, get256MiB} {
		for i, c := range []string{ours, bare, "nginx", direct} {
			r.Results = append(r.Results, &result{Work: w, Contender: c, Unit: "µs/request", CPU: float64(3-i) * 50, Turns: []float64{1}, PerSecond: 12345, P50: 9.87, P99: 65.4})
		}
	}
	r.Targets = checkTargets(r.Results)
	r.Memory = []*memoryRow{{Use: "idle", PeakRSS: 21, Want: 20}}
	r.Scale = []*scaleRow{{Connections: 1000, Users: 20000, CPU: 70}}
	r.Neighbours = []*neighbourRow{{Trouble: "hangs", State: "500 wait", Requests: 9000, CalmP99: 500, P99: 750, Noise: 0.9, CalmRSS: 20, PeakRSS: 45}, {CalmP99: 500, P99: 1100}}
	return r
}

func TestChart(t *testing.T) {
	drawing := chart(sample())
	bars := map[string]int{}
	var text strings.Builder
	for decoder := xml.NewDecoder(bytes.NewReader(drawing)); ; {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, drawing)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "rect" {
				bars[token.Attr[0].Value]++
			}
		case xml.CharData:
			text.Write(token)
		}
	}
	if bars["ours"] != 2 || bars["bar"] != 4 {
		t.Errorf("bars %v, want 2 of ours and 4 of others: nothing for the direct way", bars)
	}
	for _, want := range []string{"2026-11-23", "Fast & <Furious>", "CPU", "µs/request", get256MiB, "prefers-color-scheme: dark"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in the chart", want)
		}
	}
}

func TestTables(t *testing.T) {
	r := sample()
	for _, table := range r.tables() {
		for _, row := range table.rows {
			if len(row) != len(table.head) {
				t.Errorf("%s: %d cells under a head of %d: %q", table.title, len(row), len(table.head), row)
			}
		}
	}
	var text, markdown strings.Builder
	if err := r.writeText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.writeMarkdown(&markdown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| work | unit | s3-proxy | ReverseProxy | nginx |\n| --- | --- | --- | --- | --- |\n| GET 4 KiB | µs/request | 150 | 100 | 50.0 |\n",
		"| GET 4 KiB | ReverseProxy | 100 | µs/request | 1.50 | 12,345 |",
		"| GET 4 KiB | CPU | ReverseProxy | ≤ 1.1 × | 1.5 × | not met |\n",
		"| idle | 21.0 | < 20 | not met |",
		"| 1,000 | 20,000 | 70.0 | – |",
		"| hangs | 500 wait | 9,000 | 0.00 | 0.00 | 500 | 750 | 1.50 × | ≤ 2 × | met | 0.90 × |\n",
		"| 500 | 1,100 | 2.20 × | ≤ 2 × | not met |",
		"| hangs | 0.00 | 0.00 | 45.0 | 20.0 | 51.2 |\n",
	} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("no %q in\n%s", want, markdown.String())
		}
	}
	if !strings.Contains(text.String(), "not met") {
		t.Errorf("no verdict in\n%s", text.String())
	}
}

// What -json writes, -from reads.
func TestReportRoundTrip(t *testing.T) {
	before, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/run.json"
	if err := os.WriteFile(file, before, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := (&options{from: file}).report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(r); !bytes.Equal(before, after) {
		t.Errorf("became\n%s\nwant\n%s", after, before)
	}
}

func TestFigure(t *testing.T) {
	for x, want := range map[float64]string{0.444: "0.44", 9.5: "9.50", 62.34: "62.3", 440.6: "441", 1234567: "1,234,567"} {
		if got := figure(x); got != want {
			t.Errorf("figure(%v) = %s, want %s", x, got, want)
		}
	}
}

func TestReadHead(t *testing.T) {
	for _, test := range []struct {
		in   string
		want answer
		fail bool
	}{
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", want: answer{200, 12}},
		{in: "HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", want: answer{404, 0}},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", want: answer{200, -1}},
		{in: "HTTP/1.1 200 OK\r\n\r\n", fail: true},
		{in: "HTTP/1.1 2x0 OK\r\nContent-Length: 1\r\n\r\n", fail: true},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", fail: true},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n", fail: true},
		{in: "nonsense\r\n\r\n", fail: true},
		{in: "", fail: true},
	} {
		got, err := readHead(bufio.NewReader(strings.NewReader(test.in)))
		if (err != nil) != test.fail || !test.fail && got != test.want {
			t.Errorf("readHead(%q) = %+v, %v, want %+v", test.in, got, err, test.want)
		}
	}
}

// The clients tell a right answer from a wrong one.
func TestLoad(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/small", "/next":
			w.Write(make([]byte, 100))
		case "/large":
			w.Header().Set("Content-Length", "1000000")
			w.Write(make([]byte, 1000000))
		case "/chunked":
			w.Write([]byte("some"))
			w.(http.Flusher).Flush()
			w.Write([]byte("thing"))
		case "/upload":
			if n != r.ContentLength || r.Header.Get("X-Api-Key") != "key" {
				w.WriteHeader(http.StatusBadRequest)
			}
		default:
			http.Error(w, "no such thing", http.StatusNotFound)
		}
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	for _, test := range []struct {
		request request
		want    string // in the error; "" for none
	}{
		{newRequest("GET", "/small", "key", 0, 100), ""},
		{newRequest("GET", "/small", "key", 0, 101), "100 bytes, want 101"},
		{newRequest("GET", "/large", "key", 0, 1000000), ""},
		{newRequest("GET", "/chunked", "key", 0, 9), ""},
		{newRequest("GET", "/chunked", "key", 0, -1), ""},
		{newRequest("GET", "/missing", "key", 0, 100), "no such thing"},
		{newRequest("PUT", "/upload", "key", 1000, 0), ""},
		{newRequest("PUT", "/upload", "key", 1000000, 0), ""},
		{newRequest("PUT", "/upload", "other", 1000, 0), "answer 400"},
		{newRequest("PUT", "/upload", "key", 1000, -1), "0 bytes"},
	} {
		l, err := newLoad(addr, []request{test.request}, 1)
		if err == nil {
			_, err = l.run(0) // on the same connection
		}
		l.close()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.request.name, err, test.want)
		}
	}
}

// Together the clients of a load send each request.
func TestLoadGoesThroughAll(t *testing.T) {
	seen := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen <- r.URL.Path }))
	defer server.Close()
	var requests []request
	for _, target := range []string{"/a", "/b", "/c", "/d", "/e"} {
		requests = append(requests, newRequest("GET", target, "key", 0, 0))
	}
	l, err := newLoad(server.Listener.Addr().String(), requests, 2)
	defer l.close()
	if err != nil {
		t.Fatal(err)
	}
	close(seen)
	all := map[string]bool{}
	for path := range seen {
		all[path] = true
	}
	if len(all) != len(requests) {
		t.Errorf("sent %v, want all of %d", all, len(requests))
	}
}

// The listing has the keys that the gateway is asked for, in order and page by page.
func TestListPage(t *testing.T) {
	var previous string
	for page, more := range []bool{true, false} {
		var list struct {
			IsTruncated           bool
			NextContinuationToken string
			Contents              []struct{ Key string }
		}
		if err := xml.Unmarshal(listPage(page, more), &list); err != nil {
			t.Fatal(err)
		}
		if list.IsTruncated != more || (list.NextContinuationToken != "") != more || len(list.Contents) != pageKeys {
			t.Errorf("page %d: truncated %v, next %q, %d keys", page, list.IsTruncated, list.NextContinuationToken, len(list.Contents))
		}
		for _, c := range list.Contents {
			if c.Key <= previous {
				t.Fatalf("%q comes after %q", c.Key, previous)
			}
			previous = c.Key
		}
	}
}

func TestSplitAt(t *testing.T) {
	scanner := bufio.NewScanner(strings.NewReader("head<Key>a</Key><Key>b</Key>"))
	scanner.Split(splitAt("<Key>"))
	var parts []string
	for scanner.Scan() {
		parts = append(parts, scanner.Text())
	}
	if got := strings.Join(parts, "|"); got != "head|a</Key>|b</Key>" || scanner.Err() != nil {
		t.Errorf("parts %s, %v", got, scanner.Err())
	}
}

// A backend of before, or anything else, may be at an address that is given out.
func TestFreeAddr(t *testing.T) {
	addr := freeAddr()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if portOf(addr) != listener.Addr().(*net.TCPAddr).Port {
		t.Errorf("portOf(%s) = %d", addr, portOf(addr))
	}
}

func TestParseSample(t *testing.T) {
	const metrics = "# HELP in_flight Requests.\n# TYPE in_flight gauge\nin_flight 500\nin_flight_other 7\ncircuit{account=\"other\"} 0\ncircuit{account=\"stuck\"} 1\nbroken x\n"
	for name, want := range map[string]float64{"in_flight": 500, `circuit{account="stuck"}`: 1} {
		if got, err := parseSample([]byte(metrics), name); got != want || err != nil {
			t.Errorf("parseSample(%s) = %v, %v, want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"in_fligh", "circuit", "broken", "HELP"} {
		if got, err := parseSample([]byte(metrics), name); err == nil {
			t.Errorf("parseSample(%s) = %v, want an error", name, got)
		}
	}
}

// turnOf is a turn of 2 s with requests that took 1 to 100 times unit.
func turnOf(unit, cpu time.Duration, peakRSS float64) turn {
	t := turn{cpu: cpu, elapsed: 2 * time.Second, peakRSS: peakRSS}
	for i := range 100 {
		t.latencies = append(t.latencies, time.Duration(100-i)*unit)
	}
	return t
}

func TestNewNeighbourRow(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	before := []turn{turnOf(10*us, 200*ms, 20), turnOf(20*us, 200*ms, 60), turnOf(30*us, 200*ms, 60)}
	during := []turn{turnOf(60*us, 300*ms, 40), turnOf(30*us, 300*ms, 70), turnOf(900*us, 300*ms, 65)}
	after := []turn{turnOf(20*us, 200*ms, 60), turnOf(40*us, 200*ms, 60), turnOf(50*us, 200*ms, 60)}
	waiting := []turn{{cpu: 10 * ms, elapsed: 2 * time.Second}, {cpu: 30 * ms, elapsed: 2 * time.Second}, {cpu: 20 * ms, elapsed: 2 * time.Second}}
	got := newNeighbourRow("hangs", "wait", before, during, after, waiting)
	want := &neighbourRow{Trouble: "hangs", State: "wait", Requests: 900,
		CalmP50: 1250, P50: 3000, CalmP99: 2475, P99: 5940, Noise: 2, // medians of calm turns: 25 µs, and 40 to 20
		CalmCPU: 100, WaitingCPU: 10, CalmRSS: 20, PeakRSS: 70}
	if *got != *want {
		t.Errorf("newNeighbourRow =\n%+v, want\n%+v", got, want)
	}
	if got.ratio() != 2.4 || got.met() {
		t.Errorf("ratio %v, met %v, want 2.4, not met", got.ratio(), got.met())
	}
	if want := 50 * 1024 / float64(waitingClients); got.kibEach() != want {
		t.Errorf("kibEach = %v, want %v", got.kibEach(), want)
	}
}

// A paced client that was kept waiting sends the requests that are overdue at once, and
// counts how long they waited.
func TestPacedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		near, far := net.Pipe()
		defer near.Close()
		answerAfter := []time.Duration{50 * ms, ms, ms, ms, ms, ms}
		go func() {
			defer far.Close()
			requests := bufio.NewReader(far)
			for _, delay := range answerAfter {
				if _, err := http.ReadRequest(requests); err != nil {
					return
				}
				time.Sleep(delay)
				io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
			}
		}()
		l := load{{conn: near, reader: bufio.NewReader(near), requests: []request{newRequest("GET", "/", "key", 0, 1)}, step: 1}}
		l.pace(20 * ms)
		began := time.Now()
		got, err := l.run(120 * ms)
		// Due at 0, 20, 40, 60, 80 and 100 ms; answered at 50, 51, 52, 61, 81 and 101 ms.
		if want := []time.Duration{50 * ms, 31 * ms, 12 * ms, ms, ms, ms}; !slices.Equal(got, want) || err != nil {
			t.Errorf("took %v, %v, want %v", got, err, want)
		}
		if took := time.Since(began); took != 101*ms {
			t.Errorf("ended after %s, want it not to wait for a request that is due at the end", took)
		}
	})
}

// Paced clients do not send all at once.
func TestPace(t *testing.T) {
	l := load{{}, {}, {}, {}}
	l.pace(time.Second)
	for i, c := range l {
		if want := time.Duration(i) * 250 * time.Millisecond; c.first != want || c.every != time.Second {
			t.Errorf("client %d begins after %s and goes on every %s, want %s and 1s", i, c.first, c.every, want)
		}
	}
}

// The clients of an account that is refused want an error of the gateway, and nothing else.
func TestRefusedLoad(t *testing.T) {
	for status, ok := range map[int]bool{200: false, 403: false, 502: true, 503: true} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			w.Write([]byte("some"))
		}))
		l, err := newLoad(server.Listener.Addr().String(), []request{newRequest("GET", "/", "key", 0, -1).failing()}, 1)
		l.close()
		server.Close()
		if (err == nil) != ok {
			t.Errorf("an answer %d: %v", status, err)
		}
	}
}

// The requests of the troubles reach their backend, whose answer does not end.
func TestTroubles(t *testing.T) {
	for _, trouble := range troubles {
		if trouble.serve == nil {
			continue
		}
		backend, err := newStuckBackend("127.0.0.1:0", trouble.serve)
		if err != nil {
			t.Fatal(err)
		}
		l, err := connect(backend.listener.Addr().String(), []request{trouble.request}, 1)
		if err != nil {
			t.Fatal(err)
		}
		l[0].conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if err := l[0].do(trouble.request); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want no end", trouble.name, err)
		}
		l.close()
		backend.close()
	}
}
