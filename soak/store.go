package main

// What a backend has stored, with its past: so a client that reads can be told which
// versions were current while its request ran.

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A version of an object.
type version struct {
	etag     string // without quotes
	content  content
	length   int64
	sum      string            // MD5 of the bytes as they arrived
	metadata map[string]string // by header
	tags     string            // as in x-amz-tagging
	part     int               // of an upload; 0: an object
	from     time.Time
	to       time.Time // zero: it is current
	deleted  bool      // there is no object
	trace    trace     // that stored it
}

// within reports whether the version was current at some time of a span.
func (v *version) within(begin, end time.Time) bool {
	return !v.from.After(end) && (v.to.IsZero() || !v.to.Before(begin))
}

// A store is the buckets of a backend. All methods may be called at once.
type store struct {
	mu        sync.Mutex                       // guards the rest
	objects   map[string]map[string][]*version // by bucket and key, the oldest first
	uploads   map[string]*upload
	documents map[string][]byte // configurations of buckets, by bucket and name
	next      int
}

// An upload is a multipart upload.
type upload struct {
	bucket, key string
	metadata    map[string]string
	tags        string
	parts       map[int]*version
}

func newStore(buckets ...string) *store {
	s := &store{objects: map[string]map[string][]*version{}, uploads: map[string]*upload{}, documents: map[string][]byte{}}
	for _, b := range buckets {
		s.objects[b] = map[string][]*version{}
	}
	return s
}

// put makes a version the current one of a key. It returns when.
func (s *store) put(bucket, key string, v *version) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putLocked(bucket, key, v)
}

// putLocked is put. It requires that s.mu is held.
func (s *store) putLocked(bucket, key string, v *version) time.Time {
	now := time.Now()
	past := s.objects[bucket][key]
	if len(past) == 0 {
		past = []*version{{deleted: true}}
	}
	past[len(past)-1].to = now
	v.from = now
	// Requests last for seconds; what was replaced minutes ago is of no interest.
	past = slices.DeleteFunc(past, func(old *version) bool { return !old.to.IsZero() && now.Sub(old.to) > 5*time.Minute })
	s.objects[bucket][key] = append(past, v)
	return now
}

// current returns the version that a key has now, or nil.
func (s *store) current(bucket, key string) *version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.currentLocked(bucket, key)
}

// currentLocked is current. It requires that s.mu is held.
func (s *store) currentLocked(bucket, key string) *version {
	past := s.objects[bucket][key]
	if len(past) == 0 || past[len(past)-1].deleted {
		return nil
	}
	v := *past[len(past)-1]
	return &v
}

// during returns the versions of a key that were current at some time of a span. A version
// with deleted set stands for "no object".
func (s *store) during(bucket, key string, begin, end time.Time) []version {
	s.mu.Lock()
	defer s.mu.Unlock()
	past := s.objects[bucket][key]
	if len(past) == 0 {
		return []version{{deleted: true}}
	}
	var found []version
	for _, v := range past {
		if v.within(begin, end) {
			found = append(found, *v)
		}
	}
	return found
}

// keyList returns the keys of a bucket that exist, sorted.
func (s *store) keyList(bucket string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.objects[bucket] {
		if s.currentLocked(bucket, key) != nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// listed returns the keys with a prefix that a list of a span must have, and those that it may
// have.
func (s *store) listed(bucket, prefix string, begin, end time.Time) (must, may map[string]bool) {
	must, may = map[string]bool{}, map[string]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, past := range s.objects[bucket] {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		absent := false
		for _, v := range past {
			if v.within(begin, end) {
				may[key] = may[key] || !v.deleted
				absent = absent || v.deleted
			}
		}
		must[key] = may[key] && !absent
	}
	return must, may
}

// beginUpload makes an upload and returns its id.
func (s *store) beginUpload(bucket, key string, h http.Header) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := fmt.Sprintf("upload-%d-%x", s.next, time.Now().UnixNano())
	s.uploads[id] = &upload{bucket, key, metadataOf(h), h.Get("X-Amz-Tagging"), map[int]*version{}}
	return id
}

// upload returns an upload of a key, or nil.
func (s *store) upload(bucket, key, id string) *upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uploads[id]; u != nil && u.bucket == bucket && u.key == key {
		return u
	}
	return nil
}

// putPart stores a part of an upload, unless that has ended.
func (s *store) putPart(id string, v *version) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil {
		return false
	}
	u.parts[v.part] = v
	return true
}

// complete makes an object of the parts with these numbers and ETags. It returns nil if one is
// not there.
func (s *store) complete(id string, numbers []int, etags []string, t trace) *version {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil {
		return nil
	}
	v := &version{metadata: u.metadata, tags: u.tags, trace: t}
	var sums []string
	for i, n := range numbers {
		part := u.parts[n]
		if part == nil || part.etag != etags[i] {
			return nil
		}
		v.content = append(v.content, part.content...)
		sums = append(sums, part.sum)
	}
	v.length, v.etag = v.content.size(), partsETag(sums)
	delete(s.uploads, id)
	s.putLocked(u.bucket, u.key, v)
	return v
}

// abort ends an upload and reports whether it was there.
func (s *store) abort(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.uploads[id]
	delete(s.uploads, id)
	return there
}

// document returns, sets or deletes a document of a bucket.
func (s *store) document(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.documents[name]
}

func (s *store) setDocument(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if data == nil {
		delete(s.documents, name)
	} else {
		s.documents[name] = data
	}
}

// setTags changes the tags of the current version.
func (s *store) setTags(bucket, key, tags string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.currentLocked(bucket, key)
	if v == nil {
		return false
	}
	past := s.objects[bucket][key]
	past[len(past)-1].tags = tags
	return true
}

// metadataOf returns what an object keeps of the headers of its upload.
func metadataOf(h http.Header) map[string]string {
	kept := map[string]string{}
	for name, values := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == "Content-Type" || name == "Cache-Control" {
			kept[name] = strings.Join(values, ",")
		}
	}
	return kept
}
