package abuse

// Memory grows with the number of transfers, not with their size.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Sixty-four uploads and then as many downloads, all under way at once, cost
// less than 64 MiB above what the program takes when it does nothing: memory
// grows with how many there are, not with how large they are.
func TestMemoryIsIndependentOfObjectSize(t *testing.T) {
	const transfers = 64
	size := int64(100 << 20)
	if testing.Short() || raceDetector {
		size = 8 << 20
	}
	barriers := map[string]*sync.WaitGroup{"PUT": {}, "GET": {}}
	for _, barrier := range barriers {
		barrier.Add(transfers)
	}
	zeros := make([]byte, 256<<10)
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(2 * time.Minute))
			switch barrier := barriers[line[:3]]; {
			case strings.HasPrefix(line, "PUT"):
				length, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
				if _, err := io.CopyN(io.Discard, r, length/2); err != nil {
					return
				}
				barrier.Done()
				barrier.Wait()
				if err := discardAll(r, length-length/2); err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			case strings.HasPrefix(line, "GET"):
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				if writeAll(conn, zeros, size/2) != nil {
					return
				}
				barrier.Done()
				barrier.Wait()
				if writeAll(conn, zeros, size-size/2) != nil {
					return
				}
			default:
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	g := startGateway(t, testConfig(endpoint))
	pid := g.process.Pid
	for range 10 {
		g.do("HEAD", "/photos/k", userKey, "")
	}
	idle := processMemory(t, pid, "VmRSS")
	for _, method := range []string{"PUT", "GET"} {
		start := time.Now()
		var clients sync.WaitGroup
		for i := range transfers {
			clients.Go(func() {
				conn, err := net.Dial("tcp", g.addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(2 * time.Minute))
				reader := bufio.NewReader(conn)
				fmt.Fprintf(conn, "%s /photos/k%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n", method, i, userKey)
				if method == "PUT" {
					fmt.Fprintf(conn, "Content-Length: %d\r\n\r\n", size)
					err = writeAll(conn, zeros, size)
				} else {
					io.WriteString(conn, "\r\n")
				}
				if err != nil {
					t.Errorf("%s: %v", method, err)
					return
				}
				resp, err := http.ReadResponse(reader, &http.Request{Method: method})
				if err != nil || resp.StatusCode != 200 || method == "GET" && resp.ContentLength != size {
					t.Errorf("%s = %v, %v, want 200", method, resp, err)
					return
				}
				if method == "GET" {
					if err := discardAll(reader, size); err != nil {
						t.Errorf("GET: %v", err)
					}
				}
			})
		}
		clients.Wait()
		peak := processMemory(t, pid, "VmHWM")
		t.Logf("%s: %d times %d MiB in %s: %d MiB idle, %d MiB at most", method, transfers, size>>20, time.Since(start), idle>>20, peak>>20)
		if peak-idle > memoryBound() {
			t.Errorf("%s: memory grew from %d MiB to %d MiB, want at most %d MiB more", method, idle>>20, peak>>20, memoryBound()>>20)
		}
	}
}

// memoryBound is by how many bytes the memory of a process may grow: 64 MiB, or more with
// the race detector, which keeps several bytes for each one.
func memoryBound() int64 {
	if raceDetector {
		return 256 << 20
	}
	return 64 << 20
}

// processMemory reads a field of a process's status, in bytes; 0 where there is
// no such thing.
func processMemory(t *testing.T, pid int, field string) int64 {
	t.Helper()
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	match := regexp.MustCompile(`(?m)^` + field + `:\s+(\d+) kB$`).FindSubmatch(data)
	if match == nil {
		return 0
	}
	kilobytes, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

func writeAll(w io.Writer, buffer []byte, size int64) error {
	for size > 0 {
		n, err := w.Write(buffer[:min(size, int64(len(buffer)))])
		if size -= int64(n); err != nil {
			return err
		}
	}
	return nil
}

func discardAll(r io.Reader, size int64) error {
	buffer := make([]byte, 256<<10)
	for size > 0 {
		n, err := r.Read(buffer[:min(size, int64(len(buffer)))])
		if size -= int64(n); err != nil && size > 0 {
			return err
		}
	}
	return nil
}
