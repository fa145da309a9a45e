package main

// Who is calling, and what they may do. Nothing here knows of backends.

import (
	"crypto/sha256"
	"net/http"
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
	secrets    []string // the keys in the clear, where the configuration has them
}

func (u *user) mayUse(bucket string) bool {
	return u.allBuckets || u.buckets[bucket]
}

// An authenticator knows users by the SHA-256 of their keys. A map's lookup
// takes longer the more of a digest fits, but who could choose digests could
// invert SHA-256; so the time it takes says nothing about a key.
type authenticator struct {
	byDigest map[[sha256.Size]byte]*user
}

func newAuthenticator(users []*user) *authenticator {
	a := &authenticator{byDigest: map[[sha256.Size]byte]*user{}}
	for _, u := range users {
		for _, digest := range u.digests {
			a.byDigest[digest] = u
		}
	}
	return a
}

// authenticate returns the user whose key the x-api-key header holds. The
// header must be there once, with one printable value: of two values, or of one
// that was folded or padded, a proxy on the way may have checked another.
func (a *authenticator) authenticate(h http.Header) (*user, *apiError) {
	values := h["X-Api-Key"]
	if len(values) == 0 {
		return nil, newError("Unauthorized", "No API key provided")
	}
	if key := values[0]; len(values) == 1 && key != "" && len(key) <= maxAPIKey && isPrintable(key) {
		if u := a.byDigest[sha256.Sum256([]byte(key))]; u != nil {
			return u, nil
		}
	}
	return nil, newError("Unauthorized", "Invalid API key")
}
