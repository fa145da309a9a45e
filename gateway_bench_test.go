package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// One client, the gateway, and a backend that answers the same bytes each time:
// what a request costs all three, to be compared before and after a change.
// bench/ tells what it costs the gateway.
func BenchmarkGetObject(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/octet-stream\r\nEtag: \"e\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nAccept-Ranges: bytes\r\n\r\n%s", size, strings.Repeat("x", size))
			endpoint := startRawBackend(b, func(n int, conn net.Conn, r *bufio.Reader) {
				for {
					if _, _, err := readHead(r); err != nil {
						return
					}
					if _, err := io.WriteString(conn, answer); err != nil {
						return
					}
				}
			})
			g := startGateway(b, testConfig(endpoint, with("rate_limit.requests", 1000000), with("rate_limit.window_seconds", 1)))
			conn := g.dial()
			defer conn.Close()
			conn.SetDeadline(time.Time{})
			request := []byte("GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\nUser-Agent: bench\r\n\r\n")
			reader := bufio.NewReader(conn)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(reader, nil)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != int64(size) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
