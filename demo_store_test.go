package main

import (
	"crypto/md5"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// files returns the names in a bucket's folder except for the marker.
func (c *demoClient) files(bucket string) []string {
	c.t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.dir, bucket))
	if err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if entry.Name() != demoBucketMarker {
			names = append(names, entry.Name())
		}
	}
	return names
}

// wantFiles fails if a bucket's folder has another number of files: two for
// each object.
func (c *demoClient) wantFiles(bucket string, n int) {
	c.t.Helper()
	if files := c.files(bucket); len(files) != n {
		c.t.Errorf("%d files in %s, want %d: %q", len(files), bucket, n, files)
	}
}

var demoOddKeys = []string{
	"a", "a b", "a+b", "a%2Fb", "a%b", "a//b", "a/./b", "a/../b", "../../up", "..", ".", "/a", "//", "dir/", "ключ/鍵/🗝", "e\u0301", "é",
	"\x01\x1f\x7f\t\r\n", "?x#y&z=", `\"'<>`, "~-._!$'()*,;:@", strings.Repeat("k", 1024), "index.html", "\ufffe\uffff",
}

func TestDemoStoresAnyKey(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos")
	for i, key := range demoOddKeys {
		c.want(200, "", "PUT", "/photos/"+key, "", nil, fmt.Sprint("object ", i))
	}
	c = startDemo(t, dir) // what was stored is found again
	for i, key := range demoOddKeys {
		if a := c.want(200, "", "GET", "/photos/"+key, "", nil, ""); a.body != fmt.Sprint("object ", i) {
			t.Errorf("GET %q = %q, want object %d", key, a.body, i)
		}
	}
	if got, want := c.listAll(demoListing{size: 1000, v2: true, encode: true}), slices.Sorted(slices.Values(demoOddKeys)); !slices.Equal(got, want) {
		t.Errorf("list = %q, want %q", got, want)
	}
	for _, key := range demoOddKeys {
		c.want(204, "", "DELETE", "/photos/"+key, "", nil, "")
		c.want(204, "", "DELETE", "/photos/"+key, "", nil, "")
		c.want(404, "NoSuchKey", "GET", "/photos/"+key, "", nil, "")
	}
	c.wantFiles("photos", 0)
}

func TestDemoRestartFindsObjectsAndRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos", "backups")
	c.want(200, "", "PUT", "/photos/cat", "", demoHeader("Content-Type", "text/plain", "X-Amz-Meta-Mood", "\xe9"), "meow")
	first := c.want(200, "", "GET", "/photos/cat", "", nil, "")
	files := c.files("photos")
	c.create("/photos/cat")

	hash := strings.Repeat("0", 64)
	foreign := filepath.Join(dir, "foreign", hash+".1.data") // not in a bucket
	os.Mkdir(filepath.Dir(foreign), 0o700)
	for _, path := range []string{foreign, filepath.Join(dir, "photos", hash+".1.data"), filepath.Join(dir, "photos", hash+".tmp")} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = startDemo(t, dir, "photos", "videos")
	again := c.want(200, "", "GET", "/photos/cat", "", nil, "")
	for _, name := range []string{"Content-Type", "ETag", "Last-Modified", "X-Amz-Meta-Mood", "Content-Length"} {
		if got, want := again.Header.Get(name), first.Header.Get(name); got != want || want == "" {
			t.Errorf("%s = %q, was %q", name, got, want)
		}
	}
	if got := c.files("photos"); !slices.Equal(got, files) {
		t.Errorf("files = %q, want %q", got, files)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file in a folder that is not a bucket: %v", err)
	}
	for bucket, status := range map[string]int{"backups": 200, "videos": 200, "foreign": 404} {
		c.want(status, "", "HEAD", "/"+bucket, "", nil, "")
	}
}

// No file is reached outside the demo's folder, whatever a name or a link says.
func TestDemoDoesNotLeaveItsFolder(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, demoBucketMarker), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x", "a/../../x", filepath.Join(outside, "x"), ".."} {
		if _, err := newDemoServer(filepath.Join(outside, "demo"), demoTestCreds, name); err == nil {
			t.Errorf("newDemoServer with the bucket %q succeeds", name)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "linked")); err != nil {
		t.Skip(err)
	}
	c := startDemo(t, dir)
	c.want(404, "NoSuchBucket", "PUT", "/linked/cat", "", nil, "meow")
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 2 { // the marker, and demo
		t.Errorf("outside the folder: %v, %v", entries, err)
	}
}

// A reader of an object that is too large for the buffers between reads on while
// it is replaced or deleted.
func TestDemoReadSurvivesReplacement(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	old := strings.Repeat("0123456789abcdef", 1<<20)
	for _, next := range []func(){
		func() { c.want(200, "", "PUT", "/photos/cat", "", nil, "new") },
		func() { c.want(204, "", "DELETE", "/photos/cat", "", nil, "") },
	} {
		c.want(200, "", "PUT", "/photos/cat", "", nil, old)
		resp, err := demoTransport.RoundTrip(c.sign(c.request("GET", "/photos/cat", "", nil, ""), ""))
		if err != nil {
			t.Fatal(err)
		}
		next()
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != old {
			t.Errorf("read %d bytes (%v), want the %d bytes of the old object", len(body), err, len(old))
		}
	}
}

// With many writers of one key, what is read is always one of the bodies, whole,
// with the ETag that belongs to it.
func TestDemoConcurrentWritersDoNotMix(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos")
	body := func(i int) string { return strings.Repeat(string(rune('a'+i)), 1000*(i+1)) }
	check := func(a demoAnswer) {
		if a.StatusCode != 200 || a.body != body(int(a.body[0]-'a')) {
			t.Errorf("read %d %.20q…", a.StatusCode, a.body)
		}
		if want := fmt.Sprintf(`"%x"`, md5.Sum([]byte(a.body))); a.Header.Get("ETag") != want {
			t.Errorf("ETag %s, want %s", a.Header.Get("ETag"), want)
		}
	}
	var wg sync.WaitGroup
	var created atomic.Int32
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				c.want(200, "", "PUT", "/photos/cat", "", nil, body(i))
				check(c.do("GET", "/photos/cat", "", nil, ""))
			}
			if c.do("PUT", "/photos/lock", "", demoHeader("If-None-Match", "*"), body(i)).StatusCode == 200 {
				created.Add(1)
			}
			c.want(200, "", "PUT", "/photos/"+body(i)[:1], "", nil, "")
			c.listAll(demoListing{size: 2, v2: true})
		})
	}
	wg.Wait()
	if n := created.Load(); n != 1 {
		t.Errorf("%d writers created the object, want 1", n)
	}
	c.wantFiles("photos", 20)
	check(startDemo(t, dir).do("GET", "/photos/cat", "", nil, ""))
}
