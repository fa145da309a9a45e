package main

// The doctor at home: what can be seen without asking a backend. Ports, certificates, the
// descriptors of the process, and buckets that nobody may use.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	neighbourTime    = 2 * time.Second // for who has a port to say whether it is a gateway
	descriptorsSpare = 100             // for what is no connection: files, listeners, credentials
)

// A localDoctor examines what is on this machine.
type localDoctor struct {
	*chapter
	conf *config
	leaf *x509.Certificate // that clients see; nil: none
}

// examine fills the chapter.
func (d *localDoctor) examine(ctx context.Context) {
	defer d.begin("")
	d.begin("certificates")
	d.certificates()
	d.begin("ports")
	d.port(ctx, "server", d.conf.listen, d.conf.certFile != "")
	if d.conf.admin != "" {
		d.port(ctx, "server.admin", d.conf.admin, false)
	}
	d.descriptors(procNumber("/proc/self/limits", "Max open files"))
	d.unused()
}

// certificates examines the pair that clients see, and the authorities of theirs.
func (d *localDoctor) certificates() {
	conf := d.conf
	if conf.certFile == "" {
		return
	}
	t, err := newServerTLS(conf.certFile, conf.keyFile, conf.clientCA, slog.New(slog.DiscardHandler))
	if err != nil {
		d.add("server.tls_cert_file", "certificate_error", "%v", err)
		return
	}
	d.leaf = t.current.Load().Certificates[0].Leaf
	names := strings.Join(hostsOf(d.leaf), " ")
	switch left := time.Until(d.leaf.NotAfter); {
	case left < 0:
		d.add("server.tls_cert_file", "certificate_expired", "%s expired on %s, and clients refuse it; renew it", conf.certFile, d.leaf.NotAfter.UTC().Format(time.DateOnly))
	case time.Now().Before(d.leaf.NotBefore):
		d.add("server.tls_cert_file", "certificate_expired", "%s is valid from %s on; is the clock of this machine right?", conf.certFile, d.leaf.NotBefore.UTC().Format(time.RFC3339))
	case left < expiresSoon:
		d.add("server.tls_cert_file", "certificate_expires", "%s is for %s, %s left; renew it", conf.certFile, names, daysUntil(d.leaf.NotAfter))
	default:
		d.add("server.tls_cert_file", "certificate_ok", "%s is for %s, %s left", conf.certFile, names, daysUntil(d.leaf.NotAfter))
	}
	d.authorities()
}

// authorities warns of those of clients that have expired.
func (d *localDoctor) authorities() {
	data, _ := os.ReadFile(cmp.Or(d.conf.clientCA, os.DevNull)) // newServerTLS has read it
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if authority, err := x509.ParseCertificate(block.Bytes); err == nil && time.Now().After(authority.NotAfter) {
			d.add("server.tls_client_ca_file", "client_ca_expired", "the authority %q expired on %s; clients with its certificates are refused", authority.Subject.CommonName, authority.NotAfter.UTC().Format(time.DateOnly))
		}
	}
}

// port examines whether the program could listen on an address.
func (d *localDoctor) port(ctx context.Context, path, addr string, secure bool) {
	at := path + ".port"
	if _, number, _ := net.SplitHostPort(addr); number == "0" {
		d.add(at, "port_free", "any free port")
		return
	}
	var none inheritedSockets
	ln, err := none.listen(path, addr)
	switch {
	case err == nil:
		ln.Close()
		d.add(at, "port_free", "%s is free", addr)
	case errors.Is(err, syscall.EADDRINUSE) && d.isGateway(ctx, addr, secure):
		d.add(at, "port_gateway", "a gateway is running on %s; a second one needs another port", addr)
	case errors.Is(err, syscall.EADDRINUSE):
		d.add(at, "port_taken", "another program has %s; stop it (ss -ltnp shows which), or set %s", addr, at)
	default:
		d.add(at, "port_refused", "%v", err)
	}
}

// isGateway reports whether what listens on an address is a gateway: it has the health page, or
// the certificate of this configuration, where a client needs one itself. Nothing secret is
// sent, so the answer need not be trusted.
func (d *localDoctor) isGateway(ctx context.Context, addr string, secure bool) bool {
	ctx, cancel := context.WithTimeout(ctx, neighbourTime)
	defer cancel()
	host, port, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme, sameCertificate := "http", false
	transport := &http.Transport{DisableKeepAlives: true}
	if secure {
		scheme = "https"
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
			sameCertificate = d.leaf != nil && bytes.Equal(state.PeerCertificates[0].Raw, d.leaf.Raw)
			return nil
		}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+healthyPage, nil)
	if err != nil {
		return false
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return sameCertificate
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxForeign))
	return resp.StatusCode == http.StatusOK && strings.TrimSpace(string(text)) == "healthy"
}

// descriptors compares the limit of this process with what the connections need: each client
// one, and one to a backend.
func (d *localDoctor) descriptors(limit float64) {
	needed := float64(2*d.conf.maxConnections + descriptorsSpare)
	switch {
	case limit != limit: // it is not known here
	case d.conf.maxConnections == 0:
		d.add("server.max_connections", "descriptors_ok", "no limit; this shell allows %.0f descriptors, which is about %.0f connections", limit, (limit-descriptorsSpare)/2)
	case limit < needed:
		d.add("server.max_connections", "descriptors_few", "%d connections need %.0f descriptors, and this shell allows %.0f; raise LimitNOFILE= (ulimit -n), or lower max_connections", d.conf.maxConnections, needed, limit)
	default:
		d.add("server.max_connections", "descriptors_ok", "%d connections; this shell allows %.0f descriptors", d.conf.maxConnections, limit)
	}
}

// unused warns of buckets that no user may use.
func (d *localDoctor) unused() {
	for _, name := range slices.Sorted(maps.Keys(d.conf.buckets)) {
		if !slices.ContainsFunc(d.conf.users, func(u *user) bool { return u.mayUse(name) }) {
			d.add("bucket "+name, "bucket_unused", "no user may use it; name it in the allowed_buckets of one, or take it out of accounts.%s", d.conf.buckets[name].account.name)
		}
	}
}
