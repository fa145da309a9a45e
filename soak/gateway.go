package main

// The gateways under test, as processes: their configuration, their log, their metrics. They
// get their listening sockets from here, as from a service manager, so that no connection is
// refused while one restarts.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A gateway is a process of the program, and its successors.
type gateway struct {
	ledger       *ledger
	name, binary string
	config       string // path
	front, admin string // URLs
	sockets      []*os.File
	ports        [2]int
	tlsFiles     [2]string // certificate and key; empty: plain HTTP

	mu       sync.Mutex // guards the rest
	process  *exec.Cmd
	ended    chan struct{} // closed when the process has ended and its log is read
	expected bool          // that it ends
	lines    []string      // the last ones of its log
	restarts []span        // in which connections may break
	applied  int           // configurations, after the first
	refused  int
}

// A span of time. The zero end is open.
type span struct{ begin, end time.Time }

// newGateway opens the sockets of a gateway.
func newGateway(l *ledger, name, binary, dir string, tlsFiles [2]string) (*gateway, error) {
	g := &gateway{ledger: l, name: name, binary: binary, config: filepath.Join(dir, name+".json"), tlsFiles: tlsFiles}
	var urls [2]string
	for i := range urls {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		f, err := listener.(*net.TCPListener).File()
		listener.Close()
		if err != nil {
			return nil, err
		}
		g.sockets = append(g.sockets, f)
		g.ports[i] = listener.Addr().(*net.TCPAddr).Port
		urls[i] = "http://" + listener.Addr().String()
	}
	if g.front, g.admin = urls[0], urls[1]; tlsFiles[0] != "" {
		g.front = strings.Replace(g.front, "http", "https", 1)
	}
	return g, nil
}

// configure writes the gateway's configuration: the common one with its own listeners.
func (g *gateway) configure(common map[string]any) error {
	server := map[string]any{
		"host": "127.0.0.1", "port": g.ports[0], "admin": map[string]any{"port": g.ports[1]},
		"idle_timeout": idleTimeout.String(), "shutdown_timeout": "5s",
	}
	if g.tlsFiles[0] != "" {
		server["tls_cert_file"], server["tls_key_file"] = g.tlsFiles[0], g.tlsFiles[1]
	}
	own := map[string]any{"server": server}
	for name, value := range common {
		own[name] = value
	}
	data, err := json.MarshalIndent(own, "", "  ")
	if err != nil {
		return err
	}
	return g.write(data)
}

// write replaces the file of the configuration, as editors do: at once.
func (g *gateway) write(data []byte) error {
	if err := os.WriteFile(g.config+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(g.config+".new", g.config)
}

// start starts the program and waits until it serves.
func (g *gateway) start() error {
	// The process that sh becomes has the id that LISTEN_PID names.
	c := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, g.binary, "-config", g.config, "-log-format", "json", "-log-level", "debug")
	c.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(g.sockets)), "GORACE=atexit_sleep_ms=0")
	c.ExtraFiles = g.sockets
	log, err := c.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	g.mu.Lock()
	g.process, g.ended, g.expected = c, ended, false
	g.mu.Unlock()
	go g.follow(c, log, ended)
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := g.page("/-/ready"); err == nil {
			return nil
		}
		if time.Since(begin) > 30*time.Second {
			return fmt.Errorf("%s does not start:\n%s", g.name, g.tail())
		}
	}
}

// follow reads the log of a process to its end, and looks for what may not be there.
func (g *gateway) follow(c *exec.Cmd, log io.Reader, ended chan struct{}) {
	defer close(ended)
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		g.ledger.count("lines of the log", 1)
		g.mu.Lock()
		g.lines = append(g.lines[max(0, len(g.lines)-400):], line)
		if strings.Contains(line, `"msg":"configuration applied`) {
			g.applied++
		} else if strings.Contains(line, `"msg":"reload failed`) {
			g.refused++
		}
		g.mu.Unlock()
		if secret := g.ledger.secrets.in(line); secret != "" {
			g.ledger.broken(promiseSecret, "%s logs %s…: %s", g.name, secret[:8], line)
		}
		if strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic") || strings.Contains(line, "fatal error") {
			g.ledger.broken(promiseProcess, "%s: %s", g.name, line)
		}
	}
	err := c.Wait()
	g.mu.Lock()
	expected := g.expected
	g.mu.Unlock()
	if !expected {
		g.ledger.broken(promiseProcess, "%s ended: %v\n%s", g.name, err, g.tail())
	}
}

// tail returns the last lines of the log.
func (g *gateway) tail() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.lines[max(0, len(g.lines)-40):], "\n")
}

func (g *gateway) signal(s syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.process.Process.Signal(s)
}

// restart ends the process by a signal and starts another one.
func (g *gateway) restart(s syscall.Signal) error {
	g.keepCounts()
	g.mu.Lock()
	g.expected = true
	g.restarts = append(g.restarts, span{begin: time.Now()})
	ended := g.ended
	g.mu.Unlock()
	if err := g.signal(s); err != nil {
		return err
	}
	<-ended
	err := g.start()
	g.mu.Lock()
	g.restarts[len(g.restarts)-1].end = time.Now()
	g.mu.Unlock()
	return err
}

// stop ends the process for good.
func (g *gateway) stop() {
	g.keepCounts()
	g.mu.Lock()
	g.expected = true
	ended := g.ended
	g.mu.Unlock()
	if ended == nil {
		return
	}
	late := time.AfterFunc(15*time.Second, func() { g.signal(syscall.SIGKILL) })
	defer late.Stop()
	g.signal(syscall.SIGTERM)
	<-ended
}

// restarted reports whether the gateway restarted at some time of a span.
func (g *gateway) restarted(begin, end time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.restarts {
		if r.begin.Before(end) && (r.end.IsZero() || r.end.Add(time.Second).After(begin)) {
			return true
		}
	}
	return false
}

// page returns an admin page.
func (g *gateway) page(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.admin+path, nil)
	if err != nil {
		return "", err
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return string(data), err
}

// metric returns the sum of a metric over its labels.
func (g *gateway) metric(name string) (float64, error) {
	page, err := g.page("/metrics")
	if err != nil {
		return 0, err
	}
	return sumOf(page, name), nil
}

// sumOf returns the sum of a metric over its labels, on a page of metrics.
func sumOf(page, name string) (sum float64) {
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			n, _ := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			sum += n
		}
	}
	return sum
}

// keepCounts adds what the process has counted, before it ends.
func (g *gateway) keepCounts() {
	if n, err := g.metric("s3proxy_upstream_resumed_total"); err == nil {
		g.ledger.count("resumed", int64(n))
	}
	if n, err := g.metric("s3proxy_upstream_retries_total"); err == nil {
		g.ledger.count("retried", int64(n))
	}
}

// reload sends SIGHUP and waits until the log says that the file is applied, or that it is not.
func (g *gateway) reload(good bool) error {
	applied, refused := g.reloads()
	if err := g.signal(syscall.SIGHUP); err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		a, r := g.reloads()
		switch {
		case good && r == refused && a > applied, !good && a == applied && r > refused:
			g.ledger.count(map[bool]string{true: "reloads applied", false: "reloads refused"}[good], 1)
			return nil
		case a > applied || r > refused:
			g.ledger.broken(promiseReload, "%s: a configuration that is good (%t) was applied (%t)\n%s", g.name, good, a > applied, g.tail())
			return nil
		}
	}
	g.ledger.broken(promiseReload, "%s does not reload\n%s", g.name, g.tail())
	return nil
}

// reloads returns how many configurations were applied and refused.
func (g *gateway) reloads() (applied, refused int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applied, g.refused
}
