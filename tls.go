package main

// TLS on both sides: the certificate that clients see, which may change while the
// gateway runs, and the authorities that are trusted, of clients and of backends.
// With TLS comes HTTP/2.
//
// A program that renews a certificate replaces two files, one after the other, or turns a
// symbolic link to both. So the files are read as a whole each time. A pair that does not
// match, or is half written, changes nothing, and is read again later.

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

// With net/http's default of 1 MiB for each of these, one upload with a slow backend would
// use up the window of its connection, and block the other uploads; 64 of them would hold
// 64 MiB. 256 KiB are enough for 25 MB/s at 10 ms.
const (
	http2StreamBuffer     = 256 << 10 // bytes of an upload that wait to be read
	http2ConnectionBuffer = 2 << 20   // bytes of all uploads on a connection
	http2Frame            = 16 << 10  // bytes; net/http passes on whole frames, so one is the least progress of an upload
)

// A serverTLS has the configuration for the TLS handshakes of clients. Its methods may be
// called by several goroutines at once.
type serverTLS struct {
	certFile, keyFile string
	clientCAFile      string // "": clients need no certificate
	log               *slog.Logger

	current atomic.Pointer[tls.Config]
	failure atomic.Pointer[error] // of the last reload; nil: it succeeded

	mu   sync.Mutex           // held while files are read; guards seen
	seen [3][sha256.Size]byte // digests of the files that current was made from
}

// newServerTLS reads a certificate with its chain and its key and, from clientCAFile, the
// authorities that may sign a client's certificate. All are PEM. The error names the
// setting, the file, and what to do.
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

// config returns a configuration whose handshakes use the latest result of build. It has its
// own keys of session tickets, so tickets outlive a reload. crypto/tls checks the
// certificate of a client with a ticket against the present authorities.
func (t *serverTLS) config() *tls.Config {
	return &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current.Load(), nil },
	}
}

// watch reloads the files when they change, until ctx is done. An error that stays is
// logged once.
func (t *serverTLS) watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for known := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		failure := ""
		err := t.reload()
		if err != nil {
			failure = err.Error()
		}
		if err != nil && failure != known {
			t.log.Warn("could not reload the TLS files; keeping the previous certificate", localCauseAttr(err))
		}
		known = failure
	}
}

// reload reads the files, and uses them if they have changed and are valid. After an error
// the previous ones stay in use.
func (t *serverTLS) reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.reloadLocked(); err != nil {
		t.failure.Store(&err)
		return err
	}
	t.failure.Store(nil)
	return nil
}

// failed returns the error of the last reload, nil if it succeeded.
func (t *serverTLS) failed() error {
	if err := t.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// reloadLocked requires that mu is held.
func (t *serverTLS) reloadLocked() error {
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

// expires returns when the certificate in use expires.
func (t *serverTLS) expires() time.Time {
	return t.current.Load().Certificates[0].Leaf.NotAfter
}

// build returns the configuration for the contents of the files.
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

// caPool reads the authorities for a backend's certificate, in PEM. They replace the
// system's, as with AWS_CA_BUNDLE: an operator who names an authority does not trust
// others.
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
