package main

// The proof that a run can fail: deliberate bugs in a copy of the program, one at a time, each of
// which a run has to find.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A mutation is a deliberate bug: a text of a file, which must be there once, and what replaces
// it.
type mutation struct{ name, file, old, new string }

var mutations = []mutation{
	{"the last byte of an upload is not held back", "upload.go",
		"	case b.left == 1:\n		return b.readLast(p)\n	}\n	if int64(len(p)) > b.left-1 {\n		p = p[:b.left-1]\n	}\n", "	}\n"},
	{"the pool keeps a connection on which bytes wait", "upstream_pool.go",
		"if c.quiet() {", "if true {"},
	{"a download that was cut ends cleanly", "exchange.go",
		"	if aborted {\n		panic(http.ErrAbortHandler)\n	}\n}", "}"},
	{"an answer without its last chunk is whole", "upstream_conn.go",
		"	if err == io.EOF {\n		b.release(true)", "	if err == io.EOF || err == io.ErrUnexpectedEOF {\n		err = io.EOF\n		b.release(true)"},
	{"a write is sent again", "upstream_retry.go",
		"if out.isRead() {", "if true {"},
	{"the rest of a download may be another one", "upstream_resume.go",
		"func (r *resumption) continues(resp *http.Response, n int64) bool {\n", "func (r *resumption) continues(resp *http.Response, n int64) bool {\n	if resp.StatusCode < 300 {\n		return true\n	}\n"},
	{"the rest of a download begins a byte early", "handlers_object.go",
		"rest.resume(x.r.Context(), x.sent)", "rest.resume(x.r.Context(), max(x.sent-1, 0))"},
	{"readers may write", "auth.go",
		"		return a == actionRead\n	}\n	return false", "		return a == actionRead || a == actionWrite\n	}\n	return false"},
	{"every bucket is allowed", "auth.go",
		"return u.allBuckets || u.buckets[bucketName]", "return true"},
	{"any signature of a user is right", "auth_signature.go",
		"if subtle.ConstantTimeCompare(signature(key, text), []byte(c.signature)) == 1 && known", "if subtle.ConstantTimeCompare(signature(key, text), []byte(c.signature)) >= 0 && known"},
	{"a signature does not expire", "auth_signature.go",
		"	if err := c.checkTime(now); err != nil {", "	if err := c.checkTime(now); err != nil && false {"},
	{"signatures of chunks are not verified", "upload_chunked.go",
		"subtle.ConstantTimeCompare([]byte(want), []byte(c.signature)) != 1", "subtle.ConstantTimeCompare([]byte(want), []byte(c.signature)) > 1"},
	{"a key that was replaced stays valid", "gateway.go",
		"func (g *gateway) inherit(before *gateway) {\n", "func (g *gateway) inherit(before *gateway) {\n	if before.auth != nil {\n		for digest, known := range before.auth.byDigest {\n			g.auth.byDigest[digest] = known\n		}\n	}\n"},
	{"a bucket may belong to two accounts", "config_check.go",
		`		c.errorf(path, "bucket %q is claimed by account %q already", f.Name, other.account.name)`, "		_ = other"},
	{"the log has the key", "exchange_record.go",
		"shortened(x.withoutCredentials(shortened(x.r.UserAgent(), longestAgent)), 256)", `shortened(x.r.Header.Get("X-Api-Key"), 256)`},
	{"a place among the requests in flight is not given back", "exchange.go",
		"	for _, n := range x.busy {\n		n.leave()\n", "	for range x.busy {\n"},
	{"an account that failed is refused for ever", "upstream_circuit.go",
		"	if probe {\n		c.probing = false\n	}\n", ""},
	{"a client that makes no progress is not cut off", "progress.go",
		"		p.cut()\n		return", "		return"},
	{"a connection that broke stays open", "upstream_conn.go",
		"func (c *backendConn) abort() {\n	c.arm()\n	c.raw.Close()\n", "var leaked sync.Map\n\nfunc (c *backendConn) abort() {\n	leaked.Store(c, c.raw)\n"},
	{"no request is over a limit", "handlers.go",
		"	if d.admitted {\n		return nil", "	if true {\n		return nil"},
}

// apply applies the mutation to a tree.
func (m *mutation) apply(tree string) error {
	path := filepath.Join(tree, m.file)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(data), m.old); n != 1 {
		return fmt.Errorf("%s: %s has %q %d times, want once", m.name, m.file, m.old, n)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(data), m.old, m.new, 1)), 0o600)
}

// mutate runs each mutation until it is found, for at most the duration.
func mutate(o options, tree string) error {
	survived := 0
	for _, m := range mutations {
		if !strings.Contains(m.name, o.only) {
			continue
		}
		begin := time.Now()
		l, err := m.run(o, tree)
		if err != nil {
			return err
		}
		if len(l.violations) == 0 {
			survived++
			fmt.Printf("%-52s SURVIVED %v\n", m.name, time.Since(begin).Round(time.Second))
			continue
		}
		detail, _, _ := strings.Cut(l.violations[0].detail, "\n")
		fmt.Printf("%-52s found after %v: %s: %.160s\n", m.name, l.violations[0].at.Round(100*time.Millisecond), l.violations[0].promise, detail)
	}
	if survived > 0 {
		return fmt.Errorf("%d mutations survived", survived)
	}
	return nil
}

// run runs a copy of the tree that has the bug.
func (m *mutation) run(o options, tree string) (*ledger, error) {
	dir, err := os.MkdirTemp("", "soak-mutation-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := copySources(tree, dir); err != nil {
		return nil, err
	}
	if err := m.apply(dir); err != nil {
		return nil, err
	}
	l := newLedger()
	return l, run(o, l, dir, false)
}

// copySources copies what the program is built from.
func copySources(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), "_test.go") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
