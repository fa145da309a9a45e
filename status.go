package main

// What the gateway says of itself: one report, which GET /-/status answers as JSON and the page
// at / shows to people. It holds names of the configuration, words, numbers and instants. It
// holds no key, no digest of one and no credentials, and nothing that a peer sent but codes and
// ids that look like ones.

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	maxListed       = 100                // accounts, and users, that a report lists
	certificateSoon = 7 * 24 * time.Hour // before the end of a certificate
	maxReloadError  = 4 << 10            // bytes of the error of a reload
	slotsOfAMinute  = int(time.Minute / slotLength)
	failuresInWords = 3  // accounts that the summary names
	maxExpiries     = 10 // of accounts, each in a sentence
)

// A statusReport is the state of the gateway at an instant. Instants that are not known, or that
// nothing has happened at, are left out.
type statusReport struct {
	Time          time.Time           `json:"time"`
	State         string              `json:"state"`     // ok, idle, attention or failing
	Summary       string              `json:"summary"`   // one sentence on the accounts
	Attention     []string            `json:"attention"` // what else an operator should look at
	Process       processStatus       `json:"process"`
	Configuration configurationStatus `json:"configuration"`
	Limiter       limiterStatus       `json:"limiter"`
	Accounts      []accountStatus     `json:"accounts"`
	Users         []userStatus        `json:"users"`
	UnknownUser   userStatus          `json:"unknown_user"` // requests whose user is not known
	Errors        []errorStatus       `json:"errors"`
}

type processStatus struct {
	Version            string    `json:"version"`
	Started            time.Time `json:"started"`
	UptimeSeconds      int64     `json:"uptime_seconds"`
	Draining           bool      `json:"draining"`
	ClientConnections  int64     `json:"client_connections"`
	RequestsInFlight   int64     `json:"requests_in_flight"`
	DroppedLogLines    int64     `json:"dropped_log_lines"`
	CertificateExpires time.Time `json:"certificate_expires,omitzero"` // the gateway's own
	CertificateError   string    `json:"certificate_error,omitempty"`  // of the last reload of the TLS files
}

type configurationStatus struct {
	Accounts      int       `json:"accounts"` // how many there are
	Buckets       int       `json:"buckets"`
	Users         int       `json:"users"`
	Applied       time.Time `json:"applied"`
	LastReload    time.Time `json:"last_reload"` // the start counts as one
	Error         string    `json:"error,omitempty"`
	AwaitsRestart []string  `json:"awaits_restart"`
}

type limiterStatus struct {
	Store    string `json:"store"`             // none, up or down
	Address  string `json:"address,omitempty"` // of the store
	Cause    string `json:"cause,omitempty"`   // why it is down
	Failures uint64 `json:"failures"`          // decisions that the store did not make
	Busy     uint64 `json:"busy"`              // requests refused because it had no time
}

type accountStatus struct {
	Name               string            `json:"name"`
	Endpoint           string            `json:"endpoint"`
	State              accountHealth     `json:"state"`
	LastSuccess        time.Time         `json:"last_success,omitzero"`
	LastError          *accountError     `json:"last_error,omitempty"`
	Traffic            trafficStatus     `json:"traffic"`
	Connections        connectionsStatus `json:"connections"`
	Credentials        credentialsStatus `json:"credentials"`
	CertificateExpires time.Time         `json:"certificate_expires,omitzero"` // the backend's
}

type accountError struct {
	Time      time.Time     `json:"time"`
	RequestID string        `json:"request_id"`
	Status    int           `json:"status"`
	Code      string        `json:"code,omitempty"`
	Reason    refusalReason `json:"reason"`
	Cause     string        `json:"cause,omitempty"`
}

// A trafficStatus is about the last 15 minutes, but for the rate, which is of the last minute.
// In the lists the oldest slot is first, and a time of 0 means that there was no answer.
type trafficStatus struct {
	RequestsPerSecond float64   `json:"requests_per_second"`
	Requests          int64     `json:"requests"`
	Failures          int64     `json:"failures"`
	P50               float64   `json:"p50_ms"` // to the first byte of the backend's answer
	P99               float64   `json:"p99_ms"`
	SlotSeconds       int       `json:"slot_seconds"`
	SlotRates         []float64 `json:"slot_requests_per_second"`
	SlotFailures      []float64 `json:"slot_failures_per_second"`
	SlotP50           []float64 `json:"slot_p50_ms"`
	SlotP99           []float64 `json:"slot_p99_ms"`
}

type connectionsStatus struct {
	InFlight    int64 `json:"requests_in_flight"`
	MaxInFlight int64 `json:"max_in_flight"` // 0: no limit
	Idle        int   `json:"idle"`
	Opened      int64 `json:"opened"`
	Reused      int64 `json:"reused"` // requests on a connection that was kept
}

type credentialsStatus struct {
	Source   string    `json:"source"` // config, env, profile, web-identity, ecs or imds
	Expires  time.Time `json:"expires,omitzero"`
	Failures int64     `json:"refresh_failures"`
}

type userStatus struct {
	Name          string         `json:"name,omitempty"`
	Role          role           `json:"role,omitempty"`
	LastSeen      time.Time      `json:"last_seen,omitzero"`
	KeyID         string         `json:"key_id,omitempty"`
	Requests      int64          `json:"requests"`
	ReceivedBytes int64          `json:"received_bytes"`
	SentBytes     int64          `json:"sent_bytes"`
	InFlight      int64          `json:"requests_in_flight"`
	Window        windowStatus   `json:"window"`
	Refusals      []reasonStatus `json:"refusals"` // the most frequent first
}

// A windowStatus is what this process has admitted. With a shared limiter others may have
// admitted more.
type windowStatus struct {
	Requests int   `json:"requests"`
	Limit    int   `json:"limit"` // 0: none
	Seconds  int64 `json:"seconds"`
}

type reasonStatus struct {
	Reason refusalReason `json:"reason"`
	Count  int64         `json:"count"`
}

type errorStatus struct {
	Count          int64         `json:"count"`
	First          time.Time     `json:"first"`
	Last           time.Time     `json:"last"`
	RequestID      string        `json:"request_id"` // of the last
	User           string        `json:"user"`
	Account        string        `json:"account"`
	Bucket         string        `json:"bucket"`
	Operation      string        `json:"operation"`
	Status         int           `json:"status"`
	UpstreamStatus int           `json:"upstream_status"`
	Code           string        `json:"code,omitempty"`
	Reason         refusalReason `json:"reason"`
	Cause          string        `json:"cause,omitempty"`
}

// report returns the state at an instant, with as many accounts and users as listed: of the
// accounts those that fail come first, and of the users those that were seen last are taken.
func (s *service) report(now time.Time, listed int, draining bool) *statusReport {
	g := s.current.Load()
	r := &statusReport{
		Time:          now,
		Process:       s.processStatus(g, now, draining),
		Configuration: s.configurationStatus(g),
		Limiter:       g.limiterStatus(),
		UnknownUser:   newUserStatus(&g.recent.strangers),
		Errors:        []errorStatus{},
	}
	states := make(map[string]accountHealth, len(g.accounts))
	for name, u := range g.accounts {
		states[name] = u.health()
	}
	names := accountsToList(states)
	var ends []accountEnds // of those that are not listed, too
	for _, name := range names {
		ends = append(ends, g.accounts[name].ends())
	}
	for _, name := range names[:min(len(names), listed)] {
		r.Accounts = append(r.Accounts, g.accounts[name].report(states[name], now))
	}
	r.Users = g.userStatuses(now, listed)
	for _, e := range g.recent.errors.list() {
		r.Errors = append(r.Errors, errorStatus{e.count, e.first, e.last, e.requestID, e.user, e.account, e.bucket, e.operation,
			e.status, e.upstreamStatus, e.lastCode, e.reason, e.cause})
	}
	r.Summary = summary(names, states, r.Accounts)
	r.Attention = r.attention(ends)
	r.State = overall(states, len(r.Attention) > 0)
	return r
}

// overall returns the state of the gateway.
func overall(states map[string]accountHealth, attention bool) string {
	down, answering := false, false
	for _, state := range states {
		down = down || isDown(state)
		answering = answering || state == healthOK
	}
	switch {
	case down:
		return "failing"
	case attention:
		return "attention"
	case !answering:
		return "idle"
	}
	return "ok"
}

func (s *service) processStatus(g *gateway, now time.Time, draining bool) processStatus {
	p := processStatus{
		Version:          s.around.version,
		Started:          g.started,
		UptimeSeconds:    int64(now.Sub(g.started).Seconds()),
		Draining:         draining,
		RequestsInFlight: s.metrics.inFlight.Load(),
	}
	if s.around.connections != nil {
		p.ClientConnections = s.around.connections()
	}
	if s.around.dropped != nil {
		p.DroppedLogLines = s.around.dropped()
	}
	if own := s.around.certificates; own != nil {
		p.CertificateExpires = own.expires()
		if err := own.failed(); err != nil {
			p.CertificateError = shortened(err.Error(), maxReloadError)
		}
	}
	return p
}

func (s *service) configurationStatus(g *gateway) configurationStatus {
	last := s.reloads.Load()
	c := configurationStatus{
		Accounts:      len(g.accounts),
		Buckets:       len(g.buckets),
		Users:         len(g.loads),
		Applied:       last.applied,
		LastReload:    last.at,
		AwaitsRestart: append([]string{}, s.awaitsRestart()...),
	}
	if last.err != nil { // errors about configurations quote no secrets: see localCauseAttr
		c.Error = shortened(last.err.Error(), maxReloadError)
	}
	return c
}

func (g *gateway) limiterStatus() limiterStatus {
	if g.shared == nil {
		return limiterStatus{Store: "none"}
	}
	l := limiterStatus{Store: "up", Address: g.shared.store.server.addr, Failures: g.shared.failures.Load(), Busy: g.shared.busy.Load()}
	if !g.shared.healthy() {
		l.Store, l.Cause = "down", g.shared.whyDown()
	}
	return l
}

// isDown reports whether an account's backend does not do what it should.
func isDown(s accountHealth) bool { return s == healthFailing || s == healthRefused }

// accountsToList returns the names of all accounts, those that are down first.
func accountsToList(states map[string]accountHealth) []string {
	names := slices.Sorted(maps.Keys(states))
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case isDown(states[a]) == isDown(states[b]):
			return 0
		case isDown(states[a]):
			return -1
		}
		return 1
	})
	return names
}

// accountEnds are the instants from which an account can't be used; zero: none is known.
type accountEnds struct {
	name                     string
	certificate, credentials time.Time // certificate is the backend's
}

func (u *upstream) ends() accountEnds {
	ends := accountEnds{name: u.account.name}
	if seconds := u.pool.certificateEnd.Load(); seconds != 0 {
		ends.certificate = time.Unix(seconds, 0).UTC()
	}
	if seconds := u.account.source.expires(); seconds != 0 {
		ends.credentials = time.Unix(seconds, 0).UTC()
	}
	return ends
}

// report returns the state of one account.
func (u *upstream) report(state accountHealth, now time.Time) accountStatus {
	past, ends := u.history.snapshot(now), u.ends()
	a := accountStatus{
		Name:        u.account.name,
		Endpoint:    u.account.scheme + "://" + u.account.host + u.account.basePath,
		State:       state,
		LastSuccess: past.success,
		Traffic:     past.traffic(),
		Connections: connectionsStatus{u.load.count.Load(), u.account.maxInFlight, u.pool.idleConns(), u.counts.opened.Load(), u.counts.reused.Load()},
		Credentials: credentialsStatus{cmp.Or(u.account.source.kind, "config"), ends.credentials, u.account.source.failures.Load()},
	}
	a.CertificateExpires = ends.certificate
	if f := past.failure; !f.at.IsZero() {
		a.LastError = &accountError{f.at, f.requestID, f.status, f.code, f.reason, f.cause}
	}
	return a
}

// traffic returns the numbers of the last quarter of an hour.
func (p *pastQuarter) traffic() trafficStatus {
	total := p.sum(slotCount)
	t := trafficStatus{
		RequestsPerSecond: p.rate(),
		Requests:          int64(total.requests),
		Failures:          int64(total.failures),
		P50:               milliseconds(total.quantile(0.5)),
		P99:               milliseconds(total.quantile(0.99)),
		SlotSeconds:       int(slotLength / time.Second),
	}
	for i := range p.slots {
		slot, length := &p.slots[i], slotLength
		if i == slotCount-1 {
			length = p.current
		}
		t.SlotRates = append(t.SlotRates, perSecond(slot.requests, length))
		t.SlotFailures = append(t.SlotFailures, perSecond(slot.failures, length))
		t.SlotP50 = append(t.SlotP50, milliseconds(slot.quantile(0.5)))
		t.SlotP99 = append(t.SlotP99, milliseconds(slot.quantile(0.99)))
	}
	return t
}

// rate returns the requests a second in the last minute, and what is over of the current slot.
func (p *pastQuarter) rate() float64 {
	recent := p.sum(slotsOfAMinute + 1)
	return perSecond(recent.requests, min(time.Minute+p.current, p.age))
}

// perSecond returns a rate with three decimals. A moment would be a bad measure of it, so it
// takes half a slot at least.
func perSecond(count uint32, d time.Duration) float64 {
	return math.Round(float64(count)/max(d, slotLength/2).Seconds()*1000) / 1000
}

// userStatuses returns the users that were seen last, by name.
func (g *gateway) userStatuses(now time.Time, listed int) []userStatus {
	users := slices.Clone(g.config.users)
	if len(users) > listed {
		seen := make(map[string]time.Time, len(users))
		for _, u := range users {
			seen[u.name] = g.loads[u.name].history.lastSeen()
		}
		slices.SortFunc(users, func(a, b *user) int {
			return cmp.Or(seen[b.name].Compare(seen[a.name]), strings.Compare(a.name, b.name))
		})
		users = users[:listed]
	}
	slices.SortFunc(users, func(a, b *user) int { return strings.Compare(a.name, b.name) })
	list := make([]userStatus, 0, len(users))
	for _, u := range users {
		l := g.loads[u.name]
		status := newUserStatus(&l.history)
		status.Name, status.Role, status.InFlight = u.name, u.role, l.inFlight.count.Load()
		requests, limit := g.limiter.used(u.name, now)
		status.Window = windowStatus{requests, limit.requests, int64(limit.window / time.Second)}
		list = append(list, status)
	}
	return list
}

// newUserStatus returns what a history knows.
func newUserStatus(h *userHistory) userStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := userStatus{LastSeen: h.seen, KeyID: h.keyID, Requests: h.requests, ReceivedBytes: h.received, SentBytes: h.sent, Refusals: []reasonStatus{}}
	for _, c := range h.reasons {
		u.Refusals = append(u.Refusals, reasonStatus{c.reason, c.count})
	}
	slices.SortFunc(u.Refusals, func(a, b reasonStatus) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return u
}

// summary says in a sentence how the accounts do. The names are in the order of accountsToList,
// and the reports are those of the first of them.
func summary(names []string, states map[string]accountHealth, reports []accountStatus) string {
	down, idle := 0, 0
	for _, state := range states {
		if isDown(state) {
			down++
		} else if state == healthIdle {
			idle++
		}
	}
	switch total := len(names); {
	case down > 0:
		return downInWords(down, total, reports)
	case total == 1 && idle == 1:
		return fmt.Sprintf("The account %s has not been asked yet", names[0])
	case total == 1:
		return fmt.Sprintf("The account %s answers", names[0])
	case idle == total:
		return fmt.Sprintf("None of the %d accounts has been asked yet", total)
	case idle == 0:
		return fmt.Sprintf("All %d accounts answer", total)
	default:
		return fmt.Sprintf("%d of %d accounts answer; the rest have not been asked yet", total-idle, total)
	}
}

// downInWords names the accounts that are down, and why.
func downInWords(down, total int, reports []accountStatus) string {
	var words []string
	for _, a := range reports[:min(down, len(reports), failuresInWords)] {
		why := "the backend does not answer" // an account may be refused before a request to it has ended
		if a.LastError != nil {
			why = a.LastError.inShort()
		}
		words = append(words, a.Name+": "+why)
	}
	if more := down - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	list := strings.Join(words, "; ")
	switch {
	case total == 1:
		return "The account " + list
	case down == 1:
		return fmt.Sprintf("1 of %d accounts fails: %s", total, list)
	}
	return fmt.Sprintf("%d of %d accounts fail: %s", down, total, list)
}

// inShort returns the cause without the operation and the addresses that package net puts before
// it, or else what there is.
func (e *accountError) inShort() string {
	for _, verb := range []string{"dial ", "read ", "write "} {
		if strings.HasPrefix(e.Cause, verb) {
			parts := strings.Split(e.Cause, ": ")
			return parts[len(parts)-1]
		}
	}
	return cmp.Or(e.Cause, string(e.Reason), e.Code, fmt.Sprintf("status %d", e.Status))
}

// attention returns what an operator should look at, besides accounts that are down. The ends are
// those of all accounts.
func (r *statusReport) attention(ends []accountEnds) []string {
	list := []string{}
	note := func(holds bool, format string, args ...any) {
		if holds {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	note(r.Process.Draining, "The gateway is stopping: it accepts no more connections")
	note(r.Configuration.Error != "", "The last reload failed; the previous configuration is in use: %s", r.Configuration.Error)
	note(len(r.Configuration.AwaitsRestart) > 0, "A restart is needed for: %s", strings.Join(r.Configuration.AwaitsRestart, ", "))
	note(r.Limiter.Store == "down", "The shared limiter store at %s does not answer, and each gateway limits by itself: %s", r.Limiter.Address, r.Limiter.Cause)
	note(r.Process.DroppedLogLines > 0, "%d lines of the log were dropped", r.Process.DroppedLogLines)
	note(r.Process.CertificateError != "", "The TLS files could not be reloaded; the previous certificate is in use: %s", r.Process.CertificateError)
	if at := r.Process.CertificateExpires; !at.IsZero() {
		list = appendExpiry(list, "The certificate of the gateway", at.Sub(r.Time), certificateSoon)
	}
	return append(list, expiries(ends, r.Time)...)
}

// expiries says what of the accounts has expired or will soon: the first of them, and how many more.
func expiries(ends []accountEnds, now time.Time) (list []string) {
	for _, e := range ends {
		if !e.certificate.IsZero() {
			list = appendExpiry(list, "The certificate of the backend of "+e.name, e.certificate.Sub(now), certificateSoon)
		}
		if !e.credentials.IsZero() { // a source renews them before
			list = appendExpiry(list, "The set of credentials of "+e.name, e.credentials.Sub(now), 0)
		}
	}
	if more := len(list) - maxExpiries; more > 1 {
		list = append(list[:maxExpiries], fmt.Sprintf("%d more certificates or sets of credentials of accounts have expired, or expire soon", more))
	}
	return list
}

// appendExpiry appends a sentence on something that has expired, or is to within the time before.
func appendExpiry(list []string, what string, left, before time.Duration) []string {
	switch {
	case left <= 0:
		return append(list, what+" has expired")
	case left < before:
		return append(list, what+" expires in "+inUnits(left))
	}
	return list
}

// inUnits returns a duration in its largest unit, and in the next where the first is coarse.
func inUnits(d time.Duration) string {
	in := func(unit time.Duration, name string, part time.Duration, partName string) string {
		text := fmt.Sprintf("%d %s", d/unit, name)
		if rest := d % unit / part; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, partName)
		}
		return text
	}
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < day:
		return in(time.Hour, "h", time.Minute, "min")
	case d < 7*day:
		return in(day, "d", time.Hour, "h")
	}
	return fmt.Sprintf("%d d", d/day)
}
