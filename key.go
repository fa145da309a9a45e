package main

// s3-proxy key: a new API key for a user, or the digest of one that exists.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

var keyCommand = subcommand{
	name:      "key",
	arguments: "[-hash]",
	summary:   "make an API key, or print the SHA-256 of one",
	run:       runKey,
}

// newKeySize is the size of a new key, in bytes: 192 bits.
const newKeySize = 24

func runKey(_ context.Context, flags *flag.FlagSet, args []string, std streams) error {
	hash := flags.Bool("hash", false, "read a key from standard input and print its SHA-256, not the key")
	if err := parseAll(flags, args); err != nil {
		return err
	}
	if !*hash {
		key := newKey()
		_, err := fmt.Fprintf(std.out, `key      %s
sha256   %s

In users, with the key:
  "NAME": { "api_key": "%[1]s", "role": "user", "allowed_buckets": ["BUCKET"] }
or with its digest, which is no secret, for a user who sends x-api-key and signs nothing:
  "NAME": { "api_key_sha256": "%[2]s", "role": "user", "allowed_buckets": ["BUCKET"] }
`, key, keyDigest(key))
		return err
	}
	if isTerminal(std.in) {
		fmt.Fprintln(std.err, "Type the key, which is shown, then Enter and Ctrl-D:")
	}
	key, err := readKey(std.in)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, `sha256   %s

In users:
  "NAME": { "api_key_sha256": "%[1]s", "role": "user", "allowed_buckets": ["BUCKET"] }
`, keyDigest(key))
	return err
}

// newKey returns a new key in base64url. None begins with "-", which programs that take a key
// as an argument would read as a flag.
func newKey() string {
	for {
		var b [newKeySize]byte
		rand.Read(b[:])
		if key := base64.RawURLEncoding.EncodeToString(b[:]); key[0] != '-' {
			return key
		}
	}
}

func keyDigest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// readKey reads a key and the line break after it, if there is one. It refuses what a
// configuration would.
func readKey(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, 2*maxAPIKey))
	if err != nil {
		return "", err
	}
	key := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	c := new(checker)
	c.key("the key", key)
	return key, errors.Join(c.errs...)
}
