//go:build unix

package abuse

// Restarts: sockets that a service manager hands over, and requests that a stop breaks off.

import (
	"bufio"
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
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A manager holds listening sockets and starts the program with them, as systemd does.
type manager struct {
	t       *testing.T
	config  string // path
	log     *os.File
	sockets []*os.File
}

// start starts the program, which serves when it returns.
func (m *manager) start(ready string) *exec.Cmd {
	m.t.Helper()
	// The process that sh becomes has the id that LISTEN_PID names.
	c := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary, "-config", m.config, "-log-format", "json")
	c.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(m.sockets)), "GORACE=atexit_sleep_ms=0")
	c.ExtraFiles, c.Stderr = m.sockets, m.log
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	if ready != "" {
		await(m.t, "the program serves", func() bool {
			resp, err := http.Get(ready)
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	return c
}

// stop ends the program as systemd does, and waits for that.
func (m *manager) stop(c *exec.Cmd) error {
	c.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
	defer late.Stop()
	return c.Wait()
}

// newManager holds a socket for the front and one for the admin pages of a configuration.
func newManager(t *testing.T, endpoint string, changes ...func(map[string]any)) (m *manager, front, admin string) {
	t.Helper()
	openSources()
	m = &manager{t: t, config: filepath.Join(t.TempDir(), "config.json")}
	var addresses [2]string
	var ports [2]int
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		m.sockets = append(m.sockets, f)
		addresses[i], ports[i] = "http://"+l.Addr().String(), l.Addr().(*net.TCPAddr).Port
	}
	config := testConfig(endpoint, append(changes, with("server.port", ports[0]), with("server.admin", map[string]any{"port": ports[1]}))...)
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.config, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if m.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.log.Close() })
	return m, addresses[0], addresses[1]
}

// While the program restarts connections wait: none is refused, and none is cut before
// server.shutdown_timeout.
func TestRestartWithSocketsOfAManagerRefusesNoConnection(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond) // as a backend takes
		io.WriteString(w, "meow")
	})
	m, front, admin := newManager(t, backend.URL, with("server.shutdown_timeout", "10s"))
	running := m.start(admin + "/-/ready")
	var served, failed atomic.Int64
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			tr := &http.Transport{DisableKeepAlives: true} // a new connection for each request
			for {
				select {
				case <-done:
					return
				default:
				}
				req, _ := http.NewRequest("GET", front+"/photos/k", nil)
				req.Header.Set("X-Api-Key", userKey)
				resp, err := tr.RoundTrip(req)
				if err == nil {
					body, failure := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err = failure; err == nil && (resp.StatusCode != 200 || string(body) != "meow") {
						err = fmt.Errorf("%s %q", resp.Status, body)
					}
				}
				if err != nil {
					failed.Add(1)
					t.Errorf("a request during the restarts: %v", err)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 4 {
		before := served.Load()
		await(t, "requests", func() bool { return served.Load() > before+50 || failed.Load() > 0 })
		if err := m.stop(running); err != nil {
			t.Errorf("the program ended with %v", err)
		}
		running = m.start(admin + "/-/ready")
	}
	close(done)
	clients.Wait()
	if err := m.stop(running); err != nil {
		t.Errorf("the program ended with %v", err)
	}
	t.Logf("%d requests, none refused and none cut: %t", served.Load(), failed.Load() == 0)
}

// A socket that no setting has the port of is an error: its connections would wait for ever.
func TestSocketThatNoSettingNamesIsAnError(t *testing.T) {
	m, _, _ := newManager(t, "http://127.0.0.1:9", with("nested_keys", true))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.sockets = append(m.sockets, f)
	if err := m.start("").Wait(); err == nil {
		t.Error("the program ran with a socket that it does not use")
	}
	text, err := os.ReadFile(m.log.Name())
	if err != nil || !strings.Contains(string(text), l.Addr().String()) || !strings.Contains(string(text), "server.port") {
		t.Errorf("the program says %q, %v, want the socket's address and the settings", text, err)
	}
}

// Each request that the end of the program breaks off has its line in the log.
func TestRequestsThatAStopBreaksOffAreLogged(t *testing.T) {
	const requests = 20
	release := make(chan struct{})
	var waiting atomic.Int32
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000000")
		w.Write(make([]byte, 1<<20))
		w.(http.Flusher).Flush()
		waiting.Add(1)
		<-release
	})
	defer close(release)
	g := startGateway(t, testConfig(backend.URL))
	for i := range requests {
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", i, userKey)
	}
	await(t, "the requests to reach the backend", func() bool { return waiting.Load() == requests })
	g.stop()
	lines := 0
	for _, record := range g.records() {
		if record["msg"] == "request" && record["aborted"] == true {
			lines++
		}
	}
	if lines != requests {
		t.Errorf("%d requests that were broken off are in the log, want %d", lines, requests)
	}
}

// At server.max_connections the program waits for a place before it accepts. It ends all the same.
func TestStopAtMaxConnectionsEnds(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") })
	g := startGateway(t, testConfig(backend.URL, with("server.max_connections", 1), with("server.shutdown_timeout", "10s")))
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	g.stop()
	if took := time.Since(begun); took > 8*time.Second || !strings.Contains(g.log(), `"msg":"stopped"`) {
		t.Errorf("the program ended after %s, want soon, and in order", took)
	}
}
