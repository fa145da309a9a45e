//go:build linux

// Bench measures the gateway side by side with other proxies: CPU of the proxy
// process alone, throughput, latency and memory, all in one run, in turns.
//
//	go run ./bench                           CPU, throughput, latency: some four minutes
//	go run ./bench -only "GET 4 KiB"         the works whose names hold this
//	go run ./bench -memory                   resident memory of the gateway
//	go run ./bench -scale                    cost by connections, users and buckets
//	go run ./bench -neighbour -time 3s       latency of an account while another is stuck
//	go run ./bench -json >bench.json         the same as JSON
//	go run ./bench -from bench.json -markdown -svg bench.svg
//
// It starts backends, the gateway (built from this tree), a bare
// httputil.ReverseProxy with a pool of buffers, nginx and HAProxy where they are installed
// (bench/install names the packages), and the floor: a handler of net/http that has the
// object in memory. All listen on 127.0.0.1 and end with it.
// The gateway runs as an operator has it: with its access log in a file, its
// metrics on and scraped, a key for each request and a limit for each user. The
// backends take every signature for good: what is measured is the proxy.
//
// Machines are noisy. So the contenders take short turns, one after the other, and
// the median over the turns counts. What can be compared is contenders within a
// run; a number from one machine says nothing about another.
//
// It needs Linux: CPU and memory are read from /proc.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	turn      time.Duration
	rounds    int
	only      string
	memory    bool
	scale     bool
	neighbour bool
	json      bool
	markdown  bool
	svg       string
	from      string
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == serveArgument {
		fail(serve(os.Args[2], os.Args[3:]))
	}
	var o options
	flag.DurationVar(&o.turn, "time", 600*time.Millisecond, "of each turn")
	flag.IntVar(&o.rounds, "rounds", 7, "turns that each contender has at each work")
	flag.StringVar(&o.only, "only", "", "only works, or troubles of a neighbour, whose `name` holds this")
	flag.BoolVar(&o.memory, "memory", false, "measure the gateway's memory instead")
	flag.BoolVar(&o.scale, "scale", false, "measure the cost of many connections, users and buckets instead")
	flag.BoolVar(&o.neighbour, "neighbour", false, "measure an account while the backend of another is stuck instead")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.BoolVar(&o.markdown, "markdown", false, "print tables in Markdown")
	flag.StringVar(&o.svg, "svg", "", "write a chart of the CPU to this `file`")
	flag.StringVar(&o.from, "from", "", "measure nothing: take what -json has written to this `file`")
	flag.Parse()
	if flag.NArg() > 0 || o.turn <= 0 || o.rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := o.report(ctx)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err == nil {
		err = o.print(r)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// report measures, or reads what was measured.
func (o *options) report(ctx context.Context) (*report, error) {
	if o.from != "" {
		data, err := os.ReadFile(o.from)
		if err != nil {
			return nil, err
		}
		r := new(report)
		if err := json.Unmarshal(data, r); err != nil {
			return nil, fmt.Errorf("%s: %w", o.from, err)
		}
		return r, nil
	}
	s, err := newSite(ctx)
	defer s.end()
	if err != nil {
		return nil, err
	}
	r := newReport(s)
	switch {
	case o.memory:
		r.Memory, err = measureMemory(s)
	case o.scale:
		r.Scale, err = measureScale(s, o.turn, o.rounds)
	case o.neighbour:
		r.Neighbours, err = measureNeighbours(s, o.turn, o.rounds, o.only)
	default:
		r.Results, err = measureWorks(s, o.turn, o.rounds, o.only)
		r.Targets = checkTargets(r.Results)
	}
	if err != nil {
		return nil, errors.Join(err, s.obituary())
	}
	return r, nil
}

func (o *options) print(r *report) error {
	if o.svg != "" {
		if err := os.WriteFile(o.svg, chart(r), 0o644); err != nil {
			return err
		}
	}
	switch {
	case o.json:
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	case o.markdown:
		return r.writeMarkdown(os.Stdout)
	}
	return r.writeText(os.Stdout)
}
