package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// measure sends requests over w.conns connections for a while and adds what it
// saw to r.
func measure(r *result, c *contender, w work, duration time.Duration) error {
	var mu sync.Mutex // guards r and failure
	var failure error
	pid := 0
	if c.cmd != nil {
		pid = c.cmd.Process.Pid
	}
	before, started := cpuSeconds(pid), time.Now()
	deadline := started.Add(duration)
	var clients sync.WaitGroup
	for range w.conns {
		clients.Go(func() {
			latencies, err := client(c.addr, w, deadline)
			mu.Lock()
			defer mu.Unlock()
			r.latencies = append(r.latencies, latencies...)
			r.Requests += len(latencies)
			if err != nil {
				failure = err
			}
		})
	}
	clients.Wait()
	r.elapsed += time.Since(started)
	r.cpuSeconds += cpuSeconds(pid) - before
	return failure
}

// client sends one request after the other on one connection.
func client(addr string, w work, deadline time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: bench\r\nX-Api-Key: %s\r\nUser-Agent: bench\r\n", w.method, w.target, apiKey)
	if w.method == "PUT" {
		head = fmt.Appendf(head, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", w.body)
	}
	head = append(head, "\r\n"...)
	reader := bufio.NewReaderSize(conn, 64<<10)
	buffer := make([]byte, 256<<10)
	request := &http.Request{Method: w.method}
	var latencies []time.Duration
	for time.Now().Before(deadline) {
		started := time.Now()
		if err := send(conn, head, buffer, w.body); err != nil {
			return latencies, err
		}
		resp, err := http.ReadResponse(reader, request)
		if err != nil {
			return latencies, err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buffer)
		if err != nil || resp.StatusCode != 200 || w.method == "GET" && w.bytes > 0 && n != w.bytes {
			return latencies, fmt.Errorf("answer %d with %d bytes, %v", resp.StatusCode, n, err)
		}
		latencies = append(latencies, time.Since(started))
	}
	return latencies, nil
}

func send(conn net.Conn, head, zeros []byte, body int64) error {
	if body > 0 && body <= 64<<10 {
		head = append(head[:len(head):len(head)], zeros[:body]...)
		body = 0
	}
	if _, err := conn.Write(head); err != nil {
		return err
	}
	for body > 0 {
		n, err := conn.Write(zeros[:min(int64(len(zeros)), body)])
		if err != nil {
			return err
		}
		body -= int64(n)
	}
	return nil
}

// cpuSeconds is the CPU time of a process: fields 14 and 15 of /proc/PID/stat, in
// hundredths of a second (proc(5)).
func cpuSeconds(pid int) float64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

// peakRSS is the largest resident set a process has had, in MiB.
func peakRSS(pid int) float64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kib, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	return kib / 1024
}
