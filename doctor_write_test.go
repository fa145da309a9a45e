package main

import (
	"net/http"
	"strings"
	"testing"
)

// obstructed returns a backend that stores objects, except that it answers a method with a
// handler.
func obstructed(t *testing.T, method string, h http.HandlerFunc) *recorder {
	t.Helper()
	demo, err := newDemoServer(t.TempDir(), testCredentials, "photos", "secret")
	if err != nil {
		t.Fatal(err)
	}
	return startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method && strings.Contains(r.URL.Path, probePrefix) {
			h(w, r)
			return
		}
		demo.ServeHTTP(w, r)
	})
}

func testDoctorWrite(t *testing.T, e *everyVerdict) {
	denied := s3Refuses(403, "AccessDenied", "")
	breaks := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }
	for _, test := range []struct {
		name, method string
		h            http.HandlerFunc
		verdict      string
		text         string
		deleted      bool
	}{
		{"of the demo", "POST", nil, "write_ok", "written and read", true},
		{"to write", "PUT", denied, "write_denied", "s3:PutObject", false},
		{"to read", "GET", denied, "write_denied", "may not read", true},
		{"at the write", "PUT", s3Refuses(500, "InternalError", ""), "write_failed", "500 InternalError", true},
		{"in the write", "PUT", breaks, "write_failed", "not written", true},
		{"at the read", "GET", s3Refuses(404, "NoSuchKey", ""), "write_failed", "read of an object", true},
		{"in the read", "GET", breaks, "write_failed", "not read", true},
		{"by a cache", "GET", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("stale")) }, "write_differs", "a cache", true},
		{"by a right", "DELETE", denied, "probe_left", probePrefix, true},
		{"by an error", "DELETE", breaks, "probe_left", probePrefix, true},
	} {
		t.Run(test.verdict+" "+test.name, func(t *testing.T) {
			t.Parallel()
			backend := obstructed(t, test.method, test.h)
			r := e.examine(t, patient{config: testConfig(backend.URL), write: true})
			r.want(t, "bucket photos", test.verdict, test.text)
			written, deleted := map[string]bool{}, map[string]bool{}
			for _, r := range backend.requests() {
				path, _, _ := strings.Cut(r.uri, "?")
				switch r.method {
				case "PUT":
					written[path] = true
				case "DELETE":
					deleted[path] = true
				}
			}
			for path := range written {
				if !strings.Contains(path, "/"+probePrefix) || deleted[path] != test.deleted {
					t.Errorf("%s was written; deleted is %t, want %t", path, deleted[path], test.deleted)
				}
			}
			if len(written) != 2 {
				t.Errorf("%d objects were written, want one in each bucket", len(written))
			}
		})
	}
}

// After a write without a clear answer the key is told, although the deletion succeeds: the write
// may end after it, and in a bucket with versions the deletion removes nothing.
func TestDoctorNamesTheObjectOfAWriteWithUnknownOutcome(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"no answer":         func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"an internal error": s3Refuses(500, "InternalError", ""),
		"a proxy's timeout": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(504) },
	} {
		t.Run(name, func(t *testing.T) {
			backend := obstructed(t, "PUT", h)
			e := &everyVerdict{seen: map[string]bool{}}
			r := e.examine(t, patient{config: testConfig(backend.URL), write: true})
			r.want(t, "bucket photos", "write_failed")
			r.want(t, "bucket photos", "probe_left", probePrefix, "may")
		})
	}
}

// A write that is refused stores nothing, so nothing is said to be left.
func TestDoctorNamesNoObjectOfARefusedWrite(t *testing.T) {
	backend := obstructed(t, "PUT", s3Refuses(403, "AccessDenied", ""))
	e := &everyVerdict{seen: map[string]bool{}}
	e.examine(t, patient{config: testConfig(backend.URL), write: true})
	if e.seen["probe_left"] {
		t.Error("an object is said to be left after a write that was refused")
	}
}

// In a bucket with versions, the version that was written is deleted, so that nothing stays. While
// versions are suspended its id is "null"; without it a delete marker would stay.
func TestDoctorDeletesTheVersionThatItWrote(t *testing.T) {
	for _, version := range []string{"3sL4kqtJlcpXroDTDmJ", "null"} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PUT" {
				w.Header().Set("x-amz-version-id", version)
				return
			}
			lists(0)(w, r)
		})
		e := &everyVerdict{seen: map[string]bool{}}
		e.examine(t, patient{config: testConfig(backend.URL), write: true})
		deleted := 0
		for _, r := range backend.requests() {
			if r.method != "DELETE" {
				continue
			}
			if deleted++; !strings.HasSuffix(r.uri, "?versionId="+version) {
				t.Errorf("DELETE %s, want the version %s", r.uri, version)
			}
		}
		if deleted != 2 {
			t.Errorf("%d objects were deleted, want one in each bucket", deleted)
		}
	}
}
