//go:build interop

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A signedRequest is a line of interop/signatures.py: a request that botocore
// has signed.
type signedRequest struct {
	Method    string
	Target    string
	Headers   [][2]string // as sent, Host first
	Signed    []string    // names in lower case
	Presigned bool
	ID        string
	Secret    string
	Time      int64 // Unix seconds
}

func (s *signedRequest) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", s.Method, s.Target)
	for _, h := range s.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	return b.String() + "\r\n"
}

// verify reads the request as net/http does and authenticates it. Whether it
// could be read at all is the second result.
func (s *signedRequest) verify() (error, bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(s.String())))
	if err != nil {
		return err, false
	}
	path, err := requestPath(r)
	if err != nil {
		return err, false
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err, false
	}
	users := newAuthenticator([]*user{{name: s.ID, role: roleUser, keys: []apiKey{keyOf(s.Secret)}}})
	c, refusal := users.authenticate(r, path, query, time.Unix(s.Time, 0))
	switch {
	case refusal != nil:
		return fmt.Errorf("%s: %s", refusal.Code, refusal.Message), true
	case c.user == nil || c.user.name != s.ID:
		return fmt.Errorf("accepted for %v", c.user), true
	}
	return nil, true
}

// header returns the index of a header by its lower-case name, or -1.
func (s *signedRequest) header(name string) int {
	return slices.IndexFunc(s.Headers, func(h [2]string) bool { return strings.EqualFold(h[0], name) })
}

// mutations change what a signature covers. Each returns false if it does not
// apply. That the meaning changes is by how they are made: none changes the case
// of a name, the space around a value, the order of the query, or an escape.
var mutations = map[string]func(s *signedRequest, rng *rand.Rand) bool{
	"method": func(s *signedRequest, rng *rand.Rand) bool {
		methods := slices.DeleteFunc([]string{"GET", "HEAD", "PUT", "POST", "DELETE"}, func(m string) bool { return m == s.Method })
		s.Method = methods[rng.IntN(len(methods))]
		return true
	},
	"letter in the path": func(s *signedRequest, rng *rand.Rand) bool {
		path, query, has := strings.Cut(s.Target, "?")
		i := 1 + rng.IntN(len(path))
		for i < len(path) && (path[i-1] == '%' || i > 1 && path[i-2] == '%') {
			i++ // not into an escape
		}
		s.Target = path[:i] + "z" + path[i:]
		if has {
			s.Target += "?" + query
		}
		return true
	},
	"letter gone from the path": func(s *signedRequest, rng *rand.Rand) bool {
		path, query, has := strings.Cut(s.Target, "?")
		if len(path) < 2 || strings.Contains(path, "%") {
			return false
		}
		i := 1 + rng.IntN(len(path)-1)
		s.Target = path[:i] + path[i+1:]
		if has {
			s.Target += "?" + query
		}
		return true
	},
	"parameter added": func(s *signedRequest, _ *rand.Rand) bool {
		separator := "&"
		if !strings.Contains(s.Target, "?") {
			separator = "?"
		}
		s.Target += separator + "zz"
		return true
	},
	"parameter gone": func(s *signedRequest, rng *rand.Rand) bool {
		return s.query(func(pairs []string) []string {
			i := rng.IntN(len(pairs))
			return slices.Delete(pairs, i, i+1)
		})
	},
	"parameter changed": func(s *signedRequest, rng *rand.Rand) bool {
		return s.query(func(pairs []string) []string {
			pairs[rng.IntN(len(pairs))] += "z"
			return pairs
		})
	},
	"parameter renamed": func(s *signedRequest, rng *rand.Rand) bool {
		return s.query(func(pairs []string) []string {
			i := rng.IntN(len(pairs))
			pairs[i] = "z" + pairs[i]
			return pairs
		})
	},
	"header changed": func(s *signedRequest, rng *rand.Rand) bool {
		s.Headers[s.header(s.Signed[rng.IntN(len(s.Signed))])][1] += "z"
		return true
	},
	"header gone": func(s *signedRequest, rng *rand.Rand) bool {
		i := s.header(s.Signed[rng.IntN(len(s.Signed))])
		s.Headers = slices.Delete(s.Headers, i, i+1)
		return true
	},
	"header twice": func(s *signedRequest, rng *rand.Rand) bool {
		i := s.header(s.Signed[rng.IntN(len(s.Signed))])
		s.Headers = append(s.Headers, [2]string{s.Headers[i][0], "z"})
		return true
	},
	"x-amz-* header added": func(s *signedRequest, _ *rand.Rand) bool {
		s.Headers = append(s.Headers, [2]string{"x-amz-meta-zz", "z"})
		return true
	},
	"signature": func(s *signedRequest, rng *rand.Rand) bool {
		i := s.header("Authorization")
		if i < 0 {
			return false
		}
		value := []byte(s.Headers[i][1])
		digit := &value[len(value)-1-rng.IntN(64)]
		*digit = "123456789abcdef0"[strings.IndexByte("0123456789abcdef", *digit)]
		s.Headers[i][1] = string(value)
		return true
	},
	"scope": func(s *signedRequest, _ *rand.Rand) bool {
		i := s.header("Authorization")
		if i < 0 {
			return false
		}
		s.Headers[i][1] = strings.Replace(s.Headers[i][1], "/s3/", "z/s3/", 1)
		return true
	},
	"signed headers": func(s *signedRequest, rng *rand.Rand) bool {
		i := s.header("Authorization")
		if i < 0 {
			return false
		}
		all := strings.Join(s.Signed, ";")
		less := strings.Join(slices.Delete(slices.Clone(s.Signed), 0, 1), ";")
		s.Headers[i][1] = strings.Replace(s.Headers[i][1], all, less, 1)
		return true
	},
	"date": func(s *signedRequest, _ *rand.Rand) bool {
		i := s.header("X-Amz-Date")
		if i < 0 {
			return false
		}
		at := time.Unix(s.Time, 0).UTC()
		second := time.Second
		if at.Second() == 59 {
			second = -time.Second
		}
		s.Headers[i][1] = at.Add(second).Format(amzDateFormat)
		return true
	},
	"key": func(s *signedRequest, _ *rand.Rand) bool {
		s.Secret += "z"
		return true
	},
}

// query changes the pairs of the query, if there is one.
func (s *signedRequest) query(change func([]string) []string) bool {
	path, query, has := strings.Cut(s.Target, "?")
	if has {
		s.Target = path + "?" + strings.Join(change(strings.Split(query, "&")), "&")
	}
	return has
}

// Ten thousand random requests that botocore has signed are accepted; ten random
// changes to each of them are not.
func TestInteropSignatures(t *testing.T) {
	const count, changes = 10_000, 10

	dir := os.Getenv("INTEROP_DIR")
	if dir == "" {
		dir = filepath.Join("interop", ".cache")
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "venv", "bin", "python"), filepath.Join("interop", "signatures.py"), fmt.Sprint(count))
	cmd.Stderr = os.Stderr
	lines, err := cmd.Output()
	if err != nil {
		t.Fatalf("signatures.py: %v: run interop/install", err)
	}
	var names []string
	for name := range mutations {
		names = append(names, name)
	}
	slices.Sort(names)
	rng := rand.New(rand.NewPCG(2013, 524))
	accepted, refused, unread := 0, 0, 0
	for line := range strings.Lines(string(lines)) {
		var s signedRequest
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if err, _ := s.verify(); err != nil {
			t.Errorf("refused: %v\n%s", err, &s)
			continue
		}
		accepted++
		for done := 0; done < changes; {
			changed := s
			changed.Headers = slices.Clone(s.Headers)
			name := names[rng.IntN(len(names))]
			if !mutations[name](&changed, rng) {
				continue
			}
			done++
			switch err, read := changed.verify(); {
			case err == nil:
				t.Errorf("accepted with another %s:\n%s\ninstead of\n%s", name, &changed, &s)
			case read:
				refused++
			default:
				unread++
			}
		}
	}
	t.Logf("of %d requests %d were accepted; of their changes %d were refused, and %d more could not be read", count, accepted, refused, unread)
	if accepted != count {
		t.Errorf("%d requests were accepted, want %d", accepted, count)
	}
	if unread > refused/10 {
		t.Errorf("%d changes could not be read, too many to say much about signatures", unread)
	}
}
