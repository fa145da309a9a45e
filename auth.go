package main

// Who is calling, and what they may do. Nothing here knows of backends.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The lengths of API keys, in characters.
const (
	minAPIKey = 16 // as random hex digits they are 64 bits
	maxAPIKey = 256
)

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

// An apiKey is a key of a user.
type apiKey struct {
	digest [sha256.Size]byte
	secret string // the key in the clear; "" if the configuration has the digest alone
	id     string // for the log, which must not have the key: 8 hex digits of the digest
}

// quotedWord quotes a value that should be a short word. One as long as a key may be a secret in the wrong
// place.
func quotedWord(value string) string {
	if len(value) >= minAPIKey {
		return fmt.Sprintf("a value of %d bytes", len(value))
	}
	return strconv.Quote(value)
}

func keyOf(secret string) apiKey {
	k := keyOfDigest(sha256.Sum256([]byte(secret)))
	k.secret = secret
	return k
}

func keyOfDigest(digest [sha256.Size]byte) apiKey {
	return apiKey{digest: digest, id: hex.EncodeToString(digest[:4])}
}

// A user of the gateway.
type user struct {
	name       string
	role       role
	allBuckets bool            // every bucket the gateway knows
	buckets    map[string]bool // the buckets allowed, if not all
	keys       []apiKey
	limit      rateLimit // of requests in a window
	share      share     // of requests in flight and of bandwidth
}

// lastSecret returns the last of the user's keys that can sign: after a rotation, it is the one
// that stays. It returns nil if none can, or if there is no user.
func (u *user) lastSecret() *apiKey {
	if u == nil {
		return nil
	}
	for i := len(u.keys) - 1; i >= 0; i-- {
		if u.keys[i].secret != "" {
			return &u.keys[i]
		}
	}
	return nil
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
	byDigest map[[sha256.Size]byte]caller
	byName   map[string]*user
}

// A caller is who sent a request.
type caller struct {
	user    *user  // nil: not known
	keyID   string // of the key that the user used
	claim   *claim // the verified signature; nil for a user with x-api-key
	claimed *user  // whom a signature names that is not valid, if there is such a user
}

func newAuthenticator(users []*user) *authenticator {
	a := &authenticator{byDigest: map[[sha256.Size]byte]caller{}, byName: map[string]*user{}}
	for _, u := range users {
		a.byName[u.name] = u
		for _, key := range u.keys {
			a.byDigest[key.digest] = caller{user: u, keyID: key.id}
		}
	}
	return a
}

// withoutKeys returns a text of a client for the log, without the words in it that are keys of users,
// whoever sent it. Of name=value the value is a word, too.
func (a *authenticator) withoutKeys(text string) string {
	if len(text) < minAPIKey {
		return text
	}
	var found []string
	for word := range strings.FieldsFuncSeq(text, func(c rune) bool { return strings.ContainsRune("/?&:;,@#\"'()<>{}[]| \t", c) }) {
		if _, value, ok := strings.Cut(word, "="); a.hasKey(word) {
			found = append(found, word)
		} else if ok && a.hasKey(value) {
			found = append(found, value)
		}
	}
	for _, key := range found {
		text = strings.ReplaceAll(text, key, withheld)
	}
	return text
}

// hasKey reports whether a word is a key of a user.
func (a *authenticator) hasKey(word string) bool {
	if len(word) < minAPIKey || len(word) > maxAPIKey {
		return false
	}
	_, known := a.byDigest[sha256.Sum256([]byte(word))]
	return known
}

// authenticate finds out who sent a request, by one authentication method: x-api-key if
// the header is there, else a signature, in the header or in the query. A request that
// one method refuses is not tried by the other. The path is in escaped form, as received.
func (a *authenticator) authenticate(r *http.Request, path string, query []parameter, now time.Time) (caller, *apiError) {
	if values := r.Header["X-Api-Key"]; len(values) > 0 {
		return a.byKey(values)
	}
	header, presigned := hasClaim(r, query)
	switch {
	case header && presigned:
		return caller{}, newError(reasonMalformedSignature, "InvalidRequest", "the request is signed in the Authorization header and in the query; only one is allowed")
	case hasParameter(query, "AWSAccessKeyId"):
		return caller{}, newError(reasonMalformedSignature, "InvalidRequest", "Signature Version 2 is not supported; sign with AWS4-HMAC-SHA256 (signature_version = s3v4)")
	case !header && !presigned:
		return caller{}, newError(reasonNoKey, "Unauthorized", "No API key provided")
	}
	c, err := parseClaim(r, query, presigned)
	if err != nil {
		return caller{}, err
	}
	u := a.byName[c.accessKeyID]
	keyID, err := c.verify(u, r, path, query, now)
	if err != nil {
		return caller{claimed: u}, err
	}
	return caller{user: u, keyID: keyID, claim: c}, nil
}

// byKey returns the user whose key an x-api-key header holds. The header must be there
// once, with one printable value. With two values, or one that was folded or padded, a
// proxy before the gateway may have checked another.
func (a *authenticator) byKey(values []string) (caller, *apiError) {
	if key := values[0]; len(values) == 1 && key != "" && len(key) <= maxAPIKey && isPrintable(key) {
		if known, ok := a.byDigest[sha256.Sum256([]byte(key))]; ok {
			return known, nil
		}
	}
	return caller{}, newError(reasonUnknownKey, "Unauthorized", "Invalid API key")
}
