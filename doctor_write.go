package main

// doctor -write: an object is written to each bucket, read, compared and deleted.

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// probePrefix begins the keys of probe objects, so that one that was left can be recognised.
const probePrefix = "s3-proxy-doctor-"

// probeTime is the least time that is left for an account when a probe object is written, so that
// few writes are broken off.
const probeTime = 3 * time.Second

// deleteTime bounds the deletion of a probe object, which happens after an interruption, too.
const deleteTime = 5 * time.Second

// A prober writes to a bucket.
type prober struct {
	*chapter
	*bucket
}

// probe writes an object under a new key, and deletes it whatever happens. It returns false if
// there was no time to know whether that works.
func (b *prober) probe(ctx context.Context) (known bool) {
	if ends, limited := ctx.Deadline(); ctx.Err() != nil || limited && time.Until(ends) < probeTime {
		return false
	}
	key, content := probePrefix+rand.Text(), rand.Text()
	written, err := b.put(ctx, key, content)
	version, doubt := "", ""
	switch {
	case err != nil:
		doubt = "no answer says whether it was written, and it may still be"
	case written.status >= 500:
		doubt = fmt.Sprintf("the backend answers the write with %d, and may have stored it", written.status)
	case !isSuccess(written.status): // nothing was stored
		b.unwritten(written, "write")
		return true
	default:
		version = written.header.Get("X-Amz-Version-Id")
	}
	defer func() {
		// A write of unknown outcome may end after the deletion, and in a bucket with versions the
		// deletion of an unknown version keeps it: so an answer to the deletion proves nothing.
		if why := cmp.Or(doubt, b.remove(ctx, key, version)); why != "" {
			b.left(key, why)
		}
	}()
	switch {
	case err != nil && ctx.Err() != nil:
		return false
	case err != nil:
		b.add(b.title, "write_failed", "an object of %d bytes was not written: %s", len(content), ownWords(err))
		return true
	case doubt != "":
		b.unwritten(written, "write")
		return true
	}
	return b.compare(ctx, key, content)
}

// put writes an object.
func (b *prober) put(ctx context.Context, key, content string) (*s3Answer, error) {
	digest := sha256.Sum256([]byte(content))
	return ask(ctx, b.upstream, &outgoing{
		method: http.MethodPut, target: b.target(key), header: http.Header{"Content-Type": {"text/plain"}},
		body: strings.NewReader(content), length: int64(len(content)), payloadHash: hex.EncodeToString(digest[:]),
	})
}

// compare reads an object that was written. It returns false if there was no time.
func (b *prober) compare(ctx context.Context, key, content string) (known bool) {
	switch read, err := ask(ctx, b.upstream, newRead(b.target(key), nil)); {
	case err != nil && ctx.Err() != nil:
		return false
	case err != nil:
		b.add(b.title, "write_failed", "an object was written and not read: %s", ownWords(err))
	case read.status != http.StatusOK:
		b.unwritten(read, "read")
	case string(read.body) != content:
		b.add(b.title, "write_differs", "an object of %d bytes was written, and other bytes were read; something on the way changes bodies: a proxy, or a cache", len(content))
	default:
		b.add(b.title, "write_ok", "an object was written and read")
	}
	return true
}

// unwritten adds the finding for a refused step.
func (b *prober) unwritten(reply *s3Answer, step string) {
	if reply.status == http.StatusForbidden {
		b.add(b.title, "write_denied", "the account's key may not %s objects (%s); allow s3:PutObject, s3:GetObject and s3:DeleteObject on %s, unless clients only read", step, reply.said(b.chapter), b.backendName)
		return
	}
	b.add(b.title, "write_failed", "the %s of an object failed: the backend answers %s", step, reply.said(b.chapter))
}

// remove deletes a probe object; in a bucket that has or had versions, the version that was
// written ("null" while they are suspended), so that no delete marker stays. It returns why the
// object may still be there, or "".
func (b *prober) remove(ctx context.Context, key, version string) (why string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
	defer cancel()
	out := &outgoing{method: http.MethodDelete, target: b.target(key), header: http.Header{}, payloadHash: emptyPayload}
	unnamed := opaque(maxID)(version) != nil
	if version != "" && !unnamed {
		out.query = withParameter(nil, "versionId", version)
	}
	switch reply, err := ask(ctx, b.upstream, out); {
	case err != nil:
		return ownWords(err)
	case !isSuccess(reply.status) && reply.status != http.StatusNotFound:
		return "the backend answers " + reply.said(b.chapter)
	case unnamed:
		return "its version has a name that can't be sent"
	}
	return ""
}

func (b *prober) left(key, why string) {
	b.add(b.title, "probe_left", "the object %s may be left in the bucket: %s; delete it, and where there are versions, all of them", key, why)
}
