//go:build linux

package main

// What is started for a run: backends and contenders, and how they are ended.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	certFile = "cert.pem"
	keyFile  = "key.pem"

	// The contenders that others are compared with.
	ours   = "s3-proxy"
	bare   = "ReverseProxy"
	floor  = "floor"  // a handler of net/http that has the object in memory
	direct = "direct" // to the backend

	startPatience = 20 * time.Second
	benchKey      = "bench-key-0123456789abcdef" // of the user who may do everything
)

// objects are the files that can be read, and their sizes in bytes.
var objects = map[string]int64{"4k": 4 << 10, "1m": 1 << 20, "256m": 256 << 20, "1g": 1 << 30}

// A site is all that runs. The buckets "uploads" and "million" are behind sink,
// "vault" is behind secure, "stuck" is behind stuck, all others are behind files.
type site struct {
	ctx       context.Context
	cancel    context.CancelFunc
	dir       string // temporary
	backend   string // which ones, in words
	files     string // host:port, as are the next three
	sink      string
	secure    string
	stuck     string // nobody listens there but in measureNeighbours
	processes []*process
}

// A process is a program that bench has started: a backend or a contender.
type process struct {
	name    string
	addr    string        // where it listens
	pid     int           // 0: of no interest
	metrics string        // the URL to scrape; "": none
	log     string        // the file of its access log; "": none
	output  string        // the file of what else it has to say
	cancel  func()        // kills it
	ended   chan struct{} // closed when it has
}

// newSite builds the gateway and starts the backends. Whatever it returns is to be
// ended.
func newSite(ctx context.Context) (*site, error) {
	s := &site{}
	s.ctx, s.cancel = context.WithCancel(ctx)
	var err error
	if s.dir, err = os.MkdirTemp("", "s3-proxy-bench-"); err != nil {
		return s, err
	}
	for name, size := range objects {
		file := filepath.Join(s.dir, name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
			return s, err
		}
	}
	if err := writeCertificate(s.dir); err != nil {
		return s, err
	}
	if err := s.build(); err != nil {
		return s, err
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	s.sink, s.secure, s.stuck = freeAddr(), freeAddr(), freeAddr()
	s.files, s.backend = s.sink, "built in"
	if _, err = s.launch("backend", s.sink, self, serveArgument, "backend", s.sink, s.secure, s.dir); err != nil {
		return s, err
	}
	// Nginx sends files with the least CPU and no garbage collector, but takes
	// uploads only to store them.
	if program, err := exec.LookPath("nginx"); err == nil {
		s.files, s.backend = freeAddr(), "nginx for GET of http, built in for PUT, lists and https"
		file, err := s.writeConfig("nginx-backend", s.files, nginxFiles)
		if err != nil {
			return s, err
		}
		if _, err := s.launch("nginx-backend", s.files, program, "-c", file); err != nil {
			return s, err
		}
	}
	return s, nil
}

// end kills all processes and removes all files.
func (s *site) end() {
	s.cancel()
	for _, p := range s.processes {
		<-p.ended
	}
	os.RemoveAll(s.dir)
}

// obituary names the processes that have ended by themselves, with their last words.
func (s *site) obituary() error {
	var all []error
	for _, p := range s.processes {
		select {
		case <-p.ended:
			output, _ := os.ReadFile(p.output)
			all = append(all, fmt.Errorf("%s has ended: %s", p.name, output))
		default:
		}
	}
	return errors.Join(all...)
}

// kill ends a process that is of no more use.
func (s *site) kill(p *process) {
	p.cancel()
	<-p.ended
	s.processes = slices.DeleteFunc(s.processes, func(q *process) bool { return p == q })
}

// launch starts a program and waits until it listens.
func (s *site) launch(name, addr string, argv ...string) (*process, error) {
	p := &process{name: name, addr: addr, output: filepath.Join(s.dir, addr+".out"), ended: make(chan struct{})}
	output, err := os.Create(p.output)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	ctx, cancel := context.WithCancel(s.ctx)
	p.cancel = cancel
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should bench itself be killed
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	p.pid = cmd.Process.Pid
	s.processes = append(s.processes, p)
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	for deadline := time.Now().Add(startPatience); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return p, conn.Close()
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("%s does not start", name) // the obituary has the rest
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not listen: %w", name, err)
		}
	}
}

// contenders starts all proxies there are. The gateway is the first; the last two are
// the floor and the direct way.
func (s *site) contenders() ([]*process, error) {
	gateway, err := s.launchGateway(0)
	if err != nil {
		return nil, err
	}
	reverseProxy, err := s.launchReverseProxy()
	if err != nil {
		return nil, err
	}
	all := []*process{gateway, reverseProxy}
	for name, launch := range map[string]func(program string) (*process, error){"nginx": s.launchNginx, "haproxy": s.launchHAProxy} {
		program, err := exec.LookPath(name)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s is not installed: left out\n", name)
			continue
		}
		p, err := launch(program)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all[2:], func(p, q *process) int { return strings.Compare(q.name, p.name) })
	lowest, err := s.launchFloor()
	if err != nil {
		return nil, err
	}
	return append(all, lowest, &process{name: direct}), nil
}

// launchGateway starts the gateway, with as many users that have a bucket each
// besides those that the works need.
func (s *site) launchGateway(users int) (*process, error) {
	addr, admin := freeAddr(), freeAddr()
	config := filepath.Join(s.dir, addr+".json")
	logFile := filepath.Join(s.dir, addr+".log")
	data, err := json.Marshal(s.gatewayConfig(addr, admin, users))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, data, 0o600); err != nil {
		return nil, err
	}
	p, err := s.launch(ours, addr, filepath.Join(s.dir, ours), "-config", config, "-log-file", logFile)
	if err != nil {
		return nil, err
	}
	p.metrics, p.log = "http://"+admin+"/metrics", logFile
	return p, nil
}

func (s *site) launchReverseProxy() (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr := freeAddr()
	return s.launch(bare, addr, self, serveArgument, "reverseproxy", addr, s.files, s.sink, s.secure, s.dir)
}

func (s *site) launchFloor() (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr := freeAddr()
	return s.launch(floor, addr, self, serveArgument, "floor", addr)
}

func (s *site) launchNginx(program string) (*process, error) {
	addr := freeAddr()
	file, err := s.writeConfig("nginx", addr, nginxProxy)
	if err != nil {
		return nil, err
	}
	p, err := s.launch("nginx", addr, program, "-c", file)
	if err != nil {
		return nil, err
	}
	p.log = file + ".access"
	return p, nil
}

func (s *site) launchHAProxy(program string) (*process, error) {
	addr := freeAddr()
	file, err := s.writeConfig("haproxy", addr, haproxyConfig)
	if err != nil {
		return nil, err
	}
	return s.launch("haproxy", addr, program, "-db", "-f", file)
}

// behind is where a request for target ends up.
func (s *site) behind(target string) string {
	switch {
	case strings.HasPrefix(target, "/uploads"), strings.HasPrefix(target, "/million"):
		return s.sink
	case strings.HasPrefix(target, "/vault"):
		return s.secure
	}
	return s.files
}

// build builds the gateway, wherever in the project bench was started.
func (s *site) build() error {
	root, err := exec.CommandContext(s.ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list: %w; start bench in the project's folder", err)
	}
	cmd := exec.CommandContext(s.ctx, "go", "build", "-o", filepath.Join(s.dir, ours), ".")
	cmd.Dir = strings.TrimSpace(string(root))
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return nil
}

// writeCertificate writes a certificate that is its own authority, and its key.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "bench"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// freeAddr returns an address that nobody listens on now.
func freeAddr() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
