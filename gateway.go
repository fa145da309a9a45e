package main

// The gateway of one configuration, and what the gateway of the next one keeps of it. It
// knows nothing of requests.

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A gateway is one configuration at work: the http.Handler for all its accounts.
type gateway struct {
	config   *config
	auth     *authenticator
	limiter  *limiter
	shared   *sharedLimiter       // nil: the limiter decides alone
	memory   *memory              // for documents; the same for all configurations
	loads    map[string]*userLoad // by the name of the user
	accounts map[string]*upstream // by the name of the account
	buckets  map[string]*bucket   // by public name, each with its upstream
	names    []string             // public, of all buckets, sorted
	cors     *cors
	metrics  *metrics
	recent   *recentHistory // the same for all configurations
	log      *slog.Logger
	started  time.Time
	beats    beats // of slow answers

	// roundTrip asks a backend: (*upstream).roundTrip, except in a gateway that only explains
	// what it would do.
	roundTrip func(*upstream, context.Context, *outgoing) (*http.Response, error)
}

// A userLoad is what a user uses of the gateway at this moment. All configurations with
// that user share it; its limits are those of the latest one.
type userLoad struct {
	inFlight    inFlight
	maxInFlight atomic.Int64 // 0: no limit
	in, out     bandwidth
	documents   memoryShare
	history     userHistory
}

// newGateway returns the gateway of a configuration. The caller starts its accounts,
// which fetches their credentials, before it serves requests.
func newGateway(c *config, m *metrics, log *slog.Logger) *gateway {
	g := (&gateway{limiter: newLimiter(nil, time.Now()), memory: &memory{limit: documentMemory}, recent: new(recentHistory), metrics: m, log: log, started: time.Now(), beats: usualBeats, roundTrip: (*upstream).roundTrip}).successor(c)
	g.applyLimits()
	return g
}

// applyLimits sets the limits of all users, also for their requests in flight.
func (g *gateway) applyLimits() {
	g.limiter.apply(limitsOf(g.config.users))
	for _, u := range g.config.users {
		l := g.loads[u.name]
		l.maxInFlight.Store(u.share.inFlight)
		l.in.set(u.share.bytesPerSecond)
		l.out.set(u.share.bytesPerSecond)
	}
}

// successor returns the gateway of another configuration. For the users and accounts that
// stay it keeps their windows, loads, credentials and connections. The caller calls
// applyLimits when the new gateway serves.
func (g *gateway) successor(c *config) *gateway {
	limits := limitsOf(c.users)
	next := &gateway{
		config:    c,
		auth:      newAuthenticator(c.users),
		limiter:   g.limiter.successor(limits),
		memory:    g.memory,
		loads:     make(map[string]*userLoad, len(c.users)),
		accounts:  make(map[string]*upstream, len(c.accounts)),
		buckets:   make(map[string]*bucket, len(c.buckets)),
		cors:      c.cors,
		metrics:   g.metrics,
		recent:    g.recent,
		log:       g.log,
		started:   g.started,
		beats:     g.beats,
		roundTrip: g.roundTrip,
	}
	switch {
	case c.redis == nil:
	case g.shared != nil && g.shared.store.server == *c.redis:
		next.shared = g.shared.with(next.limiter, limits)
	default:
		next.shared = newSharedLimiter(newRedisStore(*c.redis), next.limiter, limits, g.log)
	}
	next.inherit(g)
	for name, b := range c.buckets {
		served := *b
		served.upstream = next.accounts[b.account.name]
		next.buckets[name] = &served
		next.names = append(next.names, name)
	}
	slices.Sort(next.names)
	return next
}

// inherit gives g what the gateway before it knows of the users and accounts that stay.
// An account stays if its requests would be the same.
func (g *gateway) inherit(before *gateway) {
	for _, u := range g.config.users {
		if g.loads[u.name] = before.loads[u.name]; g.loads[u.name] == nil {
			g.loads[u.name] = &userLoad{documents: memoryShare{of: g.memory}}
		}
	}
	for _, a := range g.config.accounts {
		if u := before.accounts[a.name]; u != nil && u.account.sharesWith(a) {
			g.accounts[a.name] = u.successor(a, g.config.idleTimeout)
		} else {
			g.accounts[a.name] = newUpstream(a, g.config.idleTimeout, g.metrics.account(a.name), g.log)
		}
	}
}

// limitsOf returns the limits of users by their names.
func limitsOf(users []*user) map[string]rateLimit {
	limits := make(map[string]rateLimit, len(users))
	for _, u := range users {
		limits[u.name] = u.limit
	}
	return limits
}

// startAccounts fetches the credentials of the accounts that the gateway before, which
// may be nil, has not started. It does so for all at once: each may take seconds.
func (g *gateway) startAccounts(ctx context.Context, before *gateway) error {
	var mu sync.Mutex // guards errs
	var errs []error
	var started sync.WaitGroup
	for _, u := range g.accounts {
		if !before.has(u) {
			started.Go(func() {
				if err := u.start(ctx); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
	}
	started.Wait()
	return errors.Join(errs...)
}

// retire stops the accounts that the other gateway, which may be nil, does not share:
// their credential refresh ends and their idle connections are closed. Requests in
// flight still end normally.
func (g *gateway) retire(other *gateway) {
	for _, u := range g.accounts {
		if !other.has(u) {
			u.retire()
		}
	}
	if g.shared != nil && (other == nil || other.shared == nil || other.shared.store != g.shared.store) {
		g.shared.store.close()
	}
}

// has reports whether a gateway, which may be nil, has the connections of u.
func (g *gateway) has(u *upstream) bool {
	return g != nil && g.accounts[u.account.name] != nil && g.accounts[u.account.name].pool == u.pool
}

// Beats are when an answer begins whose result takes long, and how often it then sends a
// space. The AWS SDK for Java 2 waits for 30 s, botocore and most proxies for 60 s.
type beats struct{ first, next time.Duration }

var usualBeats = beats{first: 20 * time.Second, next: 10 * time.Second}
