package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"
)

// onPort returns a change: the gateway listens on the port of a listener.
func onPort(t *testing.T, setting string, addr net.Addr) func(map[string]any) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return with(setting, n)
}

func testDoctorLocal(t *testing.T, e *everyVerdict) {
	demo := startDemoBackend(t)
	g := startGateway(t, testConfig(demo.URL))
	running := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "healthy") }))
	t.Cleanup(running.Close)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	ca := newTestCA(t, "The Test Authority")
	const day = 24 * time.Hour
	pair := func(left time.Duration) func(map[string]any) {
		cert, key := ca.issue(t, "gateway.example", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) })
		files := tlsFiles(t, cert, key)
		return func(c map[string]any) {
			with("server.tls_cert_file", files[0])(c)
			with("server.tls_key_file", files[1])(c)
		}
	}
	broken := tlsFiles(t, "no certificate", "no key")
	old, _ := ca.sign(t, "The Old Authority", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.NotAfter = true, true, time.Now().Add(-day)
	})
	cert := "server.tls_cert_file"
	e.diagnose(t, []patient{
		{name: "any", config: testConfig(demo.URL), subject: "server.port", verdict: "port_free"},
		{name: "this one", config: testConfig(demo.URL, onPort(t, "server.port", free.Addr())), subject: "server.port", verdict: "port_free", text: []string{free.Addr().String()}},
		{name: "by a service", config: testConfig(demo.URL, onPort(t, "server.port", demo.Listener.Addr())), subject: "server.port", verdict: "port_taken", text: []string{"another program"}},
		{name: "of the admin pages", config: testConfig(demo.URL, onPort(t, "server.admin.port", demo.Listener.Addr())), subject: "server.admin.port", verdict: "port_taken"},
		{name: "with the health page", config: testConfig(demo.URL, onPort(t, "server.port", running.Listener.Addr())), subject: "server.port", verdict: "port_gateway"},
		{name: "of another machine", config: testConfig(demo.URL, with("server.host", "192.0.2.1"), onPort(t, "server.port", free.Addr())), subject: "server.port", verdict: "port_refused", text: []string{"not an address of this machine"}},
		{name: "for long", config: testConfig(demo.URL, pair(90*day+time.Hour)), subject: cert, verdict: "certificate_ok", text: []string{"gateway.example", "90 days"}},
		{name: "soon", config: testConfig(demo.URL, pair(2*day+time.Hour)), subject: cert, verdict: "certificate_expires", text: []string{"2 days left"}},
		{name: "yesterday", config: testConfig(demo.URL, pair(-day)), subject: cert, verdict: "certificate_expired", text: []string{"renew it"}},
		{name: "no PEM", config: testConfig(demo.URL, with(cert, broken[0]), with("server.tls_key_file", broken[1])), subject: cert, verdict: "certificate_error"},
		{name: "of clients", config: testConfig(demo.URL, pair(90*day), with("server.tls_client_ca_file", tlsFiles(t, "", "", certToPEM(ca.cert)+certToPEM(old))[2])), subject: "server.tls_client_ca_file", verdict: "client_ca_expired", text: []string{"The Old Authority"}},
		{name: "by anybody", config: testConfig(demo.URL, with("users.admin.allowed_buckets", []any{"photos"})), subject: "bucket secret", verdict: "bucket_unused", text: []string{"accounts.main"}},
	})
	t.Run("descriptors", func(t *testing.T) { testDoctorDescriptors(t, e) })
	if resp, body := g.do("GET", "/photos", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("the gateway answers %d %s", resp.StatusCode, body)
	}
}

func testDoctorDescriptors(t *testing.T, e *everyVerdict) {
	for _, test := range []struct {
		connections int
		limit       float64
		verdict     string
	}{
		{0, 1024, "descriptors_ok"},
		{1000, 65536, "descriptors_ok"},
		{1000, 1024, "descriptors_few"},
		{1000, math.Inf(1), "descriptors_ok"},
		{1000, math.NaN(), ""},
	} {
		r := &report{}
		d := &localDoctor{chapter: r.chapter(""), conf: &config{listeners: listeners{maxConnections: test.connections}}}
		d.descriptors(test.limit)
		e.note(r)
		if test.verdict != "" {
			r.want(t, "server.max_connections", test.verdict)
		} else if len(r.findings()) > 0 {
			t.Errorf("findings where the limit is not known: %v", r.findings())
		}
	}
}

// A running gateway is told apart, also where it serves TLS and asks for a certificate.
func TestDoctorKnowsARunningGateway(t *testing.T) {
	ca := newTestCA(t, "The Test Authority")
	certPEM, keyPEM := ca.issue(t, "localhost", nil)
	files := tlsFiles(t, certPEM, keyPEM, certToPEM(ca.cert))
	for _, clientCA := range []string{"", files[2]} {
		changes := []func(map[string]any){with("server.tls_cert_file", files[0]), with("server.tls_key_file", files[1])}
		if clientCA != "" {
			changes = append(changes, with("server.tls_client_ca_file", clientCA))
		}
		path := writeConfig(t, testConfig(startDemoBackend(t).URL, changes...))
		conf, err := loadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		ready := make(chan net.Addr, 1)
		log := &syncBuffer{}
		logger, err := newLogger(log, "json", "info", false)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- serve(t.Context(), conf, launch{log: logger, ready: func(addr, _ net.Addr) { ready <- addr }})
		}()
		addr := <-ready
		r := &report{}
		d := &localDoctor{chapter: r.chapter(""), conf: conf}
		d.certificates()
		d.port(t.Context(), "server", addr.String(), true)
		r.want(t, "server.port", "port_gateway")
		t.Cleanup(func() { <-ended })
	}
	other, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.client(t, "other")}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			go func() { conn.(*tls.Conn).Handshake(); conn.Close() }()
		}
	}()
	r := &report{}
	(&localDoctor{chapter: r.chapter(""), conf: &config{}}).port(t.Context(), "server", other.Addr().String(), true)
	r.want(t, "server.port", "port_taken")
}
