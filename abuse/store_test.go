package abuse

// A backend that stores objects in memory, as small as S3 can be. It stores what it got
// whole and nothing else. It checks no signatures and knows nothing of the gateway.

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A store is the backend, and how it was used.
type store struct {
	*httptest.Server
	requests    atomic.Int64
	ended, busy atomic.Int64 // connections that are closed, and that are in use

	mu      sync.Mutex // guards objects
	objects map[string]storedObject
}

type storedObject struct {
	header http.Header
	body   string
}

func startStore(t testing.TB) *store {
	t.Helper()
	s := &store{objects: map[string]storedObject{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	var mu sync.Mutex // guards states
	states := map[net.Conn]http.ConnState{}
	isBusy := func(state http.ConnState) bool { return state == http.StateNew || state == http.StateActive }
	s.Config.ConnState = func(conn net.Conn, now http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if before, known := states[conn]; known && isBusy(before) {
			s.busy.Add(-1)
		}
		if isBusy(now) {
			s.busy.Add(1)
		}
		if now == http.StateClosed {
			s.ended.Add(1)
		}
		states[conn] = now
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *store) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	path := r.URL.Path
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil: // cut: nothing is stored
		refuse(w, http.StatusBadRequest, "IncompleteBody")
	case key == "" && r.Method == "HEAD":
	case key == "" && r.Method == "GET":
		s.list(w, bucket, r.URL.Query())
	case r.Method == "PUT":
		o := storedObject{http.Header{}, string(body)}
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Meta-") || slices.Contains(storedHeaders, name) {
				o.header[name] = values
			}
		}
		o.header.Set("ETag", etag(o.body))
		o.header.Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		s.objects[path] = o
		w.Header().Set("ETag", etag(o.body))
	case r.Method == "DELETE":
		delete(s.objects, path)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "GET" || r.Method == "HEAD":
		o, ok := s.objects[path]
		if !ok {
			refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		maps.Copy(w.Header(), o.header)
		w.Header().Set("Content-Length", fmt.Sprint(len(o.body))) // which ServeContent leaves out of an encoded one
		http.ServeContent(w, r, "", time.Unix(0, 0), strings.NewReader(o.body))
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

// storedHeaders are kept with an object, besides its metadata.
var storedHeaders = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control", "Expires"}

// list answers with a page of the objects of a bucket, with what ListObjects and
// ListObjectsV2 have in common. The token for the next page is the last key of this one,
// in hexadecimal.
func (s *store) list(w http.ResponseWriter, bucket string, query url.Values) {
	type contents struct {
		Key, LastModified, ETag string
		Size                    int
	}
	list := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name                  string
		EncodingType          string `xml:",omitempty"`
		IsTruncated           bool
		NextMarker            string `xml:",omitempty"`
		NextContinuationToken string `xml:",omitempty"`
		Contents              []contents
	}{Name: bucket, EncodingType: query.Get("encoding-type")}
	encode := func(key string) string { return key }
	if list.EncodingType == "url" {
		encode = url.QueryEscape
	}
	token, _ := hex.DecodeString(query.Get("continuation-token"))
	after := max(query.Get("marker"), string(token), query.Get("start-after"))
	most := 1000
	fmt.Sscan(query.Get("max-keys"), &most)
	last := ""
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		key, ok := strings.CutPrefix(path, "/"+bucket+"/")
		if !ok || key <= after || !strings.HasPrefix(key, query.Get("prefix")) {
			continue
		}
		if len(list.Contents) == most {
			list.IsTruncated, list.NextMarker, list.NextContinuationToken = true, encode(last), hex.EncodeToString([]byte(last))
			break
		}
		body := s.objects[path].body
		list.Contents = append(list.Contents, contents{encode(key), "1970-01-01T00:00:00.000Z", etag(body), len(body)})
		last = key
	}
	w.Header().Set("Content-Type", "application/xml")
	xml.NewEncoder(w).Encode(list)
}

// etag is the entity tag that S3 gives an object of one part.
func etag(body string) string { return fmt.Sprintf(`"%x"`, md5.Sum([]byte(body))) }

// refuse answers with S3's error document.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}
