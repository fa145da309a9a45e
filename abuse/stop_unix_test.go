//go:build unix

package abuse

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// However the process ends, no upload that it leaves unfinished ends as if it were
// whole: the backend sees a reset, and never the end of a stream.
func TestEndOfTheProcessResetsUnfinishedUploads(t *testing.T) {
	server := httptest.NewTLSServer(nil) // for the certificate that it makes
	server.Close()
	certificate := server.TLS.Certificates[0]
	authority := writePEM(t, "CERTIFICATE", certificate.Certificate[0])
	for _, scheme := range []string{"http", "https"} {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGABRT} {
			t.Run(fmt.Sprintf("%s %s", scheme, signal), func(t *testing.T) {
				sizes := []int{64<<10 + 1, 200_000, 1_000_000, 10_000_000, 10_000_000, 10_000_000}
				begun, ended := make(chan struct{}, len(sizes)), make(chan error, len(sizes))
				endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
					if scheme == "https" {
						conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
						r = bufio.NewReader(conn)
					}
					_, header, err := readHead(r)
					if err != nil {
						return
					}
					var length int64
					fmt.Sscan(header.Get("Content-Length"), &length)
					if _, err = io.CopyN(io.Discard, r, length/4); err == nil {
						begun <- struct{}{}
						_, err = io.Copy(io.Discard, r)
					}
					ended <- err
				})
				config := testConfig(scheme+strings.TrimPrefix(endpoint, "http"), with("server.shutdown_timeout", "100ms"))
				if scheme == "https" {
					with("accounts.main.ca_file", authority)(config)
				}
				g := startGateway(t, config)
				for i, size := range sizes {
					conn := g.dial()
					defer conn.Close()
					fmt.Fprintf(conn, "PUT /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", i, userKey, size)
					go io.WriteString(conn, payload(1, size-1))
				}
				for range sizes {
					<-begun
				}
				if err := g.process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				for range sizes {
					if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("an unfinished upload ended with %v, want a reset", err)
					}
				}
			})
		}
	}
}
