package main

// doctor -write: an object is written to each bucket, read, compared and deleted.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// probePrefix begins the keys of probe objects, so that one that was left can be recognised.
const probePrefix = "s3-proxy-doctor-"

// deleteTime bounds the deletion of a probe object, which happens after an interruption, too.
const deleteTime = 5 * time.Second

// A prober writes to a bucket.
type prober struct {
	*chapter
	*bucket
}

// probe writes an object under a new key, and deletes it whatever happens.
func (b *prober) probe(ctx context.Context) {
	key, content := probePrefix+rand.Text(), rand.Text()
	digest := sha256.Sum256([]byte(content))
	put := &outgoing{
		method: http.MethodPut, target: b.target(key), header: http.Header{"Content-Type": {"text/plain"}},
		body: strings.NewReader(content), length: int64(len(content)), payloadHash: hex.EncodeToString(digest[:]),
	}
	written, err := ask(ctx, b.upstream, put)
	if err == nil && written.status >= 400 && written.status < 500 { // nothing was stored
		b.unwritten(written, "write")
		return
	}
	version := ""
	if err == nil {
		version = written.header.Get("X-Amz-Version-Id")
	}
	defer b.remove(ctx, key, version)
	switch {
	case err != nil:
		b.add(b.title, "write_failed", "an object of %d bytes was not written: %s", len(content), ownWords(err))
		return
	case !isSuccess(written.status):
		b.unwritten(written, "write")
		return
	}
	switch read, err := ask(ctx, b.upstream, newRead(b.target(key), nil)); {
	case err != nil:
		b.add(b.title, "write_failed", "an object was written and not read: %s", ownWords(err))
	case read.status != http.StatusOK:
		b.unwritten(read, "read")
	case string(read.body) != content:
		b.add(b.title, "write_differs", "an object of %d bytes was written, and other bytes were read; something on the way changes bodies: a proxy, or a cache", len(content))
	default:
		b.add(b.title, "write_ok", "an object was written and read")
	}
}

// unwritten adds the finding for a refused step.
func (b *prober) unwritten(reply *s3Answer, step string) {
	if reply.status == http.StatusForbidden {
		b.add(b.title, "write_denied", "the account's key may not %s objects (%s); allow s3:PutObject, s3:GetObject and s3:DeleteObject on %s, unless clients only read", step, reply.said(b.chapter), b.backendName)
		return
	}
	b.add(b.title, "write_failed", "the %s of an object failed: the backend answers %s", step, reply.said(b.chapter))
}

// remove deletes a probe object; in a bucket with versions, the version that was written, so
// that nothing stays.
func (b *prober) remove(ctx context.Context, key, version string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
	defer cancel()
	out := &outgoing{method: http.MethodDelete, target: b.target(key), header: http.Header{}, payloadHash: emptyPayload}
	if version != "" && version != "null" && opaque(maxID)(version) == nil {
		out.query = withParameter(nil, "versionId", version)
	}
	reply, err := ask(ctx, b.upstream, out)
	switch {
	case err != nil:
		b.left(key, ownWords(err))
	case !isSuccess(reply.status) && reply.status != http.StatusNotFound:
		b.left(key, "the backend answers "+reply.said(b.chapter))
	}
}

func (b *prober) left(key, why string) {
	b.add(b.title, "probe_left", "the object %s may be left in the bucket: %s; delete it", key, why)
}
