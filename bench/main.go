// Bench measures the gateway side by side with other proxies: CPU of the proxy
// process alone, throughput, latency and memory, all in one run, in turns.
//
//	go run ./bench                 a table
//	go run ./bench -json           the same as JSON
//	go run ./bench -time 5s -rounds 3
//
// It starts a backend, the gateway (built from this tree), a bare
// httputil.ReverseProxy, and nginx and HAProxy where they are installed
// (bench/install names the packages). All listen on 127.0.0.1. The backend takes
// every signature for good: what is measured is the proxy.
//
// Machines are noisy. What counts is the ratio between contenders within a run.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const apiKey = "bench-key-0123456789abcdef"

// A work is one kind of request.
type work struct {
	name   string
	method string
	target string
	body   int64 // bytes of the upload
	conns  int   // at once
	large  bool  // CPU is told per GiB, not per request
	bytes  int64 // that move in one request
}

var works = []work{
	{name: "GET 4 KiB", method: "GET", target: "/photos/4k", conns: 32, bytes: 4 << 10},
	{name: "PUT 4 KiB", method: "PUT", target: "/photos/put", body: 4 << 10, conns: 32, bytes: 4 << 10},
	{name: "GET 1 MiB", method: "GET", target: "/photos/1m", conns: 8, bytes: 1 << 20},
	{name: "GET 256 MiB", method: "GET", target: "/photos/256m", conns: 2, large: true, bytes: 256 << 20},
	{name: "PUT 256 MiB", method: "PUT", target: "/photos/put", body: 256 << 20, conns: 2, large: true, bytes: 256 << 20},
	{name: "list 1,000 keys", method: "GET", target: "/photos?list-type=2", conns: 4},
	{name: "GET 4 KiB, 1 connection", method: "GET", target: "/photos/4k", conns: 1, bytes: 4 << 10},
}

// A contender is a proxy that runs.
type contender struct {
	Name string
	addr string
	cmd  *exec.Cmd
}

// A result is what one contender did with one work, over all rounds.
type result struct {
	Work       string  `json:"work"`
	Contender  string  `json:"contender"`
	Requests   int     `json:"requests"`
	CPU        float64 `json:"cpu"`      // µs a request, or s a GiB
	Unit       string  `json:"cpu_unit"` // "µs/request" or "s/GiB"
	PerSecond  float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	PeakRSS    float64 `json:"peak_rss_mib"` // since the contender was started
	CPURatio   float64 `json:"cpu_ratio"`    // to the bare ReverseProxy
	latencies  []time.Duration
	cpuSeconds float64
	elapsed    time.Duration
	work       work
}

func main() {
	log.SetFlags(0)
	role := flag.String("role", "", "used by bench itself: backend or reverseproxy")
	listen := flag.String("listen", "127.0.0.1:0", "used by bench itself")
	upstream := flag.String("upstream", "", "used by bench itself")
	files := flag.String("files", "", "used by bench itself")
	duration := flag.Duration("time", 3*time.Second, "of each measurement")
	rounds := flag.Int("rounds", 3, "how often each measurement is made, in turns")
	only := flag.String("only", "", "only works whose name holds this")
	asJSON := flag.Bool("json", false, "print JSON")
	svg := flag.String("svg", "", "write a chart to this `file`")
	flag.Parse()
	switch *role {
	case "backend":
		log.Fatal(serveBackend(*listen, *files))
	case "reverseproxy":
		log.Fatal(serveReverseProxy(*listen, *upstream))
	}
	dir, err := os.MkdirTemp("", "s3-proxy-bench-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	results, err := run(dir, *duration, *rounds, *only)
	if err != nil {
		log.Print(err)
		return
	}
	if *svg != "" {
		if err := os.WriteFile(*svg, chart(results), 0o644); err != nil {
			log.Print(err)
		}
	}
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		encoder.Encode(results)
		return
	}
	printTable(os.Stdout, results)
}

func run(dir string, duration time.Duration, rounds int, only string) ([]*result, error) {
	backend, contenders, stop, err := start(dir)
	defer stop()
	if err != nil {
		return nil, err
	}
	contenders = append(contenders, &contender{Name: "direct", addr: backend})
	var results []*result
	for _, w := range works {
		if !strings.Contains(w.name, only) {
			continue
		}
		of := map[*contender]*result{}
		for range rounds {
			for _, c := range contenders {
				if of[c] == nil {
					of[c] = &result{Work: w.name, Contender: c.Name, work: w}
					results = append(results, of[c])
				}
				if err := measure(of[c], c, w, duration); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", w.name, c.Name, err)
				}
			}
		}
		for _, c := range contenders {
			of[c].summarize(c)
		}
		for _, r := range of {
			for _, c := range contenders {
				if c.Name == "ReverseProxy" && of[c].CPU > 0 {
					r.CPURatio = r.CPU / of[c].CPU
				}
			}
		}
	}
	return results, nil
}

func (r *result) summarize(c *contender) {
	slices.Sort(r.latencies)
	at := func(q float64) float64 {
		if len(r.latencies) == 0 {
			return 0
		}
		return float64(r.latencies[int(q*float64(len(r.latencies)-1))].Nanoseconds()) / 1000
	}
	r.P50, r.P99 = at(0.5), at(0.99)
	r.PerSecond = float64(r.Requests) / r.elapsed.Seconds()
	r.Unit, r.CPU = "µs/request", r.cpuSeconds*1e6/float64(r.Requests)
	if r.work.large {
		r.Unit, r.CPU = "s/GiB", r.cpuSeconds/(float64(r.Requests)*float64(r.work.bytes)/(1<<30))
	}
	if c.cmd != nil {
		r.PeakRSS = peakRSS(c.cmd.Process.Pid)
	}
}

func printTable(w io.Writer, results []*result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "work\tproxy\tCPU\t\t× ReverseProxy\trequests/s\tp50 µs\tp99 µs\tpeak RSS MiB")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%.3g\t%s\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\n",
			r.Work, r.Contender, r.CPU, r.Unit, r.CPURatio, r.PerSecond, r.P50, r.P99, r.PeakRSS)
	}
	t.Flush()
}

// start starts the backend and every contender there is. stop ends them all.
func start(dir string) (backend string, contenders []*contender, stop func(), err error) {
	var processes []*exec.Cmd
	stop = func() {
		for _, p := range processes {
			p.Process.Kill()
			p.Wait()
		}
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, stop, err
	}
	launch := func(name, addr string, argv ...string) error {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stderr = os.Stderr
		if logFile, err := os.Create(filepath.Join(dir, name+".log")); err == nil && name == "s3-proxy" {
			cmd.Stderr = logFile // its access log, as an operator would have it
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		processes = append(processes, cmd)
		if name != "backend" {
			contenders = append(contenders, &contender{Name: name, addr: addr, cmd: cmd})
		}
		return await(addr)
	}
	backend = freeAddr()
	if err := launch("backend", backend, self, "-role", "backend", "-listen", backend, "-files", dir); err != nil {
		return backend, nil, stop, err
	}
	gateway, config, err := buildGateway(dir, backend)
	if err != nil {
		return backend, nil, stop, err
	}
	if err := launch("s3-proxy", gateway, filepath.Join(dir, "s3-proxy"), "-config", config, "-log-format", "json"); err != nil {
		return backend, nil, stop, err
	}
	addr := freeAddr()
	if err := launch("ReverseProxy", addr, self, "-role", "reverseproxy", "-listen", addr, "-upstream", "http://"+backend); err != nil {
		return backend, nil, stop, err
	}
	for name, conf := range map[string]string{"nginx": nginxConfig, "haproxy": haproxyConfig} {
		program, err := exec.LookPath(name)
		if err != nil {
			log.Printf("%s is not installed: left out", name)
			continue
		}
		addr := freeAddr()
		file := filepath.Join(dir, name+".conf")
		conf = strings.NewReplacer("@DIR@", dir, "@ADDR@", addr, "@BACKEND@", backend).Replace(conf)
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return backend, nil, stop, err
		}
		argv := []string{program, "-c", file}
		if name == "haproxy" {
			argv = []string{program, "-db", "-f", file}
		}
		if err := launch(name, addr, argv...); err != nil {
			return backend, nil, stop, err
		}
	}
	return backend, contenders, stop, nil
}

func buildGateway(dir, backend string) (addr, config string, err error) {
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "s3-proxy"), "..").CombinedOutput(); err != nil {
		if out2, err := exec.Command("go", "build", "-o", filepath.Join(dir, "s3-proxy"), ".").CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("go build: %w\n%s%s", err, out, out2)
		}
	}
	addr = freeAddr()
	_, port, _ := net.SplitHostPort(addr)
	config = filepath.Join(dir, "config.json")
	return addr, config, os.WriteFile(config, fmt.Appendf(nil, `{
		"server": {"port": %s},
		"accounts": {"bench": {"endpoint_url": "http://%s", "access_key_id": "bench", "secret_access_key": "bench", "buckets": ["photos"]}},
		"users": {"bench": {"api_key": %q, "role": "admin", "allowed_buckets": ["*"]}},
		"max_file_size": 1099511627776,
		"rate_limit": {"requests": 1000000, "window_seconds": 1}
	}`, port, backend, apiKey), 0o600)
}

// nginxConfig is a plain reverse proxy with one worker, as the gateway has one process.
const nginxConfig = `daemon off; master_process off; worker_processes 1; pid @DIR@/nginx.pid; error_log @DIR@/nginx.err;
events { worker_connections 4096; }
http {
  access_log @DIR@/nginx.access; keepalive_requests 1000000; client_max_body_size 0; proxy_max_temp_file_size 0;
  client_body_temp_path @DIR@/n1; proxy_temp_path @DIR@/n2; fastcgi_temp_path @DIR@/n3; uwsgi_temp_path @DIR@/n4; scgi_temp_path @DIR@/n5;
  upstream backend { server @BACKEND@; keepalive 64; keepalive_requests 1000000; }
  server { listen @ADDR@; location / {
    proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
  } }
}
`

const haproxyConfig = `defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind @ADDR@
  default_backend back
backend back
  http-reuse always
  server b @BACKEND@
`

// freeAddr returns an address that nobody listens on now.
func freeAddr() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// await waits until something listens.
func await(addr string) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
