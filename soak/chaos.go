package main

// What happens to the gateways while they work: reloads, new keys, restarts, kills, outages of
// backends and of the limit's store. And the end, when all must be well again.

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The user whose limit is checked: so many requests in any such span.
const (
	limitedRequests = 40
	limitedWindow   = 5 * time.Second
)

// events with how often they happen.
var events = []choice[func(s *site, random *rand.Rand) error]{
	{"reload", 4, (*site).reloadGood},
	{"reload of a bad file", 4, (*site).reloadBad},
	{"new key", 5, (*site).rotate},
	{"restart", 2, func(s *site, random *rand.Rand) error { return s.any(random).restart(syscall.SIGTERM) }},
	{"kill -9", 2, func(s *site, random *rand.Rand) error { return s.any(random).restart(syscall.SIGKILL) }},
	{"outage of a backend", 4, (*site).outage},
	{"outage of Redis", 3, (*site).redisOutage},
}

// trouble makes events happen, about one in a second, until it is told to stop.
func (s *site) trouble(stop <-chan struct{}) error {
	random := rand.New(rand.NewPCG(s.seed, 1<<32))
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-pause.C:
		}
		e := choose(random, events)
		s.ledger.count("event "+e.name, 1)
		if err := e.run(s, random); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
}

// any chooses a gateway.
func (s *site) any(random *rand.Rand) *gateway { return s.gateways[random.IntN(len(s.gateways))] }

// reloadGood reloads a configuration that is in order.
func (s *site) reloadGood(random *rand.Rand) error { return s.any(random).reload(true) }

// badFiles are configurations with an error.
var badFiles = []func(c map[string]any){
	func(c map[string]any) { // a bucket of two accounts
		c["accounts"].(map[string]any)["calm"].(map[string]any)["buckets"] = []string{"alpha-1"}
		c["users"] = map[string]any{"admin": map[string]any{"api_key": newSecret(), "role": "admin", "allowed_buckets": []string{"*"}}}
	},
	func(c map[string]any) { c["no_such_setting"] = true },
	func(c map[string]any) { c["users"].(map[string]any)["writer"].(map[string]any)["role"] = "owner" },
	func(c map[string]any) { c["accounts"] = map[string]any{} },
}

// reloadBad reloads a file with an error, each of badFiles in turn, and then puts the good one back.
func (s *site) reloadBad(random *rand.Rand) error {
	g, bad := s.any(random), s.configuration()
	badFiles[s.badReloads%len(badFiles)](bad)
	s.badReloads++
	if err := g.configure(bad); err != nil {
		return err
	}
	if err := g.reload(false); err != nil {
		return err
	}
	return g.configure(s.configuration())
}

// rotate gives the writer a new key: first as the second of two, then alone. From then on the old
// one is refused.
func (s *site) rotate(*rand.Rand) error {
	u, fresh := s.writer, s.newKey()
	u.mu.Lock()
	old := u.keys[len(u.keys)-1]
	u.mu.Unlock()
	// The file has both keys, but the clients use the old one until both gateways know the new.
	if err := s.apply(u, []string{fresh, old}); err != nil {
		return err
	}
	u.mu.Lock()
	u.keys = []string{old, fresh}
	u.mu.Unlock()
	time.Sleep(signingPause)
	if err := s.apply(u, []string{fresh}); err != nil {
		return err
	}
	u.mu.Lock()
	u.revoked = append(u.revoked, old)
	u.mu.Unlock()
	return nil
}

// apply reloads all gateways with other keys of a user.
func (s *site) apply(u *user, keys []string) error {
	u.mu.Lock()
	u.keys = keys
	u.mu.Unlock()
	for _, g := range s.gateways {
		if err := g.configure(s.configuration()); err != nil {
			return err
		}
		if err := g.reload(true); err != nil {
			return err
		}
	}
	return nil
}

// signingPause is more than a client takes from reading its key to the gateway's having the head
// of the request.
const signingPause = 2 * time.Second

// outage makes a backend refuse connections for some seconds.
func (s *site) outage(random *rand.Rand) error {
	p := s.accounts[random.IntN(len(s.accounts)-1)].proxy
	p.shut()
	time.Sleep(time.Duration(500+random.IntN(2500)) * time.Millisecond)
	return p.open()
}

// redisOutage kills the store of the limit, and starts it again.
func (s *site) redisOutage(random *rand.Rand) error {
	if s.redis == nil {
		return nil
	}
	s.redis.kill()
	time.Sleep(time.Duration(500+random.IntN(2500)) * time.Millisecond)
	return s.redis.start()
}

// flood sends requests of the limited user and checks that in no window more are admitted than
// the store and each gateway may admit, each by itself.
func (w *worker) flood(stop <-chan struct{}) {
	var admitted []span
	before := w.restarts()
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		a := w.send(&request{method: http.MethodGet, query: "", user: w.limited, auth: byKey}, nil)
		if a.err != nil {
			continue
		}
		if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
			w.ledger.count("requests over a limit", 1)
			continue
		}
		admitted = append(slices.DeleteFunc(admitted, func(s span) bool { return a.end.Sub(s.begin) > limitedWindow }), span{a.begin, a.end})
		if now := w.restarts(); now != before { // what has just started knows nothing of before
			before, admitted = now, nil
		}
		if most := limitedRequests * (1 + len(w.gateways)); len(admitted) > most {
			w.ledger.broken(promiseLimit, "%d requests were admitted in %v, want at most %d", len(admitted), limitedWindow, most)
		}
	}
}

// restarts returns how often a gateway, or the store of the limit, was started anew.
func (s *site) restarts() (n int) {
	for _, g := range s.gateways {
		g.mu.Lock()
		n += len(g.restarts)
		g.mu.Unlock()
	}
	if s.redis != nil {
		n += int(s.redis.starts.Load())
	}
	return n
}

// settle waits for all to be well again after the faults have ended, and checks that it is.
func (s *site) settle() {
	for _, a := range s.accounts {
		if a.proxy != nil {
			a.proxy.ratio.Store(0)
		}
	}
	w := s.newWorker("settle", 1<<33)
	for _, g := range s.gateways {
		w.fixed = g
		for _, a := range s.accounts {
			w.recovers(a)
			for _, bucket := range a.buckets {
				w.compareBucket(a, bucket)
			}
		}
	}
}

// recovers waits until an account is served, for at most as long as its circuit may stay open.
func (w *worker) recovers(a *account) {
	var last *answer
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(200 * time.Millisecond) {
		r := w.upload(http.MethodPut, a.buckets[0], "settled", "", 100)
		if last = w.send(r, nil); last.err == nil && last.status == http.StatusOK {
			return
		}
	}
	w.ledger.broken(promiseRecovery, "%s does not serve the account %s: %d %s %v", w.gateway.name, a.name, last.status, last.data, last.err)
}

// compareBucket reads all objects of a bucket through a gateway.
func (w *worker) compareBucket(a *account, bucket string) {
	list := w.send(w.read(http.MethodGet, bucket, "", "encoding-type=url"), nil)
	keys, _, wrong := keysOf(list.data)
	if stored := a.backend.keyList(bucket); list.err != nil || list.status != http.StatusOK || wrong != "" || !slices.Equal(keys, stored) {
		w.ledger.broken(promiseRecovery, "%s/%s at %s: %d keys are listed, %d are stored (%d %v %s)", a.name, bucket, w.gateway.name, len(keys), len(stored), list.status, list.err, wrong)
		return
	}
	for _, key := range keys {
		wrong := ""
		r := w.read(http.MethodGet, bucket, key, "")
		begin := time.Now()
		got := w.send(r, func(resp *http.Response) (err error) {
			wrong, err = w.compare(a, r, resp, begin, 0, -1)
			return err
		})
		if got.err != nil || got.status != http.StatusOK || wrong != "" {
			w.ledger.broken(promiseRecovery, "%s/%s at %s: %d %v %s", bucket, key, w.gateway.name, got.status, got.err, wrong)
		}
		w.ledger.count("objects verified", 1)
	}
}

// A level is what a process holds.
type level struct{ goroutines, descriptors, memory float64 }

// measure returns what a gateway holds.
func (g *gateway) measure() (level, error) {
	page, err := g.page("/metrics")
	return level{sumOf(page, "go_goroutines"), sumOf(page, "process_open_fds"), sumOf(page, "process_resident_memory_bytes")}, err
}

// What a gateway may hold more at the end than at its start.
const (
	spareGoroutines  = 4
	spareDescriptors = 4
	spareMemory      = 64 << 20 // bytes; not under the race detector
)

// checkLeaks waits until the gateways hold no more than at their start.
func (s *site) checkLeaks(start map[*gateway]level) {
	for _, c := range s.clients {
		c.CloseIdleConnections()
	}
	var wait sync.WaitGroup
	for _, g := range s.gateways {
		wait.Go(func() {
			var now level
			var err error
			for begin := time.Now(); time.Since(begin) < 90*time.Second; time.Sleep(500 * time.Millisecond) {
				if now, err = g.measure(); err == nil && s.isBack(start[g], now) {
					s.ledger.note("%s: goroutines %.0f → %.0f, descriptors %.0f → %.0f, memory %.0f → %.0f MiB", g.name,
						start[g].goroutines, now.goroutines, start[g].descriptors, now.descriptors, start[g].memory/(1<<20), now.memory/(1<<20))
					return
				}
			}
			s.ledger.broken(promiseLeak, "%s: %+v at its start, %+v now (%v)", g.name, start[g], now, err)
		})
	}
	wait.Wait()
}

func (s *site) isBack(start, now level) bool {
	return now.goroutines <= start.goroutines+spareGoroutines && now.descriptors <= start.descriptors+spareDescriptors &&
		(s.race || now.memory <= start.memory+spareMemory)
}

// verdict says which promises were kept.
func (l *ledger) verdict() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, promise := range promises {
		n := 0
		for _, v := range l.violations {
			if v.promise == promise {
				n++
			}
		}
		fmt.Fprintf(&b, "  %-62s %s\n", promise, map[bool]string{true: "kept", false: fmt.Sprintf("BROKEN %d times", n)}[n == 0])
	}
	return b.String()
}
