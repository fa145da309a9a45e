package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// The example of AWS: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
func TestSignatureIsThatOfAWS(t *testing.T) {
	u, _ := url.Parse("http://examplebucket.s3.amazonaws.com/test.txt")
	r := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{"Range": {"bytes=0-9"}}}
	now := time.Date(2013, time.May, 24, 0, 0, 0, 0, time.UTC)
	k := keyPair{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	const want = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
	if got := sign(r, k, hexSHA256(nil), now); got != want {
		t.Errorf("sign = %s, want %s", got, want)
	}
	if _, ok := verify(r, k); !ok {
		t.Error("verify refuses what sign has signed")
	}
	r.Header.Set("Range", "bytes=0-8")
	if _, ok := verify(r, k); ok {
		t.Error("verify accepts a header that was changed")
	}
}

func TestSliceOfContentIsSliceOfItsBytes(t *testing.T) {
	c := append(newContent(1, 100), append(newContent(2, 7), newContent(3, 50)...)...)
	all := c.bytes()
	if int64(len(all)) != c.size() {
		t.Fatalf("%d bytes, want %d", len(all), c.size())
	}
	for first := int64(0); first < c.size(); first += 3 {
		for n := int64(1); first+n <= c.size(); n += 11 {
			if got := c.slice(first, n).bytes(); !bytes.Equal(got, all[first:first+n]) {
				t.Fatalf("slice(%d, %d) is another part", first, n)
			}
		}
	}
}

func TestEqualTellsACutBodyFromAnotherOne(t *testing.T) {
	c := newContent(1, 100<<10)
	same := c.bytes()
	changed := bytes.Clone(same)
	changed[70<<10] ^= 1
	for _, test := range []struct {
		name string
		body io.Reader
		at   int64
		err  error
	}{
		{"the same", bytes.NewReader(same), -1, nil},
		{"the same in small pieces", iotest.HalfReader(bytes.NewReader(same)), -1, nil},
		{"another byte", bytes.NewReader(changed), 70 << 10, nil},
		{"a clean end too early", bytes.NewReader(same[:50<<10]), 50 << 10, nil},
		{"a byte too many", io.MultiReader(bytes.NewReader(same), strings.NewReader("x")), 100 << 10, nil},
		{"a visible end", io.MultiReader(bytes.NewReader(same[:50<<10]), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, io.ErrUnexpectedEOF},
	} {
		if at, err := equal(test.body, c.reader()); at != test.at || err != test.err {
			t.Errorf("%s: equal = %d, %v, want %d, %v", test.name, at, err, test.at, test.err)
		}
	}
}

func TestListIsComparedWithWhatWasThereMeanwhile(t *testing.T) {
	a := &account{backend: &backend{store: newStore("b")}}
	a.backend.put("b", "stays", &version{})
	a.backend.put("b", "goes", &version{})
	begin := time.Now()
	a.backend.put("b", "goes", &version{deleted: true})
	a.backend.put("b", "comes", &version{})
	end := time.Now()
	for _, test := range []struct {
		keys string
		ok   bool
	}{
		{"comes goes stays", true}, {"stays", true}, {"goes stays", true},
		{"comes goes", false}, {"never stays", false}, {"stays goes", false}, {"stays stays", false},
	} {
		if wrong := checkList(a, "b", "", strings.Fields(test.keys), begin, end); (wrong == "") != test.ok {
			t.Errorf("checkList(%s) = %q, want right: %t", test.keys, wrong, test.ok)
		}
	}
}

func TestSecondArrivalOfAWriteIsAViolation(t *testing.T) {
	l := newLedger()
	head := func(id trace) http.Header { return http.Header{traceHeader: {id.header()}} }
	read, write := l.permit(&permission{}), l.permit(&permission{})
	for range 2 {
		l.arrived(http.MethodGet, "/b/k", head(read))
	}
	l.arrived(http.MethodPut, "/b/k", head(write))
	if len(l.violations) > 0 {
		t.Fatalf("violations: %v", l.violations)
	}
	l.arrived(http.MethodPut, "/b/k", head(write))
	if len(l.violations) != 1 || l.violations[0].promise != promiseOnce {
		t.Errorf("violations: %v, want one: %s", l.violations, promiseOnce)
	}
}

// A mutation that changes nothing would prove nothing.
func TestMutationsApplyToTheProgram(t *testing.T) {
	sources, _ := filepath.Glob("../*.go")
	for _, name := range sources { // go test sees what a test opens: the result is not kept when they change
		os.Stat(name)
	}
	for _, m := range mutations {
		dir := t.TempDir()
		data, err := os.ReadFile(filepath.Join("..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, m.file), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.apply(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestByteRange(t *testing.T) {
	for _, test := range []struct {
		header   string
		first, n int64
		ok       bool
	}{
		{"bytes=0-9", 0, 10, true}, {"bytes=90-", 90, 10, true}, {"bytes=-10", 90, 10, true},
		{"bytes=50-500", 50, 50, true}, {"", 0, 0, false}, {"items=0-1", 0, 0, false},
	} {
		if first, n, ok := byteRange(test.header, 100); ok != test.ok || ok && (first != test.first || n != test.n) {
			t.Errorf("byteRange(%q) = %d, %d, %t, want %d, %d, %t", test.header, first, n, ok, test.first, test.n, test.ok)
		}
	}
}

func TestSecretsAreFoundInALine(t *testing.T) {
	var s secretSet
	s.add("a-key-of-somebody")
	sum := strings.Repeat("0a", 32)
	s.addSignature(sum)
	for _, line := range []string{`{"user_agent":"a-key-of-somebody"}`, fmt.Sprintf(`{"cause":"Signature=%s"}`, sum)} {
		if s.in(line) == "" {
			t.Errorf("nothing is found in %s", line)
		}
	}
	if got := s.in(`{"key":"` + strings.Repeat("0b", 32) + `"}`); got != "" {
		t.Errorf("%s is found, and is not there", got)
	}
}
