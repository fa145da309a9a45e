package main

// TLS on both sides: the certificate that clients see, which may change while the
// gateway runs, and the authorities that are trusted, of clients and of backends.
// With TLS comes HTTP/2.
//
// Whoever renews a certificate replaces two files, one after the other, or swaps a
// symbolic link under both. So the files are read whole each time, and a pair that
// does not match, or is half written, changes nothing: it is looked at again later.

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// With net/http's own 1 MiB for each of these, one upload whose backend is slow would
// take all that its connection may send, and the uploads beside it would stand still;
// and 64 of them would hold 64 MiB. 256 KiB are enough for 25 MB/s at 10 ms.
const (
	http2StreamBuffer     = 256 << 10 // bytes of an upload that wait to be read
	http2ConnectionBuffer = 2 << 20   // bytes of all uploads on a connection
	http2Frame            = 16 << 10  // bytes; net/http hands on whole frames, so one is the least progress of an upload
)

// A serverTLS is what TLS handshakes of clients are done with. Its methods may be
// called by several goroutines at once.
type serverTLS struct {
	certFile, keyFile string
	clientCAFile      string // "": clients need no certificate
	log               *slog.Logger

	current atomic.Pointer[tls.Config]

	mu   sync.Mutex           // held while files are read; guards seen
	seen [3][sha256.Size]byte // digests of the files that current was made from
}

// newServerTLS reads a certificate with its chain and its key, and with a
// clientCAFile the authorities of which one must have signed a client's certificate.
// All are PEM. The error names the setting, the file, and what to do.
func newServerTLS(certFile, keyFile, clientCAFile string, log *slog.Logger) (*serverTLS, error) {
	t := &serverTLS{certFile: certFile, keyFile: keyFile, clientCAFile: clientCAFile, log: log}
	if err := t.reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// serve answers on a listener until the server is shut down, with HTTP/2 for
// clients that speak it. It returns as http.Server.Serve does.
func (t *serverTLS) serve(server *http.Server, listener net.Listener) error {
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // as far as net/http can see: see tlsListener
	server.HTTP2 = &http.HTTP2Config{
		MaxReceiveBufferPerStream:     http2StreamBuffer,
		MaxReceiveBufferPerConnection: http2ConnectionBuffer,
		MaxReadFrameSize:              http2Frame,
	}
	return server.Serve(tlsListener{listener, t.config(), server.ReadHeaderTimeout, server.ErrorLog})
}

// config returns a configuration whose handshakes are done with what build made last.
// The keys of session tickets are its own, so tickets outlive a reload; crypto/tls
// checks the certificate of a client that comes with one against the authorities of
// today.
func (t *serverTLS) config() *tls.Config {
	return &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current.Load(), nil },
	}
}

// watch looks at the files every so often, until ctx is done. A fault is logged
// once, however long it stays.
func (t *serverTLS) watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for known := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		fault := ""
		err := t.reload()
		if err != nil {
			fault = err.Error()
		}
		if err != nil && fault != known {
			t.log.Warn("could not reload the TLS files; keeping the previous certificate", localCauseAttr(err))
		}
		known = fault
	}
}

// reload reads the files, and takes them over if they have changed and are right.
// After an error all is as before.
func (t *serverTLS) reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var data [3][]byte
	var seen [3][sha256.Size]byte
	for i, file := range []struct{ setting, path string }{
		{"server.tls_cert_file", t.certFile},
		{"server.tls_key_file", t.keyFile},
		{"server.tls_client_ca_file", t.clientCAFile},
	} {
		if file.path == "" {
			continue
		}
		var err error
		if data[i], err = os.ReadFile(file.path); err != nil {
			return fmt.Errorf("%s: %w", file.setting, err)
		}
		seen[i] = sha256.Sum256(data[i])
	}
	if t.current.Load() != nil && seen == t.seen {
		return nil
	}
	tlsConfig, err := t.build(data[0], data[1], data[2])
	if err != nil {
		return err
	}
	t.current.Store(tlsConfig)
	t.seen = seen
	return nil
}

// build makes the configuration of the files' contents.
func (t *serverTLS) build(certPEM, keyPEM, clientCAPEM []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("server.tls_cert_file %q and server.tls_key_file %q: %w; they must be a certificate, followed by its chain, and its key without a passphrase, both in PEM", t.certFile, t.keyFile, err)
	}
	tlsConfig := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{pair},
	}
	if t.clientCAFile != "" {
		if tlsConfig.ClientCAs, err = parsePool(clientCAPEM); err != nil {
			return nil, fmt.Errorf("server.tls_client_ca_file %q: %w", t.clientCAFile, err)
		}
		tlsConfig.ClientAuth = tls.RequireAndVerifyClientCert
	}
	t.announce(pair.Leaf)
	return tlsConfig, nil
}

// announce logs which certificate is used from now on.
func (t *serverTLS) announce(leaf *x509.Certificate) {
	level, message := slog.LevelInfo, "TLS certificate loaded"
	switch now := time.Now(); {
	case now.After(leaf.NotAfter):
		level, message = slog.LevelWarn, "the TLS certificate has expired: clients will refuse it; renew it"
	case now.Before(leaf.NotBefore):
		level, message = slog.LevelWarn, "the TLS certificate is not valid yet: clients will refuse it; is this machine's clock right?"
	}
	t.log.Log(context.Background(), level, message, "file", t.certFile, "names", leaf.DNSNames, "not_before", leaf.NotBefore, "not_after", leaf.NotAfter)
}

// caPool reads the authorities that vouch for a backend, in PEM. They take the place
// of the system's, as with AWS_CA_BUNDLE: who names the authority of a backend does
// not want it to be believed on the word of another.
func caPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots, err := parsePool(data)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return roots, nil
}

func parsePool(data []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, errors.New("holds no certificate; it must be PEM, with one block for each authority")
	}
	return roots, nil
}
