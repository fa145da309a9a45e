//go:build linux

package main

// Whether the cost of a request stays the same with many connections, and with many
// users and buckets.

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// A scaleRow is the cost of a GET of 4 KiB at one size.
type scaleRow struct {
	Connections int     `json:"connections"`
	Users       int     `json:"users"` // and as many buckets
	CPU         float64 `json:"cpu_us"`
	PerSecond   float64 `json:"requests_per_second"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	PeakRSS     float64 `json:"peak_rss_mib"`
	BareCPU     float64 `json:"reverse_proxy_cpu_us"` // of the bare ReverseProxy; 0: not measured
}

func measureScale(s *site, duration time.Duration, rounds int) ([]*scaleRow, error) {
	byConnections, err := scaleConnections(s, duration, rounds)
	if err != nil {
		return nil, err
	}
	byUsers, err := scaleUsers(s, duration, rounds)
	return append(byConnections, byUsers...), err
}

// scaleConnections has a gateway for each number of connections, beside the bare
// proxy: a request that comes alone costs any server more than one of many, for it
// has to be woken up.
func scaleConnections(s *site, duration time.Duration, rounds int) ([]*scaleRow, error) {
	reverseProxy, err := s.launchReverseProxy()
	if err != nil {
		return nil, err
	}
	sizes := []int{1, 10, 100, 1000}
	var lanes []*lane
	for _, conns := range sizes {
		gateway, err := s.launchGateway(2)
		if err != nil {
			return nil, err
		}
		for _, p := range []*process{gateway, reverseProxy} {
			lanes = append(lanes, &lane{process: p, addr: p.addr, requests: requestsOf(2), conns: conns})
		}
	}
	fmt.Fprintln(os.Stderr, "connections")
	if err := race(s, lanes, duration, rounds); err != nil {
		return nil, fmt.Errorf("connections, %w", err)
	}
	var rows []*scaleRow
	for i, conns := range sizes {
		row := newScaleRow(conns, 2, lanes[2*i])
		row.BareCPU = newScaleRow(conns, 2, lanes[2*i+1]).CPU
		rows = append(rows, row)
	}
	return rows, nil
}

// scaleUsers has one gateway for each number of users. Each user asks for an object
// in a bucket of his own.
func scaleUsers(s *site, duration time.Duration, rounds int) ([]*scaleRow, error) {
	const conns = 32
	sizes := []int{2, 200, 20000}
	var lanes []*lane
	for _, users := range sizes {
		p, err := s.launchGateway(users)
		if err != nil {
			return nil, err
		}
		p.metrics = "" // a scrape in each short turn, of what 20,000 users did, is not what Prometheus does
		lanes = append(lanes, &lane{process: p, addr: p.addr, requests: requestsOf(users), conns: conns})
	}
	fmt.Fprintln(os.Stderr, "users and buckets")
	if err := race(s, lanes, duration, rounds); err != nil {
		return nil, fmt.Errorf("users and buckets, %w", err)
	}
	var rows []*scaleRow
	for i, users := range sizes {
		rows = append(rows, newScaleRow(conns, users, lanes[i]))
	}
	return rows, nil
}

// requestsOf has a request of each user.
func requestsOf(users int) []request {
	var requests []request
	for i := range users {
		requests = append(requests, newRequest("GET", "/"+bucketName(i)+"/4k", userKey(i), 0, 4<<10))
	}
	return requests
}

func newScaleRow(conns, users int, l *lane) *scaleRow {
	r := summarize(work{size: 4 << 10}, l.process.name, l.turns)
	return &scaleRow{Connections: conns, Users: users, CPU: r.CPU, PerSecond: r.PerSecond, P50: r.P50, P99: r.P99, PeakRSS: r.PeakRSS}
}

// grouped writes 20000 as 20,000.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
