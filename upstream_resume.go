package main

// The rest of a GET whose body broke off. It is asked of the same account, by Range and
// If-Match, so that the client gets one whole object. It knows nothing of the client.
// RFC 9110 sections 13.1.1 and 14.2.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxResumes is how often the body of one request is continued.
const maxResumes = 3

// errCannotResume ends a body that can't be continued: the object has changed, or the backend
// answered something else.
var errCannotResume = errors.New("the backend broke off, and can't continue the same object")

// A resumption is what it takes to continue the body of an answer. It belongs to one
// goroutine.
type resumption struct {
	u      *upstream
	out    *outgoing
	header http.Header // of the answer
	first  int64       // offset of the body's first byte in the object
	end    int64       // offset after its last
	size   int64       // of the object
	done   int         // resumptions so far
}

// oneRange matches the Content-Range of a single range of an object whose size is known.
var oneRange = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})$`)

// newResumption returns nil for an answer that can't be continued exactly. It must be a GET of
// one range or the whole of an object, with a length, and have a strong ETag or be of a version
// that can't change.
func newResumption(u *upstream, out *outgoing, resp *http.Response) *resumption {
	if resp.Body.(*answerBody).left < 0 || out.method != http.MethodGet || hasParameter(out.query, "partNumber") || !identifiesObject(out, resp.Header) {
		return nil
	}
	r := &resumption{u: u, out: out, header: resp.Header, end: resp.ContentLength, size: resp.ContentLength}
	if resp.StatusCode == http.StatusOK {
		return r
	}
	m := oneRange.FindStringSubmatch(resp.Header.Get("Content-Range"))
	if resp.StatusCode != http.StatusPartialContent || m == nil {
		return nil
	}
	r.first, _ = strconv.ParseInt(m[1], 10, 64) // 18 digits fit
	last, _ := strconv.ParseInt(m[2], 10, 64)
	r.size, _ = strconv.ParseInt(m[3], 10, 64)
	if r.end = last + 1; r.end-r.first != resp.ContentLength || r.end > r.size {
		return nil
	}
	return r
}

// identifiesObject reports whether a later answer can be known to be of the same bytes: by a
// strong ETag (RFC 9110 section 8.8.3), or by the version that was asked for. The version "null"
// is the one that can be overwritten.
func identifiesObject(out *outgoing, h http.Header) bool {
	if version := parameterValue(out.query, "versionId"); version != "" && version != "null" && h.Get("X-Amz-Version-Id") == version {
		return true
	}
	return isStrong(h.Get("Etag"))
}

func isStrong(etag string) bool {
	return len(etag) > 2 && etag[0] == '"' && etag[len(etag)-1] == '"'
}

// resume returns the rest of the body, of which n bytes were received. It returns an error if
// the rest can't be had: the budget is used up, the backend does not answer, or the object has
// changed.
func (r *resumption) resume(ctx context.Context, n int64) (*answerBody, error) {
	for r.done < maxResumes && ctx.Err() == nil && r.u.budget.take(time.Now()) {
		r.done++
		out := r.rest(n)
		resp, err := r.u.attempt(ctx, out, r.u.pool.dial)
		if err == nil && r.continues(resp, n) {
			r.u.counts.resumed.Add(1)
			return resp.Body.(*answerBody), nil
		}
		if resp != nil {
			resp.Body.Close()
		}
		if !retriable(resp, err) {
			return nil, errCannotResume
		}
		wait, ok := r.u.retryDelay(r.done, resp)
		if !ok || sleep(ctx, wait, nil) != nil {
			break
		}
	}
	return nil, errCannotResume
}

// rest returns the request for the bytes after the first n.
func (r *resumption) rest(n int64) *outgoing {
	out := *r.out
	out.header = maps.Clone(r.out.header)
	for name := range out.header {
		if strings.HasPrefix(name, "If-") {
			delete(out.header, name)
		}
	}
	out.header["Range"] = []string{fmt.Sprintf("bytes=%d-%d", r.first+n, r.end-1)}
	if etag := r.header.Get("Etag"); isStrong(etag) {
		out.header["If-Match"] = []string{etag}
	}
	return &out
}

// continues reports whether an answer is exactly the rest of the same object.
func (r *resumption) continues(resp *http.Response, n int64) bool {
	for _, name := range []string{"Etag", "X-Amz-Version-Id", "Content-Encoding"} {
		if resp.Header.Get(name) != r.header.Get(name) {
			return false
		}
	}
	if resp.Body.(*answerBody).left != r.end-r.first-n {
		return false
	}
	if resp.StatusCode == http.StatusOK { // all of it, which is what was asked for
		return r.first+n == 0 && r.end == r.size
	}
	return resp.StatusCode == http.StatusPartialContent &&
		resp.Header.Get("Content-Range") == fmt.Sprintf("bytes %d-%d/%d", r.first+n, r.end-1, r.size)
}

// A resumedBody is the body of an answer that is continued when it breaks off. Interrupt may be
// called by another goroutine than the reader's.
type resumedBody struct {
	ctx  context.Context
	rest *resumption // nil: it can't be continued
	n    int64       // bytes read

	mu   sync.Mutex // guards the rest
	body *answerBody
	over bool // interrupted
}

// Read implements io.Reader.
func (b *resumedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.n += int64(n)
	if err == nil || !b.mayResume(err) {
		return n, err
	}
	next, failure := b.rest.resume(b.ctx, b.n)
	if failure != nil {
		return n, err
	}
	b.body.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.body = next; b.over {
		next.interrupt()
	}
	return n, nil
}

// mayResume reports whether the body may be continued after an error: it has not ended, and
// neither was the backend waited for already, nor is the rest unwanted.
func (b *resumedBody) mayResume(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.body.ended && b.rest != nil && !b.over && !errors.Is(err, errNoProgress)
}

// interrupt makes a Read that waits for the backend return, and later ones fail.
func (b *resumedBody) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.body.interrupt()
}

// resumed returns how often the rest was asked for.
func (b *resumedBody) resumed() int {
	if b.rest == nil {
		return 0
	}
	return b.rest.done
}

// Close implements io.Closer.
func (b *resumedBody) Close() error { return b.body.Close() }
