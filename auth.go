package main

// Who is calling, and what they may do. Nothing here knows of backends.

import (
	"crypto/sha256"
	"net/http"
	"time"
)

// maxAPIKey is the longest API key, in characters.
const maxAPIKey = 256

// A role says which actions a user may take in the buckets allowed to them.
type role string

const (
	roleAdmin    role = "admin"
	roleUser     role = "user"
	roleReadOnly role = "readonly"
)

// An action is what an operation does to a bucket.
type action string

const (
	actionRead  action = "read"
	actionWrite action = "write"
	actionAdmin action = "admin" // permanent, or changes who may do what

	// actionBeyondBucket is to read or to write what names a place outside of the bucket (a
	// bucket, a host, a queue, a function, an account) in the backend's terms, which
	// the gateway can't authorize. It is for admins to whom all buckets are allowed.
	actionBeyondBucket action = "owner"

	// actionNone is to be told something by the gateway, whatever the bucket.
	actionNone action = "none"
)

// may reports whether a role covers an action. An unknown role covers none.
func (r role) may(a action) bool {
	switch r {
	case roleAdmin:
		return true
	case roleUser:
		return a == actionRead || a == actionWrite
	case roleReadOnly:
		return a == actionRead
	}
	return false
}

// A user of the gateway.
type user struct {
	name       string
	role       role
	allBuckets bool            // every bucket the gateway knows
	buckets    map[string]bool // the buckets allowed, if not all
	digests    [][sha256.Size]byte
	secrets    []string  // the keys in the clear, where the configuration has them
	limit      rateLimit // of requests in a window
	share      share     // of requests in flight and of bandwidth
}

func (u *user) mayUse(bucketName string) bool {
	return u.allBuckets || u.buckets[bucketName]
}

// isFullAdmin reports whether a user is an admin of every bucket.
func (u *user) isFullAdmin() bool { return u.role == roleAdmin && u.allBuckets }

// An authenticator finds users by the SHA-256 of their keys. A map's lookup takes
// longer the more of a digest matches, but nobody can choose a digest without inverting
// SHA-256. So the time it takes says nothing about a key.
type authenticator struct {
	byDigest map[[sha256.Size]byte]*user
	byName   map[string]*user
}

func newAuthenticator(users []*user) *authenticator {
	a := &authenticator{byDigest: map[[sha256.Size]byte]*user{}, byName: map[string]*user{}}
	for _, u := range users {
		a.byName[u.name] = u
		for _, digest := range u.digests {
			a.byDigest[digest] = u
		}
	}
	return a
}

// authenticate finds out who sent a request, by one authentication method: x-api-key if
// the header is there, else a signature, in the header or in the query. A request that
// one method refuses is not tried by the other. The claim is nil for a user with
// x-api-key. The path is in escaped form, as received.
func (a *authenticator) authenticate(r *http.Request, path string, query []parameter, now time.Time) (*user, *claim, *apiError) {
	if values := r.Header["X-Api-Key"]; len(values) > 0 {
		u, err := a.byKey(values)
		return u, nil, err
	}
	header, presigned := hasClaim(r, query)
	switch {
	case header && presigned:
		return nil, nil, newError("InvalidRequest", "the request is signed in the Authorization header and in the query; only one is allowed")
	case hasParameter(query, "AWSAccessKeyId"):
		return nil, nil, newError("InvalidRequest", "Signature Version 2 is not supported; sign with AWS4-HMAC-SHA256 (signature_version = s3v4)")
	case !header && !presigned:
		return nil, nil, newError("Unauthorized", "No API key provided")
	}
	c, err := parseClaim(r, query, presigned)
	if err != nil {
		return nil, nil, err
	}
	u := a.byName[c.accessKeyID]
	if err := c.verify(u, r, path, query, now); err != nil {
		return nil, nil, err
	}
	return u, c, nil
}

// byKey returns the user whose key an x-api-key header holds. The header must be there
// once, with one printable value. With two values, or one that was folded or padded, a
// proxy before the gateway may have checked another.
func (a *authenticator) byKey(values []string) (*user, *apiError) {
	if key := values[0]; len(values) == 1 && key != "" && len(key) <= maxAPIKey && isPrintable(key) {
		if u := a.byDigest[sha256.Sum256([]byte(key))]; u != nil {
			return u, nil
		}
	}
	return nil, newError("Unauthorized", "Invalid API key")
}
