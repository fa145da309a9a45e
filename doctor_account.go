package main

// The doctor at one account: can it be reached, is it S3, does it accept the key, and is each
// bucket there. It sends what the gateway itself would send, by the same upstream: reads of
// nothing, and with -write a probe object.

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	accountTime    = 10 * time.Second // for all that is asked of an account
	bucketsAtOnce  = 8                // that an account is asked for, at most
	maxSuggestions = 2                // letters in which a name differs that was probably meant
)

// An accountDoctor examines an account.
type accountDoctor struct {
	*chapter
	path     string // of the account's settings
	upstream *upstream
	buckets  []*bucketDoctor // in the order of their names
	write    bool            // a probe object may be written
	atOnce   int             // buckets that are asked for at the same time

	unlisted, unwritten atomic.Int64 // buckets for which there was no time

	asksForAll sync.Once
	all        visibleBuckets // valid after asksForAll
}

// visibleBuckets are the buckets that the account's key sees.
type visibleBuckets struct {
	names   []string
	secrets []string // that authenticated the question
	err     error    // the names are not known
}

// errNoList is the error of an answer that is no list of buckets: mostly, the key may not see one.
var errNoList = errors.New("no list of buckets")

// A bucketDoctor examines a bucket of an account.
type bucketDoctor struct {
	*chapter
	*bucket
	account *accountDoctor
}

// addAccount adds the chapters of an account and its buckets to a report.
func addAccount(r *report, conf *config, a *account, write bool) *accountDoctor {
	path := "accounts." + a.name
	d := &accountDoctor{chapter: r.chapter(path), path: path, write: write, atOnce: bucketsAtOnce}
	d.upstream = newUpstream(a, min(conf.idleTimeout, answerTime), newMetrics().account(a.name), slog.New(slog.DiscardHandler))
	var names []string
	for name, b := range conf.buckets {
		if b.account == a {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		b := *conf.buckets[name]
		b.upstream = d.upstream
		d.buckets = append(d.buckets, &bucketDoctor{r.chapter("bucket " + name), &b, d})
	}
	return d
}

// examine fills the chapters, within accountTime. If the account itself fails, its buckets are
// not asked for. Buckets for which there is no time are counted: nothing is known of them.
func (d *accountDoctor) examine(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, accountTime)
	defer cancel()
	defer d.upstream.retire()
	defer d.begin("")
	d.begin("credentials")
	if !d.hasCredentials(ctx) {
		return
	}
	d.begin("connection")
	first := d.buckets[0]
	if !d.connects(ctx, first) {
		return
	}
	d.begin("first answer")
	if !d.answers(ctx, first) {
		return
	}
	d.begin("buckets")
	turns := make(chan struct{}, d.atOnce)
	var asked sync.WaitGroup
	for _, b := range d.buckets {
		turns <- struct{}{}
		asked.Go(func() {
			defer leave(turns)
			b.examine(ctx)
		})
	}
	asked.Wait()
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		d.remain(d.unlisted.Load(), "looked at")
		d.remain(d.unwritten.Load(), "written to")
	}
}

// remain adds how many buckets there was no time for.
func (d *accountDoctor) remain(n int64, doneTo string) {
	if n > 0 {
		d.add(d.path, "buckets_left", "%s of %d not %s: the time for an account, %s, is over, and it answers; for these, run the doctor with a file that has no others", plural(int(n), "bucket"), len(d.buckets), doneTo, accountTime)
	}
}

// hasCredentials fetches the credentials if they are not in the configuration.
func (d *accountDoctor) hasCredentials(ctx context.Context) bool {
	source := d.upstream.account.source
	if source.fetch == nil {
		return true
	}
	if err := source.refresh(ctx); err != nil {
		d.add(d.path, "credentials_missing", "no credentials from %q: %s; correct %s.credentials, or what it names", d.upstream.account.credentialSpec, ownWords(err), d.path)
		return false
	}
	return true
}

func (d *accountDoctor) peer(host string) peer {
	return peer{subject: d.path, setting: d.path + ".endpoint_url", host: host, plain: "http://", ca: d.path + ".ca_file", roots: d.upstream.account.roots}
}

// connects opens a connection, which the first request uses.
func (d *accountDoctor) connects(ctx context.Context, b *bucketDoctor) bool {
	p := d.peer(hostOf(b.bucket))
	start := time.Now()
	c, err := d.upstream.pool.dial(ctx, p.host)
	if err != nil {
		if d.upstream.account.virtualHost && d.otherStyleWorks(ctx, b.bucket) {
			d.addressing()
			return false
		}
		d.unconnected(p, err)
		return false
	}
	d.add(d.path, "connected", "%s accepts a connection, in %s", p.host, roughly(time.Since(start)))
	if c.records != nil {
		d.trusted(p, connectionState(c))
	}
	d.upstream.pool.put(c)
	return true
}

// answers asks for the first bucket, and adds what the answer says about the account. It
// returns false if asking for more is of no use.
func (d *accountDoctor) answers(ctx context.Context, b *bucketDoctor) bool {
	start := time.Now()
	reply, err := ask(ctx, d.upstream, listOf(b.bucket))
	if err != nil {
		return d.unanswered(ctx, hostOf(b.bucket), failureDiagnosis(hostOf(b.bucket), d.path+".endpoint_url", err))
	}
	found := reply.accountDiagnosis(d.chapter, d.path)
	if ahead, dated := reply.skew(start.Add(time.Since(start) / 2)); dated && reply.isS3() && (found.verdict != "clock_wrong" || ahead.Abs() >= clockLimit) {
		d.clockFinding(d.path, ahead)
		if found.verdict == "clock_wrong" {
			return false
		}
	}
	switch {
	case found.verdict == "":
		return d.placed(reply, b)
	case reply.isS3():
		d.add(d.path, found.verdict, "%s", found.text)
		return false
	case d.otherStyleWorks(ctx, b.bucket):
		d.addressing()
		return false
	}
	return d.unanswered(ctx, hostOf(b.bucket), found)
}

// placed adds what the first answer says about the region, which is the same for all buckets of
// most services, and about the key.
func (d *accountDoctor) placed(reply *s3Answer, b *bucketDoctor) bool {
	if wrong := reply.regionDiagnosis(d.chapter, b.bucket); wrong.verdict != "" && reply.code == "AuthorizationHeaderMalformed" {
		d.add(d.path, wrong.verdict, "%s", wrong.text)
		return false
	}
	if reply.code == "" || reply.code == "NoSuchBucket" {
		d.add(d.path, "credentials_ok", "the backend accepts the key and the region %s", b.bucket.account.region)
	}
	return true
}

// unanswered adds the diagnosis of an answer that is not S3's, or of none. What looks odd over
// plain HTTP may be TLS.
func (d *accountDoctor) unanswered(ctx context.Context, host string, found diagnosis) bool {
	if found.verdict != "no_answer" && d.speaksTLS(ctx, host) {
		found = diagnosis{"plain_tls", host + " speaks TLS; write https:// into " + d.path + ".endpoint_url"}
	}
	d.add(d.path, found.verdict, "%s", found.text)
	return false
}

// speaksTLS reports whether a port that was spoken to in plain HTTP begins a TLS handshake.
// Nothing is sent on that connection, so nobody need be trusted.
func (d *accountDoctor) speaksTLS(ctx context.Context, host string) bool {
	a := *d.upstream.account
	if _, _, err := net.SplitHostPort(host); err != nil || a.scheme == "https" {
		return false // the port for TLS would be another one
	}
	a.scheme = "https"
	p := newPool(&a, d.upstream.counts)
	p.dialer = d.upstream.pool.dialer
	p.tls.InsecureSkipVerify = true
	c, err := p.dial(ctx, host)
	if err == nil {
		c.abort()
	}
	return err == nil
}

// otherStyleWorks reports whether a bucket is there under the other way to address it.
func (d *accountDoctor) otherStyleWorks(ctx context.Context, b *bucket) bool {
	u := d.styled(!d.upstream.account.virtualHost)
	if host := (&url.URL{Host: u.account.host}).Hostname(); net.ParseIP(host) != nil {
		return false // an address has no names below it
	}
	reply, err := ask(ctx, u, listOf(b))
	return err == nil && reply.status == http.StatusOK && reply.root == "ListBucketResult"
}

// styled returns the account's upstream with a way to address buckets.
func (d *accountDoctor) styled(virtualHost bool) *upstream {
	a := *d.upstream.account
	a.virtualHost = virtualHost
	return d.upstream.successor(&a, d.upstream.idle)
}

// addressing adds that the buckets are there in the other style.
func (d *accountDoctor) addressing() {
	there, not, style := "host", "path", "virtual"
	if d.upstream.account.virtualHost {
		there, not, style = not, there, "path"
	}
	d.add(d.path, "addressing_wrong", "the service takes the name of a bucket in the %s, not in the %s; set %s.addressing to %q", there, not, d.path, style)
}

// errNoTime is the error of a question that there was no time for. It says nothing of the bucket.
var errNoTime = errors.New("the time is over")

// ask asks for a list of the bucket.
func (b *bucketDoctor) ask(ctx context.Context) (*s3Answer, error) {
	if ctx.Err() != nil {
		return nil, errNoTime
	}
	reply, err := ask(ctx, b.account.upstream, listOf(b.bucket))
	if err != nil && ctx.Err() != nil {
		return nil, errNoTime
	}
	return reply, err
}

// examine asks for the bucket.
func (b *bucketDoctor) examine(ctx context.Context) {
	d := b.account
	reply, err := b.ask(ctx)
	found := diagnosis{}
	if err == errNoTime {
		d.unlisted.Add(1)
		return
	}
	if err != nil {
		found = failureDiagnosis(hostOf(b.bucket), d.path+".endpoint_url", err)
	} else if found = reply.accountDiagnosis(b.chapter, d.path); found.verdict == "" {
		found = reply.bucketDiagnosis(b.chapter, b.bucket)
	}
	switch found.verdict {
	case "":
		b.add(b.title, "bucket_ok", "%s lists %s", d.path, b.backendName)
	case "bucket_denied":
		b.add(b.title, found.verdict, "%s%s", found.text, b.visible(ctx))
	case "addressing_wrong":
		d.addressing()
		return
	default:
		if err == nil && d.otherStyleWorks(ctx, b.bucket) {
			d.addressing()
			return
		}
		seen := ""
		if found.verdict == "bucket_missing" {
			seen = b.visible(ctx)
		}
		b.add(b.title, found.verdict, "%s%s", found.text, seen)
		return
	}
	if d.write && !(&prober{b.chapter, b.bucket}).probe(ctx) {
		d.unwritten.Add(1)
	}
}

// seen returns the buckets that the account's key sees. The account is asked for them once.
func (d *accountDoctor) seen(ctx context.Context) *visibleBuckets {
	d.asksForAll.Do(func() {
		d.all.err = errNoList
		reply, err := ask(ctx, d.styled(false), newRead(target{}, nil))
		if err == nil && reply.root == "ListAllMyBucketsResult" && reply.status == http.StatusOK {
			d.all.names, d.all.err = reply.bucketNames()
			d.all.secrets = reply.secrets()
		}
	})
	return &d.all
}

// visible returns which buckets the account's key sees, to complete the text of a bucket that is
// missing or refused; "" if it may not know.
func (b *bucketDoctor) visible(ctx context.Context) string {
	all := b.account.seen(ctx)
	switch {
	case all.err == errNoList:
		return ""
	case all.err != nil:
		return "; the list of the buckets that the account's key sees is too long to be read, or not complete"
	case len(all.names) == 0:
		return "; the account's key sees no bucket at all"
	}
	names := b.nearest(all.names)
	hint := ""
	if b.unlike(names[0]) <= maxSuggestions && names[0] != b.backendName {
		hint = "; did you mean the first?"
	}
	return "; the account's key sees " + b.list(names, all.secrets...) + hint
}

// nearest returns names in another order: those that are most like the bucket's come first.
func (b *bucketDoctor) nearest(names []string) []string {
	type candidate struct {
		text   string
		unlike int
	}
	var all []candidate
	for _, text := range names {
		all = append(all, candidate{text, b.unlike(text)})
	}
	slices.SortStableFunc(all, func(x, y candidate) int { return cmp.Compare(x.unlike, y.unlike) })
	sorted := make([]string, len(all))
	for i, c := range all {
		sorted[i] = c.text
	}
	return sorted
}

// unlike returns by how many letters a name differs from the bucket's.
func (b *bucketDoctor) unlike(other string) int {
	return editDistance(strings.ToLower(other), b.backendName)
}

// roughly returns a duration to a tenth of a millisecond, and never none.
func roughly(d time.Duration) time.Duration {
	const unit = 100 * time.Microsecond
	return max(d.Round(unit), unit)
}
