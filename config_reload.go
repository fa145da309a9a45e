package main

// A new configuration without a restart. The file is read and checked as a whole, and its
// gateway is prepared beside the one that serves. Then it replaces that one in a single
// store of a pointer, so a request sees one configuration from its beginning to its end. A
// file with an error changes nothing.

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// restartOnly is said of settings whose new values a reload does not use.
const restartOnly = "these settings change with a restart only"

// A configSource is where a configuration was read from.
type configSource struct {
	path string            // "": it can't be read again
	seen [sha256.Size]byte // fingerprint of what was read last, valid or not
}

// A service is an http.Handler whose gateway can be replaced.
type service struct {
	configSource
	ctx       context.Context // of the program; ends the work beside requests
	listeners listeners       // in use since the start
	log       *slog.Logger
	metrics   *metrics
	current   atomic.Pointer[gateway]
	reloads   atomic.Pointer[reloadResult]
	around    surroundings

	mu sync.Mutex // held while a configuration is read; guards seen
}

// A reloadResult is what came of the last reload; the start counts as one.
type reloadResult struct {
	at      time.Time
	err     error     // nil: it was applied
	applied time.Time // the last that was
}

// surroundings are what the status page shows of the process around a service. What is nil is
// not there.
type surroundings struct {
	version      string
	certificates *serverTLS
	connections  func() int64 // from clients
	dropped      func() int64 // lines of the log
}

// reloaded notes what came of a reload.
func (s *service) reloaded(err error) {
	now := time.Now()
	result := &reloadResult{at: now, err: err, applied: now}
	if err != nil {
		result.applied = s.reloads.Load().applied
	}
	s.reloads.Store(result)
}

// awaitsRestart returns the settings whose configured values are used after a restart only, in
// the order of the documentation. It may be called at any time.
func (s *service) awaitsRestart() []string {
	return restartSettings(s.listeners, s.current.Load().config.listeners)
}

// restartSettings returns the settings in which the listeners in use differ from those configured.
func restartSettings(inUse, configured listeners) (settings []string) {
	note := func(setting string, same bool) {
		if !same {
			settings = append(settings, setting)
		}
	}
	noteAddress := func(prefix, before, now string) {
		hostBefore, portBefore, _ := net.SplitHostPort(before)
		host, port, _ := net.SplitHostPort(now)
		note(prefix+".host", hostBefore == host)
		note(prefix+".port", portBefore == port)
	}
	noteAddress("server", inUse.listen, configured.listen)
	note("server.tls_cert_file", inUse.certFile == configured.certFile)
	note("server.tls_key_file", inUse.keyFile == configured.keyFile)
	note("server.tls_client_ca_file", inUse.clientCA == configured.clientCA)
	note("server.max_connections", inUse.maxConnections == configured.maxConnections)
	if inUse.admin == "" || configured.admin == "" {
		note("server.admin", inUse.admin == configured.admin)
	} else {
		noteAddress("server.admin", inUse.admin, configured.admin)
	}
	return settings
}

// newService returns a service that serves a configuration, once it has the
// credentials of all accounts.
func newService(ctx context.Context, conf *config, from configSource, log *slog.Logger, m *metrics) (*service, error) {
	s := &service{ctx: ctx, configSource: from, listeners: conf.listeners, log: log, metrics: m}
	g := newGateway(conf, m, log)
	if err := g.startAccounts(ctx, nil); err != nil {
		g.retire(nil)
		return nil, err
	}
	s.current.Store(g)
	s.reloaded(nil)
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.current.Load().ServeHTTP(w, r)
}

// reload reads the configuration again. After an error the previous one is still in use. The
// error has been logged.
func (s *service) reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadLocked(fingerprint(s.path))
}

// watch reloads whenever the content of the file, or of one that it names, has changed, until
// ctx is done. It compares contents, because a renamed file, or a symbolic link that now points
// elsewhere, may have an older modification time.
func (s *service) watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		if now := fingerprint(s.path); now != s.seen {
			s.reloadLocked(now)
		}
		s.mu.Unlock()
	}
}

// reloadLocked requires that mu is held.
func (s *service) reloadLocked(seen [sha256.Size]byte) error {
	s.seen = seen
	before := s.current.Load()
	next, err := s.next(before)
	if err != nil {
		s.reloaded(err)
		s.log.Error("reload failed; keeping the previous configuration", "file", s.path, localCauseAttr(err))
		return err
	}
	next.applyLimits()
	s.current.Store(next)
	before.retire(next)
	s.reloaded(nil)
	for _, warning := range next.config.warnings {
		s.log.Warn(warning)
	}
	s.log.Info("configuration applied", "file", s.path, "changes", changes(before.config, next.config))
	if settings := s.awaitsRestart(); len(settings) > 0 {
		s.log.Warn(restartOnly, "settings", settings)
	}
	return nil
}

// next returns a gateway for the file as it is now. It requires that mu is held.
func (s *service) next(before *gateway) (*gateway, error) {
	if s.path == "" {
		return nil, errors.New("there is no configuration file to read again")
	}
	conf, err := loadConfig(s.path)
	if err != nil {
		return nil, err
	}
	next := before.successor(conf)
	if err := next.startAccounts(s.ctx, before); err != nil {
		next.retire(before)
		s.seen = [sha256.Size]byte{} // the file may be valid: watch looks at it again
		return nil, err
	}
	return next, nil
}

// fingerprint returns a digest of a configuration and of the files it names. For a file that
// can't be read it includes the error.
func fingerprint(path string) (sum [sha256.Size]byte) {
	h := sha256.New()
	add := func(path string) []byte {
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %d %v\n", path, len(data), err)
		h.Write(data)
		return data
	}
	var file configFile
	decodeStrict(add(path), &file, func(_, value string) (string, error) {
		if secret, ok := strings.CutPrefix(value, "file:"); ok {
			add(secret)
		}
		return expandValue(value, os.LookupEnv)
	})
	for _, name := range slices.Sorted(maps.Keys(file.Accounts)) {
		if authorities := file.Accounts[name].CAFile; authorities != "" {
			add(authorities)
		}
	}
	h.Sum(sum[:0])
	return sum
}

// changes returns the paths of the settings that differ between two configurations. It
// returns no values: they may be secrets.
func changes(before, now *config) []string {
	paths := []string{}
	note := func(path string, same bool) {
		if !same {
			paths = append(paths, path)
		}
	}
	note("server.idle_timeout", before.idleTimeout == now.idleTimeout)
	note("server.shutdown_timeout", before.shutdownTimeout == now.shutdownTimeout)
	note("server.shutdown_delay", before.shutdownDelay == now.shutdownDelay)
	note("server.domain", before.domain == now.domain)
	note("server.cors", reflect.DeepEqual(before.cors, now.cors))
	note("server.hsts", slices.Equal(before.hsts, now.hsts))
	note("server.admin.allowed_hosts", maps.Equal(before.adminHosts, now.adminHosts))
	note("max_file_size", before.maxFileSize == now.maxFileSize)
	note("nested_keys", before.nestedKeys == now.nestedKeys)
	note("rate_limit.redis_url", reflect.DeepEqual(before.redis, now.redis))
	paths = appendChanges(paths, "accounts.", accountsByName(before), accountsByName(now), (*account).sameAs)
	paths = appendChanges(paths, "bucket ", before.buckets, now.buckets, (*bucket).sameAs)
	return appendChanges(paths, "users.", usersByName(before), usersByName(now), func(a, b *user) bool { return reflect.DeepEqual(a, b) })
}

func accountsByName(c *config) map[string]*account {
	m := make(map[string]*account, len(c.accounts))
	for _, a := range c.accounts {
		m[a.name] = a
	}
	return m
}

func usersByName(c *config) map[string]*user {
	m := make(map[string]*user, len(c.users))
	for _, u := range c.users {
		m[u.name] = u
	}
	return m
}

// sameAs reports whether two buckets are the same bucket of the same account.
func (b *bucket) sameAs(other *bucket) bool {
	return b.account.name == other.account.name && b.backendName == other.backendName
}

func appendChanges[V any](paths []string, prefix string, before, now map[string]V, same func(a, b V) bool) []string {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if value, stays := now[name]; !stays {
			paths = append(paths, prefix+name+" removed")
		} else if !same(before[name], value) {
			paths = append(paths, prefix+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, was := before[name]; !was {
			paths = append(paths, prefix+name+" added")
		}
	}
	return paths
}

// register adds the metrics that are counted elsewhere. It is called once.
func (s *service) register(m *metrics) {
	m.setFunc("s3proxy_config_last_reload_success_timestamp_seconds", func() float64 { return float64(s.reloads.Load().applied.Unix()) })
	m.setFunc("s3proxy_config_last_reload_successful", func() float64 { return oneIf(s.reloads.Load().err == nil) })
	m.setFunc("s3proxy_ratelimit_store_up", func() float64 {
		if shared := s.current.Load().shared; shared != nil {
			return oneIf(shared.healthy())
		}
		return math.NaN()
	})
	m.setFunc("s3proxy_ratelimit_store_busy_total", func() float64 {
		if shared := s.current.Load().shared; shared != nil {
			return float64(shared.busy.Load())
		}
		return math.NaN()
	})
	s.registerAccounts(m)
}

// oneIf is a truth as a metric has it.
func oneIf(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

// registerAccounts adds those that each account in use has a value of.
func (s *service) registerAccounts(m *metrics) {
	byAccount := func(value func(*upstream) float64) func() map[string]float64 {
		return func() map[string]float64 {
			values := map[string]float64{}
			for name, u := range s.current.Load().accounts {
				if v := value(u); !math.IsNaN(v) {
					values[name] = v
				}
			}
			return values
		}
	}
	m.setAccountFunc("s3proxy_credentials_expiry_timestamp_seconds", byAccount(func(u *upstream) float64 {
		if u.account.source.expires() == 0 {
			return math.NaN()
		}
		return float64(u.account.source.expires())
	}))
	m.setAccountFunc("s3proxy_credentials_refresh_failures_total", byAccount(func(u *upstream) float64 {
		if u.account.source.fetch == nil {
			return math.NaN()
		}
		return float64(u.account.source.failures.Load())
	}))
	m.setAccountFunc("s3proxy_upstream_circuit_open", byAccount(func(u *upstream) float64 { return oneIf(u.circuit.isOpen()) }))
	m.setAccountFunc("s3proxy_upstream_up", byAccount(func(u *upstream) float64 {
		if answers, known := u.history.up(); known {
			return oneIf(answers)
		}
		return math.NaN()
	}))
}
