//go:build linux

package main

// Whether an account is slower while the backend of another is stuck: the latency of a
// steady load on the one, calm and with many clients that wait for the other.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	waitingClients  = 500
	neighbourTarget = 2 // times the p99 of calm turns

	// The load on the healthy account, which leaves most of the machine idle. In a load
	// that takes all it can get, latency would say only how much that is.
	pacedClients = 16
	pacedEvery   = 40 * time.Millisecond // 400 requests/s

	stuckSize  = 1 << 20   // bytes of the object, of which stuckPart come
	stuckPart  = 256 << 10 // more than the gateway reads ahead
	askAgain   = time.Second
	settlePoll = 5 * time.Millisecond

	inFlightSample = "s3proxy_requests_in_flight"
	circuitSample  = `s3proxy_upstream_circuit_open{account="stuck"}`
)

// A trouble is one way in which a backend is stuck.
type trouble struct {
	name    string
	request request
	serve   func(conn net.Conn) // gets a connection after the head of a request; nil: connections are refused
}

var troubles = []trouble{
	{"accepts, never answers", newRequest("GET", "/stuck/object", benchKey, 0, stuckSize), func(net.Conn) {}},
	{"stalls within the body", newRequest("GET", "/stuck/object", benchKey, 0, stuckSize), serveStall},
	{"takes no upload", newRequest("PUT", "/stuck/object", benchKey, stuckSize, 0), func(net.Conn) {}},
	{"refuses connections", newRequest("GET", "/stuck/object", benchKey, 0, -1).failing(), nil},
}

// serveStall sends a part of an object.
func serveStall(conn net.Conn) {
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", stuckSize)
	conn.Write(make([]byte, stuckPart))
}

// A neighbourRow is the latency of the healthy account beside one trouble, and what the
// clients of the stuck account cost. All but Requests, CalmRSS and PeakRSS are medians over
// turns.
type neighbourRow struct {
	Trouble    string  `json:"trouble"`
	State      string  `json:"state"`
	Requests   int     `json:"requests"` // on the healthy account, in calm turns and others
	CalmP50    float64 `json:"calm_p50_us"`
	P50        float64 `json:"p50_us"`
	CalmP99    float64 `json:"calm_p99_us"`
	P99        float64 `json:"p99_us"`
	Noise      float64 `json:"calm_p99_ratio"` // p99 of calm turns after the trouble ÷ before
	CalmCPU    float64 `json:"calm_cpu_ms_per_second"`
	WaitingCPU float64 `json:"waiting_cpu_ms_per_second"` // without a load
	CalmRSS    float64 `json:"calm_peak_rss_mib"`         // before the first trouble
	PeakRSS    float64 `json:"peak_rss_mib"`
}

func (x *neighbourRow) ratio() float64   { return x.P99 / x.CalmP99 }
func (x *neighbourRow) met() bool        { return x.ratio() <= neighbourTarget }
func (x *neighbourRow) kibEach() float64 { return (x.PeakRSS - x.CalmRSS) * 1024 / waitingClients }

// A neighbourhood is a gateway for one trouble, with a steady load on its healthy account.
type neighbourhood struct {
	trouble
	process *process
	load    load

	before, during, after []turn
	waiting               []turn // without a load, while the clients of the stuck account wait
}

// measureNeighbours gives each trouble a turn in each round, between two calm ones. Two
// turns have to end before the gateway cuts off who waits, after 1 minute; a client that is
// cut off fails the run.
func measureNeighbours(s *site, duration time.Duration, rounds int, only string) ([]*neighbourRow, error) {
	if err := checkFiles(3 * waitingClients); err != nil {
		return nil, err
	}
	var all []*neighbourhood
	for _, t := range troubles {
		if !strings.Contains(t.name, only) {
			continue
		}
		n, err := newNeighbourhood(s, t)
		if err != nil {
			return nil, err
		}
		defer n.load.close()
		all = append(all, n)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no trouble's name holds %q", only)
	}
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "round %d\n", round+1)
		for i := range all {
			n := all[(round+i)%len(all)]
			if err := errors.Join(n.round(s, duration), s.ctx.Err()); err != nil {
				return nil, fmt.Errorf("%s: %w", n.name, err)
			}
		}
	}
	var rows []*neighbourRow
	for _, n := range all {
		rows = append(rows, newNeighbourRow(n.name, n.state(), n.before, n.during, n.after, n.waiting))
	}
	return rows, nil
}

func newNeighbourhood(s *site, t trouble) (*neighbourhood, error) {
	p, err := s.launchGateway(0)
	if err != nil {
		return nil, err
	}
	l, err := newLoad(p.addr, []request{newRequest("GET", "/photos/4k", benchKey, 0, 4<<10)}, pacedClients)
	l.pace(pacedEvery)
	return &neighbourhood{trouble: t, process: p, load: l}, err
}

// state says what the clients of the stuck account do.
func (n *neighbourhood) state() string {
	if n.serve == nil {
		return fmt.Sprintf("%d, each asks again every %s; the circuit is open", waitingClients, askAgain)
	}
	return fmt.Sprintf("%d wait, in flight", waitingClients)
}

// round takes a calm turn, one with the trouble, and a calm one again.
func (n *neighbourhood) round(s *site, duration time.Duration) error {
	before, err := takeTurn(n.process, n.load, duration)
	if err != nil {
		return err
	}
	during, err := n.inTrouble(s, duration)
	if err != nil {
		return err
	}
	after, err := takeTurn(n.process, n.load, duration)
	n.before, n.during, n.after = append(n.before, before), append(n.during, during), append(n.after, after)
	return err
}

// inTrouble takes a turn while the clients of the stuck account wait, all of them from its
// beginning to its end, or while the gateway refuses them.
func (n *neighbourhood) inTrouble(s *site, duration time.Duration) (t turn, err error) {
	sample, want := circuitSample, 1.0
	if n.serve != nil {
		sample, want = inFlightSample, waitingClients
		backend, err := newStuckBackend(s.stuck, n.serve)
		if err != nil {
			return t, err
		}
		defer backend.close()
	}
	clients, err := connect(n.process.addr, []request{n.request}, waitingClients)
	if err != nil {
		return t, err
	}
	if n.serve == nil {
		clients.pace(askAgain)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := clients.run(time.Hour)
		ended <- err
	}()
	check := waitForSample(s.ctx, n.process.metrics, sample, want)
	if check == nil {
		t, err = n.takeTurns(s, duration)
		check = waitForSample(s.ctx, n.process.metrics, sample, want)
	}
	clients.close()
	if failure := <-ended; !errors.Is(failure, net.ErrClosed) {
		err = errors.Join(err, failure) // the first: nobody's connection was closed before it
	}
	// The backend ends after the last request, so that the gateway sees no failure of it.
	return t, errors.Join(err, check, waitForSample(s.ctx, n.process.metrics, inFlightSample, 0))
}

// takeTurns takes a turn without a load, and returns one with it. What the requests of the
// waiting clients cost when they come, all at once, is a part of neither.
func (n *neighbourhood) takeTurns(s *site, duration time.Duration) (turn, error) {
	if err := pause(s.ctx, settleTime); err != nil {
		return turn{}, err
	}
	waiting, err := takeTurn(n.process, nil, duration)
	if err != nil {
		return turn{}, err
	}
	n.waiting = append(n.waiting, waiting)
	return takeTurn(n.process, n.load, duration)
}

// A stuckBackend holds the connections that it accepts until it is closed.
type stuckBackend struct {
	listener net.Listener

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newStuckBackend(addr string, serve func(net.Conn)) (*stuckBackend, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	b := &stuckBackend{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, conn)
			b.mu.Unlock()
			go func() {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					serve(conn)
				}
			}()
		}
	}()
	return b, nil
}

func (b *stuckBackend) close() {
	b.listener.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.conns {
		conn.Close()
	}
}

// waitForSample returns when a sample of the metrics has this value.
func waitForSample(ctx context.Context, url, name string, want float64) error {
	for deadline := time.Now().Add(patience); ; {
		body, err := scrape(url)
		if err != nil {
			return err
		}
		is, err := parseSample(body, name)
		switch {
		case err != nil:
			return err
		case is == want:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s is %v, want %v", name, is, want)
		}
		if err := pause(ctx, settlePoll); err != nil {
			return err
		}
	}
}

// parseSample finds a line "name value" of metrics. A name includes its labels.
func parseSample(metrics []byte, name string) (float64, error) {
	for line := range strings.Lines(string(metrics)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no sample of %s in the metrics", name)
}

// newNeighbourRow makes a row of turns: those before the trouble, with it, and after it, and
// those with it but without a load.
func newNeighbourRow(name, state string, before, during, after, waiting []turn) *neighbourRow {
	calm := slices.Concat(before, after)
	x := &neighbourRow{Trouble: name, State: state, CalmRSS: before[0].peakRSS}
	for _, t := range slices.Concat(calm, during) {
		x.Requests += len(t.latencies)
	}
	for _, t := range during {
		x.PeakRSS = max(x.PeakRSS, t.peakRSS)
	}
	x.CalmP50, x.P50 = medianOf(calm, p50), medianOf(during, p50)
	x.CalmP99, x.P99 = medianOf(calm, p99), medianOf(during, p99)
	x.Noise = medianOf(after, p99) / medianOf(before, p99)
	x.CalmCPU, x.WaitingCPU = medianOf(calm, cpuPerSecond), medianOf(waiting, cpuPerSecond)
	return x
}

// medianOf is the median of a figure of turns.
func medianOf(turns []turn, figureOf func(turn) float64) float64 {
	var values []float64
	for _, t := range turns {
		values = append(values, figureOf(t))
	}
	return median(values)
}

func p50(t turn) float64 { return quantile(slices.Sorted(slices.Values(t.latencies)), 0.5) }
func p99(t turn) float64 { return quantile(slices.Sorted(slices.Values(t.latencies)), 0.99) }

// cpuPerSecond is in milliseconds.
func cpuPerSecond(t turn) float64 { return t.cpu.Seconds() * 1000 / t.elapsed.Seconds() }
