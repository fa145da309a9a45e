//go:build linux

package main

// The works: kinds of requests, how what contenders do with them is measured, and
// the targets for it.

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// A work is one kind of request, from a number of connections at once.
type work struct {
	name   string
	method string
	target string
	conns  int
	size   int64 // bytes of the object; 0 for a list
	large  bool  // CPU is told per GiB, not per request
}

const (
	get4KiB       = "GET 4 KiB"
	put4KiB       = "PUT 4 KiB"
	get1MiB       = "GET 1 MiB"
	get256MiB     = "GET 256 MiB"
	put256MiB     = "PUT 256 MiB"
	secure256MiB  = "GET 256 MiB, https upstream"
	list1000      = "list 1,000 keys"
	oneConnection = "GET 4 KiB, 1 connection"
)

var works = []work{
	{name: get4KiB, method: "GET", target: "/photos/4k", conns: 32, size: 4 << 10},
	{name: put4KiB, method: "PUT", target: "/uploads/4k", conns: 32, size: 4 << 10},
	{name: get1MiB, method: "GET", target: "/photos/1m", conns: 8, size: 1 << 20},
	{name: get256MiB, method: "GET", target: "/photos/256m", conns: 2, size: 256 << 20, large: true},
	{name: put256MiB, method: "PUT", target: "/uploads/256m", conns: 2, size: 256 << 20, large: true},
	{name: secure256MiB, method: "GET", target: "/vault/256m", conns: 2, size: 256 << 20, large: true},
	{name: list1000, method: "GET", target: "/uploads?list-type=2", conns: 4},
	{name: oneConnection, method: "GET", target: "/photos/4k", conns: 1, size: 4 << 10},
}

func (w work) request() request {
	switch {
	case w.method == "PUT":
		return newRequest(w.method, w.target, benchKey, w.size, 0)
	case w.size == 0:
		return newRequest(w.method, w.target, benchKey, 0, -1)
	}
	return newRequest(w.method, w.target, benchKey, 0, w.size)
}

// A turn is what a contender did between two readings of the clock.
type turn struct {
	cpu       time.Duration
	elapsed   time.Duration
	latencies []time.Duration // of each request
	peakRSS   float64         // MiB
}

// A result is what a contender did with a work. CPU and requests per second are
// medians over the turns, latencies are taken over all requests, and the RSS is
// that of the turn with the most.
type result struct {
	Work      string    `json:"work"`
	Contender string    `json:"contender"`
	Requests  int       `json:"requests"`
	CPU       float64   `json:"cpu"`       // of the process, in Unit; 0 for the direct way
	Unit      string    `json:"cpu_unit"`  // µs/request or s/GiB
	Turns     []float64 `json:"cpu_turns"` // CPU of each turn
	PerSecond float64   `json:"requests_per_second"`
	MiBps     float64   `json:"mib_per_second"` // 0 for lists
	P50       float64   `json:"p50_us"`
	P99       float64   `json:"p99_us"`
	PeakRSS   float64   `json:"peak_rss_mib"`
}

// measureWorks lets all contenders do all works whose names hold only.
func measureWorks(s *site, duration time.Duration, rounds int, only string) ([]*result, error) {
	contenders, err := s.contenders()
	if err != nil {
		return nil, err
	}
	var results []*result
	for _, w := range works {
		if !strings.Contains(w.name, only) {
			continue
		}
		fmt.Fprintln(os.Stderr, w.name)
		var lanes []*lane
		for _, c := range contenders {
			l := &lane{process: c, addr: c.addr, requests: []request{w.request()}, conns: w.conns}
			if c.name == floor && w.size != floorSize {
				continue // it has one object
			}
			if c.name == direct {
				if l.addr = s.behind(w.target); l.addr == s.secure {
					continue // the clients don't speak TLS
				}
			}
			lanes = append(lanes, l)
		}
		if err := race(s, lanes, duration, rounds); err != nil {
			return nil, fmt.Errorf("%s, %w", w.name, err)
		}
		for _, l := range lanes {
			results = append(results, summarize(w, l.process.name, l.turns))
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no work's name holds %q", only)
	}
	return results, nil
}

// A lane is one of those that take turns.
type lane struct {
	process  *process
	addr     string
	requests []request
	conns    int
	load     load
	turns    []turn
}

// race gives each lane a turn in each round. Who is first is another in each round,
// so that nobody always comes after the same one.
func race(s *site, lanes []*lane, duration time.Duration, rounds int) error {
	defer func() {
		for _, l := range lanes {
			l.load.close()
			if l.process.log != "" {
				os.Truncate(l.process.log, 0) // they fill disks
			}
		}
	}()
	for _, l := range lanes {
		var err error
		if l.load, err = newLoad(l.addr, l.requests, l.conns); err != nil {
			return fmt.Errorf("%s: %w", l.process.name, err)
		}
	}
	for round := range rounds {
		for i := range lanes {
			l := lanes[(round+i)%len(lanes)]
			t, err := takeTurn(l.process, l.load, duration)
			if err = errors.Join(err, s.ctx.Err()); err != nil {
				return fmt.Errorf("%s: %w", l.process.name, err)
			}
			l.turns = append(l.turns, t)
		}
	}
	return nil
}

// takeTurn measures a process under load; without clients it measures it at rest. If it has metrics they are scraped once
// meanwhile.
func takeTurn(p *process, l load, duration time.Duration) (t turn, err error) {
	if p.pid == 0 {
		started := time.Now()
		t.latencies, err = l.run(duration)
		t.elapsed = time.Since(started)
		return t, err
	}
	scraped := make(chan error, 1)
	resetPeak(p.pid)
	before, err := cpuTime(p.pid)
	if err != nil {
		return t, err
	}
	started := time.Now()
	go func() {
		_, err := scrape(p.metrics)
		scraped <- err
	}()
	t.latencies, err = l.run(duration)
	t.elapsed = time.Since(started)
	err = errors.Join(err, <-scraped)
	after, errCPU := cpuTime(p.pid)
	t.cpu = after - before
	var errRSS error
	t.peakRSS, errRSS = peakRSS(p.pid)
	return t, errors.Join(err, errCPU, errRSS)
}

// scrape returns the metrics at a URL, if there is one.
func scrape(url string) ([]byte, error) {
	if url == "" {
		return nil, nil
	}
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// summarize makes a result of turns.
func summarize(w work, contender string, turns []turn) *result {
	r := &result{Work: w.name, Contender: contender, Unit: "µs/request"}
	if w.large {
		r.Unit = "s/GiB"
	}
	var latencies []time.Duration
	var perSecond []float64
	for _, t := range turns {
		requests := float64(len(t.latencies))
		cost := t.cpu.Seconds() * 1e6 / requests
		if w.large {
			cost = t.cpu.Seconds() / (requests * float64(w.size) / (1 << 30))
		}
		r.Turns = append(r.Turns, cost)
		perSecond = append(perSecond, requests/t.elapsed.Seconds())
		latencies = append(latencies, t.latencies...)
		r.PeakRSS = max(r.PeakRSS, t.peakRSS)
	}
	r.Requests = len(latencies)
	r.CPU, r.PerSecond = median(r.Turns), median(perSecond)
	r.MiBps = r.PerSecond * float64(w.size) / (1 << 20)
	slices.Sort(latencies)
	r.P50, r.P99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
	return r
}

// median is the middle of values, or the mean of the two that are; 0 if there are
// none.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile is the smallest of sorted latencies, in µs, that a part q of them does
// not exceed; 0 if there are none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return float64(sorted[max(i, 0)].Nanoseconds()) / 1000
}

// A target is what the gateway is to reach at a work, beside another contender.
type target struct {
	what    string
	work    string
	against string
	compare func(gateway, other *result) float64
	want    float64
	unit    string // × or µs
	atLeast bool   // want is a lower bound
}

func cpuRatio(gateway, other *result) float64        { return gateway.CPU / other.CPU }
func p99Ratio(gateway, other *result) float64        { return gateway.P99 / other.P99 }
func throughputRatio(gateway, other *result) float64 { return gateway.PerSecond / other.PerSecond }
func addedP50(gateway, other *result) float64        { return gateway.P50 - other.P50 }

var targets = []target{
	{what: "CPU", work: get4KiB, against: bare, compare: cpuRatio, want: 1.10, unit: "×"},
	{what: "CPU", work: put4KiB, against: bare, compare: cpuRatio, want: 1.10, unit: "×"},
	{what: "p99", work: get4KiB, against: bare, compare: p99Ratio, want: 1, unit: "×"},
	{what: "p99", work: put4KiB, against: bare, compare: p99Ratio, want: 1, unit: "×"},
	{what: "CPU", work: get1MiB, against: "nginx", compare: cpuRatio, want: 0.75, unit: "×"},
	{what: "CPU", work: get256MiB, against: "nginx", compare: cpuRatio, want: 0.45, unit: "×"},
	{what: "throughput", work: get256MiB, against: "nginx", compare: throughputRatio, want: 1, unit: "×", atLeast: true},
	{what: "throughput", work: get256MiB, against: bare, compare: throughputRatio, want: 1, unit: "×", atLeast: true},
	{what: "CPU", work: put256MiB, against: "nginx", compare: cpuRatio, want: 0.9, unit: "×"},
	{what: "CPU", work: secure256MiB, against: bare, compare: cpuRatio, want: 1.1, unit: "×"},
	{what: "CPU", work: list1000, against: bare, compare: cpuRatio, want: 4, unit: "×"},
	{what: "added p50", work: oneConnection, against: direct, compare: addedP50, want: 120, unit: "µs"},
}

// A verdict is a target and how the run compares with it.
type verdict struct {
	What    string  `json:"what"`
	Work    string  `json:"work"`
	Against string  `json:"against"`
	Is      float64 `json:"is"`
	Want    float64 `json:"want"`
	AtLeast bool    `json:"at_least"`
	Unit    string  `json:"unit"`
	Met     bool    `json:"met"`
}

// checkTargets looks at those targets whose work and contender were measured.
func checkTargets(results []*result) []*verdict {
	var verdicts []*verdict
	for _, t := range targets {
		gateway, other := find(results, t.work, ours), find(results, t.work, t.against)
		if gateway == nil || other == nil {
			continue
		}
		is := t.compare(gateway, other)
		met := is <= t.want
		if t.atLeast {
			met = is >= t.want
		}
		verdicts = append(verdicts, &verdict{What: t.what, Work: t.work, Against: t.against, Is: is, Want: t.want, AtLeast: t.atLeast, Unit: t.unit, Met: met})
	}
	return verdicts
}

// find returns nil for what was not measured.
func find(results []*result, work, contender string) *result {
	for _, r := range results {
		if r.Work == work && r.Contender == contender {
			return r
		}
	}
	return nil
}
