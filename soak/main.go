// Soak runs the gateway for a long time among faults, and counts broken promises.
//
//	go run ./soak                           for a minute
//	go run ./soak -duration 20m -race       longer, under the race detector
//	go run ./soak -seed 7                   the same choices again
//	go run ./soak -mutations                prove that it finds deliberate bugs
//
// It starts S3 backends of its own, which check signatures, with TCP proxies before two of them
// that break connections, answers and bodies in every way; two gateways, built from this tree, of
// which one serves TLS and HTTP/2; and Redis, if it is installed. Clients use both authentication
// methods and all kinds of operations; others leave, stall, lie, or may not be served.
// Meanwhile gateways are reloaded with good and bad files, restarted and killed, keys are
// replaced, and backends and Redis are gone for seconds.
//
// Each request has an id that the gateway forwards. So everything that reaches a backend is held
// against what a client sent, and everything that a client gets against what the backend had
// stored at that time. At the end, the faults stop, all objects are read again, and the gateways
// must hold no more than at their start.
//
// The exit status is 1 if a promise was broken. All listens on 127.0.0.1 and ends with it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	duration  time.Duration
	seed      uint64
	race      bool
	workers   int
	faults    int64
	mutations bool
	only      string
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", time.Minute, "of the faults")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all choices")
	flag.BoolVar(&o.race, "race", false, "build the gateway with the race detector")
	flag.IntVar(&o.workers, "workers", 16, "clients that send one request after the other; half as many more misbehave")
	flag.Int64Var(&o.faults, "faults", 80, "requests out of a thousand that meet a fault")
	flag.BoolVar(&o.mutations, "mutations", false, "apply deliberate bugs, one at a time, and find each")
	flag.StringVar(&o.only, "only", "", "only mutations whose `name` holds this")
	flag.Parse()
	if flag.NArg() > 0 || o.duration <= 0 || o.workers < 2 || o.faults < 0 || o.faults > 1000 {
		flag.Usage()
		os.Exit(2)
	}
	tree, err := moduleRoot()
	if err == nil && o.mutations {
		err = mutate(o, tree)
	} else if err == nil {
		err = soak(o, tree)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// moduleRoot returns the folder of the program under test.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err2 := os.Stat(filepath.Join(root, "upstream.go")); err != nil || err2 != nil {
		return "", errors.New("run it in the source tree of s3-proxy")
	}
	return root, nil
}

// soak builds the program, runs it among faults, and prints the report.
func soak(o options, tree string) error {
	l := newLedger()
	fmt.Printf("soak: %v, seed %d, %d workers, %.1f %% of requests meet a fault, race detector: %t\n", o.duration, o.seed, o.workers, float64(o.faults)/10, o.race)
	if err := run(o, l, tree, true); err != nil {
		return err
	}
	l.report(os.Stdout)
	if n := len(l.violations); n > 0 {
		return fmt.Errorf("promises were broken %d times", n)
	}
	return nil
}

// run runs the program that is built from a tree. With patience it runs to its end, else it ends
// at the first promise that is broken.
func run(o options, l *ledger, tree string, patience bool) error {
	dir, err := os.MkdirTemp("", "soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "s3-proxy")
	if err := build(tree, binary, o.race); err != nil {
		return err
	}
	s, err := newSite(o, l, binary, dir)
	defer s.end()
	if err != nil {
		return err
	}
	start := map[*gateway]level{}
	for _, g := range s.gateways {
		if start[g], err = g.measure(); err != nil {
			return err
		}
	}
	if err := s.play(l, patience); err != nil {
		return err
	}
	if patience || len(l.violations) == 0 {
		s.settle()
		s.checkLeaks(start)
	}
	return nil
}

// play runs the clients and the trouble for the duration.
func (s *site) play(l *ledger, patience bool) error {
	c := s.calm()
	c.backend.put(c.buckets[0], largeKey, s.storedVersion(20<<20))
	for _, a := range s.accounts {
		if a.proxy != nil {
			a.proxy.ratio.Store(s.faults)
		}
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range s.workers {
		clients.Go(func() { s.newWorker(fmt.Sprint("worker ", i), uint64(i)).work(stop) })
	}
	for i := range s.workers / 2 {
		clients.Go(func() { s.newWorker(fmt.Sprint("hostile ", i), uint64(1000+i)).attack(stop) })
	}
	clients.Go(func() { s.newWorker("limited", 2000).flood(stop) })
	troubled := make(chan error, 1)
	go func() { troubled <- s.trouble(stop) }()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	failed := l.failed
	if patience {
		failed = nil
	}
	var err error
	select {
	case <-time.After(s.duration):
	case <-failed:
	case <-interrupted:
		err = errors.New("interrupted")
	case err = <-troubled:
		troubled <- nil
	}
	close(stop)
	clients.Wait()
	return errors.Join(err, <-troubled)
}

// storedVersion returns a version that was not uploaded by a client.
func (s *site) storedVersion(size int64) *version {
	body := newContent(s.seed, size)
	return &version{etag: body.md5(), content: body, length: size, metadata: map[string]string{}}
}
