package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// startSecure is an S3 server with a certificate of an authority, for localhost and 127.0.0.1
// unless changed.
func startSecure(t *testing.T, ca *testCA, change func(*x509.Certificate)) string {
	t.Helper()
	cert, key := ca.sign(t, "localhost", change)
	server := httptest.NewUnstartedServer(lists(0))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func testDoctorTLS(t *testing.T, e *everyVerdict) {
	ca, other := newTestCA(t, "The Test Authority"), newTestCA(t, "Another Authority")
	trusted := with("accounts.main.ca_file", tlsFiles(t, "", "", certToPEM(ca.cert))[2])
	mistaken := with("accounts.main.ca_file", tlsFiles(t, "", "", certToPEM(other.cert))[2])
	secure := func(change func(*x509.Certificate)) string { return startSecure(t, ca, change) }
	valid := func(from, until time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(until) }
	}
	const day = 24 * time.Hour
	plain := httptest.NewServer(lists(0))
	t.Cleanup(plain.Close)
	https := func(endpoint string) string { return strings.Replace(endpoint, "http:", "https:", 1) }
	hasty := startRawBackend(t, func(int, net.Conn, *bufio.Reader) {})
	silent := startRawBackend(t, func(_ int, _ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	alone := startSecure(t, new(testCA), nil)
	hostile := newTestCA(t, testCredentials.SecretAccessKey+" \x1b[31m")
	patients := []patient{
		{name: "for long", config: testConfig(secure(valid(-day, 90*day+time.Hour)), trusted), verdict: "tls_ok", text: []string{"localhost", "The Test Authority", "90 days"}},
		{name: "soon", config: testConfig(secure(valid(-day, 3*day+time.Hour)), trusted), verdict: "tls_expires", text: []string{"3 days left"}},
		{name: "yesterday", config: testConfig(secure(valid(-9*day, -day)), trusted), verdict: "tls_expired", text: []string{"ca_file would not help"}},
		{name: "not yet valid", config: testConfig(secure(valid(day, 9*day)), trusted), verdict: "tls_expired", text: []string{"clock of this machine"}},
		{name: "that nobody named", config: testConfig(secure(nil)), verdict: "tls_authority", text: []string{`"The Test Authority"`, "name the file in accounts.main.ca_file"}},
		{name: "that ca_file lacks", config: testConfig(secure(nil), mistaken), verdict: "tls_authority", text: []string{"ca_file does not have that authority"}},
		{name: "of its own", config: testConfig(alone), verdict: "tls_authority", text: []string{"its own authority"}},
		{name: "with hostile names", config: testConfig(startSecure(t, hostile, nil)), verdict: "tls_authority", text: []string{"not shown"}},
		{name: "of another host", config: testConfig(secure(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"s3.example"}, nil }), trusted), verdict: "tls_name", text: []string{"is for s3.example"}},
		{name: "for clients", config: testConfig(secure(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), trusted), verdict: "tls_invalid"},
		{name: "on a plain port", config: testConfig(https(plain.URL)), verdict: "tls_plain", text: []string{"http://"}},
		{name: "by a close", config: testConfig(https(hasty)), verdict: "tls_failed"},
		{name: "by silence", config: testConfig(https(silent), with("accounts.main.connect_timeout", "200ms")), verdict: "tls_failed", text: []string{"does not answer a TLS handshake"}},
	}
	for i := range patients {
		patients[i].subject = "accounts.main"
	}
	e.diagnose(t, patients)
}

// A ca_file replaces the system's authorities, so it can be what keeps a certificate from being
// trusted.
func TestDoctorKnowsWhatTheSystemTrusts(t *testing.T) {
	ca, other := newTestCA(t, "The Test Authority"), newTestCA(t, "Another Authority")
	files := tlsFiles(t, "", "", certToPEM(ca.cert))
	t.Setenv("SSL_CERT_FILE", files[2])
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	cert, _ := ca.sign(t, "localhost", nil)
	if _, err := cert.Verify(x509.VerifyOptions{}); err != nil {
		t.Skip("the system's authorities were read before")
	}
	p := peer{ca: "accounts.main.ca_file", roots: other.pool()}
	if got := p.trust([]*x509.Certificate{cert}); !strings.Contains(got, "leave out accounts.main.ca_file") {
		t.Errorf("trust = %q, want advice to leave ca_file out", got)
	}
}
