package main

// What has happened lately, for the status page: for each account the last quarter of an hour
// in slots of ten seconds, for each user what was asked and refused and when, and the last
// errors. It knows samples, not requests.
//
// A request costs two short locks, its account's and its user's, and no memory once there was
// one before. An account with requests takes 8 KiB, a user about 100 bytes and 40 for each
// reason, and the errors 30 KiB at most. Names come from the configuration, words from fixed
// lists, and the rest is bounded here.

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	slotLength = 10 * time.Second
	slotCount  = 90 // a quarter of an hour
	keptErrors = 50
	maxShown   = 256 // bytes of a cause
)

// An accountHealth says how an account does, by the last request that told.
type accountHealth string

const (
	healthIdle    accountHealth = "idle"    // no request yet
	healthOK      accountHealth = "ok"      // the last one got an answer
	healthFailing accountHealth = "failing" // the last one got none, or a failure
	healthRefused accountHealth = "refused" // the circuit is open
)

// A failedCall is an error of a backend, as an operator sees it. Each text is from a fixed list,
// or looks like a code or an id.
type failedCall struct {
	at                     time.Time
	requestID, code, cause string
	reason                 refusalReason
	status                 int // that the client got
}

// A historySlot counts what was asked of a backend in one slot.
type historySlot struct {
	number             int64 // since the epoch of the history
	requests, failures uint32
	firstByte          [len(bounds) + 1]uint32 // answers by the time to their first byte, as in a histogram
}

// An accountHistory remembers the requests to one account's backend. It may be used by several
// goroutines at once.
type accountHistory struct {
	epoch time.Time

	mu      sync.Mutex              // guards the rest
	slots   *[slotCount]historySlot // a ring; nil until there is a request
	success time.Time               // when the last request ended that the backend answered; zero: none
	failure failedCall              // the last that asked the backend and failed
	failing bool                    // the last one that told anything failed
}

func newAccountHistory(now time.Time) *accountHistory { return &accountHistory{epoch: now} }

// observe notes a request to the account that has ended. A request whose client left tells
// nothing of the backend. One that the circuit refused is a failure, but says nothing new of
// its cause.
func (h *accountHistory) observe(s *sample, now time.Time) {
	if s.backend == unknownOutcome {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	current := h.slot(now)
	current.requests++
	if s.firstByte > 0 {
		i, _ := slices.BinarySearch(bounds[:], s.firstByte)
		current.firstByte[i]++
	}
	if h.failing = s.backend == failedOutcome; !h.failing {
		h.success = now
		return
	}
	current.failures++
	if s.reason != reasonBackendDown || h.failure.at.IsZero() {
		h.failure = failedCall{now, s.requestID, s.errorCode, shortened(s.cause, maxShown), s.reason, s.code}
	}
}

// slot returns the slot of an instant, cleared if it was that of an earlier one. It requires
// that mu is held.
func (h *accountHistory) slot(now time.Time) *historySlot {
	if h.slots == nil {
		h.slots = new([slotCount]historySlot)
	}
	number := h.number(now)
	current := &h.slots[number%slotCount]
	if current.number < number {
		*current = historySlot{number: number}
	}
	return current
}

func (h *accountHistory) number(now time.Time) int64 {
	return max(0, int64(now.Sub(h.epoch)/slotLength))
}

// up reports whether the last request that told got an answer, and whether there was one.
func (h *accountHistory) up() (answers, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.failing, h.failing || !h.success.IsZero()
}

// A pastQuarter is what an accountHistory knows at an instant: the slots, the oldest first and
// the one that is not over yet last.
type pastQuarter struct {
	slots   [slotCount]historySlot
	age     time.Duration // since the history began
	current time.Duration // how much of the last slot is over
	success time.Time
	failure failedCall
}

func (h *accountHistory) snapshot(now time.Time) *pastQuarter {
	h.mu.Lock()
	defer h.mu.Unlock()
	age := max(0, now.Sub(h.epoch))
	p := &pastQuarter{age: age, current: age % slotLength, success: h.success, failure: h.failure}
	if h.slots == nil {
		return p
	}
	newest := h.number(now)
	for i := range p.slots {
		number := newest - slotCount + 1 + int64(i)
		if number >= 0 && h.slots[number%slotCount].number == number {
			p.slots[i] = h.slots[number%slotCount]
		}
	}
	return p
}

// sum adds up the last n slots.
func (p *pastQuarter) sum(n int) (total historySlot) {
	for i := range p.slots[slotCount-n:] {
		s := &p.slots[slotCount-n+i]
		total.requests += s.requests
		total.failures += s.failures
		for j, count := range s.firstByte {
			total.firstByte[j] += count
		}
	}
	return total
}

// quantile returns the time within which a part of the answers began, from 0 to 1. As
// histogram_quantile of Prometheus does, it takes the answers of a bucket as evenly spread, and
// those above the last bound as at the bound. Without answers it is 0.
func (s *historySlot) quantile(part float64) time.Duration {
	total := uint32(0)
	for _, count := range s.firstByte {
		total += count
	}
	rank, lower := part*float64(total), time.Duration(0)
	for i, upper := range bounds {
		count := float64(s.firstByte[i])
		if count > 0 && rank <= count {
			return lower + time.Duration(rank/count*float64(upper-lower))
		}
		rank -= count
		lower = upper
	}
	if total == 0 {
		return 0
	}
	return lower
}

// A reasonCount is how often a request was refused, or failed, for a reason.
type reasonCount struct {
	reason refusalReason
	count  int64
}

// A userHistory remembers the requests of one user since the start. The zero value is ready to
// use. It may be used by several goroutines at once.
type userHistory struct {
	mu             sync.Mutex // guards the rest
	seen           time.Time  // when the last request ended; zero: never
	keyID          string     // of the last key
	requests       int64
	received, sent int64 // bytes of bodies
	reasons        []reasonCount
}

// observe notes a request that has ended.
func (h *userHistory) observe(s *sample, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = now
	if s.keyID != "" {
		h.keyID = s.keyID
	}
	h.requests++
	h.received += s.received
	h.sent += s.sent
	if s.reason == "" {
		return
	}
	at := slices.IndexFunc(h.reasons, func(c reasonCount) bool { return c.reason == s.reason })
	if at < 0 { // at most one for each word
		at = len(h.reasons)
		h.reasons = append(h.reasons, reasonCount{reason: s.reason})
	}
	h.reasons[at].count++
}

// lastSeen returns when the user's last request ended, or the zero time.
func (h *userHistory) lastSeen() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

// An errorKind is what errors have in common that are shown as one. Names that the
// configuration does not have, and what does not apply, are "" or 0.
type errorKind struct {
	user, account, bucket, operation string
	reason                           refusalReason
	code                             string // "other" for one that is not known here: a backend may make it up
	status, upstreamStatus           int
}

// kindOf returns the kind of an error. A stranger can name any bucket, so what strangers do is of one
// kind whatever bucket they name.
func kindOf(s *sample) errorKind {
	kind := errorKind{s.user, s.account, s.bucket, s.operation, s.reason, s.errorCode, s.code, s.upstreamStatus}
	if kind.user == "" {
		kind.account, kind.bucket = "", ""
	}
	_, known := s3Errors[kind.code]
	_, blames := gatewayErrors[kind.code]
	if !known && !blames && kind.code != "" {
		kind.code = otherLabel
	}
	return kind
}

// A keptError is all errors of a kind, with the latest.
type keptError struct {
	errorKind
	count                      int64
	first, last                time.Time
	requestID, cause, lastCode string // of the last
}

// An errorHistory has the last kinds of errors. When there are too many, one of the user or of the
// account with the most kinds is given up. So neither a stranger who tries keys nor a backend that
// is down displaces all others. It may be used by several goroutines at once.
type errorHistory struct {
	mu   sync.Mutex // guards kept
	kept []keptError
}

// observe notes a request that has ended, if it was refused or failed. What a backend answers to
// a client's own request, such as NoSuchKey, has no reason.
func (h *errorHistory) observe(s *sample, now time.Time) {
	if s.reason == "" {
		return
	}
	kind := kindOf(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.kept {
		if e := &h.kept[i]; e.errorKind == kind {
			e.count++
			e.last, e.requestID, e.cause, e.lastCode = now, s.requestID, shortened(s.cause, maxShown), s.errorCode
			return
		}
	}
	fresh := keptError{kind, 1, now, now, s.requestID, shortened(s.cause, maxShown), s.errorCode}
	if len(h.kept) < keptErrors {
		h.kept = append(h.kept, fresh)
	} else {
		h.kept[h.dispensable(&kind)] = fresh
	}
}

// dispensable returns the index of the error that a new kind displaces: the oldest of the user or of the
// account that then would have the most kinds. All users of a gateway may share an account, so of
// the errors of an account it is one of the user with the most. It requires that mu is held.
func (h *errorHistory) dispensable(fresh *errorKind) (index int) {
	ofUser, ofAccount := map[string]int{fresh.user: 1}, map[string]int{fresh.account: 1}
	for i := range h.kept {
		ofUser[h.kept[i].user]++
		ofAccount[h.kept[i].account]++
	}
	delete(ofAccount, "") // that is none
	byNeed := func(a, b *keptError) int {
		userA, accountA, userB, accountB := ofUser[a.user], ofAccount[a.account], ofUser[b.user], ofAccount[b.account]
		return cmp.Or(cmp.Compare(max(userB, accountB), max(userA, accountA)), cmp.Compare(userB+accountB, userA+accountA), a.last.Compare(b.last))
	}
	for i := range h.kept {
		if byNeed(&h.kept[i], &h.kept[index]) < 0 {
			index = i
		}
	}
	return index
}

// list returns the errors, the latest first.
func (h *errorHistory) list() []keptError {
	h.mu.Lock()
	list := slices.Clone(h.kept)
	h.mu.Unlock()
	slices.SortStableFunc(list, func(a, b keptError) int { return b.last.Compare(a.last) })
	return list
}

// A recentHistory is what is not of one user or one account.
type recentHistory struct {
	errors    errorHistory
	strangers userHistory // requests whose user is not known
}
