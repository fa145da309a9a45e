package main

// The site of a run: backends, fault proxies, gateways, the store of the shared limit, users.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// An account is a backend, and the fault proxy before it if there is one.
type account struct {
	name    string
	buckets []string
	backend *backend
	proxy   *faultProxy // nil: no faults
}

// A site is everything that a run starts.
type site struct {
	options
	ledger   *ledger
	dir      string
	roots    *x509.CertPool
	accounts []*account
	gateways []*gateway
	clients  map[*gateway]*http.Client
	redis    *redisStore // nil: not installed

	badReloads int // so far

	writer, reader, admin, outsider, limited *user
}

// newSite starts backends and gateways. The caller ends it, whatever the error.
func newSite(o options, l *ledger, binary, dir string) (*site, error) {
	s := &site{options: o, ledger: l, dir: dir, clients: map[*gateway]*http.Client{}}
	for i, name := range []string{"alpha", "beta", "calm"} {
		if err := s.addAccount(name, name != "calm", uint64(i)); err != nil {
			return s, err
		}
	}
	all := s.bucketsOf(nil)
	s.writer = &user{name: "writer", role: "user", buckets: all}
	s.reader = &user{name: "reader", role: "readonly", buckets: all}
	s.admin = &user{name: "admin", role: "admin", buckets: []string{"*"}}
	s.outsider = &user{name: "outsider", role: "user", buckets: []string{"beta-2"}}
	s.limited = &user{name: "limited", role: "readonly", buckets: all, requests: limitedRequests}
	for _, u := range s.users() {
		u.keys = []string{s.newKey()}
	}
	var err error
	if s.redis, err = startRedis(l, dir); err != nil {
		return s, err
	}
	return s, s.startGateways(binary)
}

// addAccount starts the backend of an account, and with faults a proxy before it.
func (s *site) addAccount(name string, faults bool, number uint64) (err error) {
	a := &account{name: name, buckets: []string{name + "-1", name + "-2"}}
	s.accounts = append(s.accounts, a)
	if a.backend, err = startBackend(s.ledger, keyPair{"AKIASOAK" + name, newSecret()}, !faults, a.buckets...); err != nil || !faults {
		return err
	}
	a.proxy, err = startFaultProxy(s.ledger, a.backend.address, s.seed+number, 2*idleTimeout)
	return err
}

// startGateways starts two gateways with one configuration: one serves plain HTTP, the other TLS
// and HTTP/2.
func (s *site) startGateways(binary string) error {
	files, config, err := s.makeCertificate()
	if err != nil {
		return err
	}
	for _, name := range []string{"plain", "tls"} {
		pair := files
		if name == "plain" {
			pair = [2]string{}
		}
		g, err := newGateway(s.ledger, name, binary, s.dir, pair)
		if err != nil {
			return err
		}
		s.gateways = append(s.gateways, g)
		s.clients[g] = newClient(config)
		if err := g.configure(s.configuration()); err != nil {
			return err
		}
		if err := g.start(); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) users() []*user { return []*user{s.writer, s.reader, s.admin, s.outsider, s.limited} }

// bucketsOf returns the buckets of a user, or of all accounts.
func (s *site) bucketsOf(u *user) []string {
	if u != nil && !slices.Contains(u.buckets, "*") {
		return u.buckets
	}
	var all []string
	for _, a := range s.accounts {
		all = append(all, a.buckets...)
	}
	return all
}

// calm is the account without faults.
func (s *site) calm() *account { return s.accounts[len(s.accounts)-1] }

// configuration returns what all gateways have in common.
func (s *site) configuration() map[string]any {
	accounts, users := map[string]any{}, map[string]any{}
	for _, a := range s.accounts {
		endpoint := a.backend.address
		if a.proxy != nil {
			endpoint = a.proxy.address
		}
		accounts[a.name] = map[string]any{
			"endpoint_url": "http://" + endpoint, "region": region, "buckets": a.buckets,
			"access_key_id": a.backend.keys.id, "secret_access_key": a.backend.keys.secret,
			"connect_timeout": "2s", "response_header_timeout": idleTimeout.String(), "max_in_flight": 200,
		}
	}
	for _, u := range s.users() {
		u.mu.Lock()
		users[u.name] = map[string]any{"api_keys": slices.Clone(u.keys), "role": u.role, "allowed_buckets": u.buckets,
			"rate_limit": map[string]any{"requests": u.requests, "window_seconds": int(limitedWindow / time.Second)}}
		u.mu.Unlock()
	}
	limit := map[string]any{"requests": 0}
	if s.redis != nil {
		limit["redis_url"] = s.redis.url
	}
	return map[string]any{"accounts": accounts, "users": users, "nested_keys": true, "rate_limit": limit}
}

// newSecret returns a random secret of 192 bits.
func newSecret() string {
	var b [24]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// newKey returns a random API key, which may be in no log.
func (s *site) newKey() string {
	key := newSecret()
	s.ledger.secrets.add(key)
	return key
}

// makeCertificate writes a certificate for localhost and its key.
func (s *site) makeCertificate() (files [2]string, config *tls.Config, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "soak"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return files, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return files, nil, err
	}
	files = [2]string{filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")}
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: certificate}, {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(files[i], pem.EncodeToMemory(block), 0o600); err != nil {
			return files, nil, err
		}
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return files, nil, err
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(parsed)
	return files, &tls.Config{RootCAs: s.roots}, nil
}

// end ends what was started.
func (s *site) end() {
	for _, g := range s.gateways {
		g.stop()
	}
	for _, a := range s.accounts {
		if a.proxy != nil {
			a.proxy.shut()
		}
		if a.backend != nil {
			a.backend.server.Close()
		}
	}
	if s.redis != nil {
		s.redis.kill()
	}
}

// A redisStore is the store of the shared limit, as a process.
type redisStore struct {
	url, port, password, dir string

	starts atomic.Int64 // so far

	mu      sync.Mutex // guards the rest
	process *exec.Cmd
}

// startRedis starts redis-server on a free port. Without the program there is no shared limit.
func startRedis(l *ledger, dir string) (*redisStore, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	r := &redisStore{port: port, password: newSecret(), dir: dir}
	r.url = "redis://:" + r.password + "@127.0.0.1:" + port
	l.secrets.add(r.password)
	return r, r.start()
}

// start starts the process and waits until it accepts connections.
func (r *redisStore) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts.Add(1)
	r.process = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", r.port, "--requirepass", r.password, "--save", "", "--dir", r.dir)
	if err := r.process.Start(); err != nil {
		return err
	}
	for range 500 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+r.port); err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("redis-server does not accept connections")
}

// kill ends the process at once.
func (r *redisStore) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process.Process.Kill()
	r.process.Wait()
}

// build builds the program, from the tree that holds this folder or from another.
func build(tree, to string, race bool) error {
	arguments := []string{"build", "-buildvcs=false", "-o", to}
	if race {
		arguments = append(arguments, "-race")
	}
	c := exec.Command("go", append(arguments, ".")...)
	c.Dir = tree
	if output, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return nil
}
