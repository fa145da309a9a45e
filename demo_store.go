package main

// The demo's files. A bucket is a folder, and an object is two files in it:
//
//	photos/5f1c….json             its key, headers, sums, and the name of
//	photos/5f1c….1838201.data     its bytes
//
// 5f1c… is the SHA-256 of the key, because a key has up to 1024 bytes of any
// kind and a file name can't. A new version gets a new .data file; renaming
// its .json over the old one is the moment it is stored. So a process that is
// killed leaves the old object or the new one, and a reader that has opened
// the old one reads on.
//
// A multipart upload is a folder too, whose objects are the parts. It is there
// from the moment its last file is, and gone from the moment that is:
//
//	photos/18a9….upload/…         the parts, by their numbers
//	photos/18a9….upload/upload    what they will be an object of
//
// It goes when the upload is completed or aborted, and at a start when it is
// older than a week: nobody comes back to it then.

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	demoBucketMarker = ".s3-proxy-demo-bucket" // an empty file, as old as the bucket; a folder without is not ours
	demoUploadMarker = "upload"
	demoUploadAge    = 7 * 24 * time.Hour
)

// A demoFolder is a folder of objects.
type demoFolder struct {
	dir string

	mu      sync.RWMutex           // protects what follows, which files are current, and a bucket's uploads
	objects map[string]*demoObject // by key; an object never changes once it is here
	keys    []string               // of objects, sorted by bytes: what is listed
	gone    bool                   // nothing may come here any more: an upload at its end
}

type demoBucket struct {
	*demoFolder
	name    string
	created time.Time
	uploads map[string]*demoUpload // by id
}

type demoUpload struct {
	*demoFolder // of the parts
	id          string
	object      demoObject // the one to be; Modified is when the upload began
}

// A demoObject is the .json file of an object.
type demoObject struct {
	Key          string
	Data         string            // the name of the .data file
	Size         int64             // bytes
	ETag         string            // quoted
	Modified     time.Time         // whole seconds, UTC: HTTP has no finer ones
	StorageClass string            // never empty
	Header       map[string][]byte // by lower-case name; bytes, as JSON would mend them
	Tags         []demoTag
	Algorithm    string // of demoChecksums, or none
	Sum          string // by Algorithm, in base64
	Composite    bool   // Sum is of the sums of the parts, with "-" and how many
}

func demoFileName(key string) string {
	digest := sha256.Sum256([]byte(key))
	return hex.EncodeToString(digest[:])
}

// demoBucketName is a little stricter than
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
var demoBucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func makeDemoBucket(dir, name string) error {
	if !demoBucketName.MatchString(name) {
		return fmt.Errorf("%q can't be the name of a bucket", name)
	}
	if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
		return err
	}
	marker, err := os.OpenFile(filepath.Join(dir, name, demoBucketMarker), os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return marker.Close()
}

// loadDemoBucket returns nil for what is no bucket.
func loadDemoBucket(dir string, now time.Time) (*demoBucket, error) {
	marker, err := os.Stat(filepath.Join(dir, demoBucketMarker))
	if err != nil {
		return nil, nil
	}
	f, err := loadDemoFolder(dir)
	if err != nil {
		return nil, err
	}
	b := &demoBucket{f, filepath.Base(dir), marker.ModTime().UTC().Truncate(time.Second), map[string]*demoUpload{}}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if id, ok := strings.CutSuffix(entry.Name(), ".upload"); ok {
			if err := b.loadUpload(id, now); err != nil {
				return nil, err
			}
		}
	}
	return b, err
}

func (b *demoBucket) loadUpload(id string, now time.Time) error {
	u := &demoUpload{id: id}
	dir := filepath.Join(b.dir, id+".upload")
	text, err := os.ReadFile(filepath.Join(dir, demoUploadMarker))
	if err != nil || json.Unmarshal(text, &u.object) != nil || now.Sub(u.object.Modified) > demoUploadAge {
		return os.RemoveAll(dir)
	}
	if u.demoFolder, err = loadDemoFolder(dir); err == nil {
		b.uploads[id] = u
	}
	return err
}

var demoLeftover = regexp.MustCompile(`^[0-9a-f]{64}(\.[0-9]+)?\.(data|tmp)$`)

// loadDemoFolder reads a folder, and removes the files in it which no object
// names.
func loadDemoFolder(dir string) (*demoFolder, error) {
	f := &demoFolder{dir: dir, objects: map[string]*demoObject{}}
	entries, err := os.ReadDir(dir)
	current := map[string]bool{}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == ".json" {
			o, err := loadDemoObject(dir, entry.Name())
			if err != nil {
				return nil, err
			}
			f.objects[o.Key], current[o.Data] = o, true
		}
	}
	for _, entry := range entries {
		if name := entry.Name(); demoLeftover.MatchString(name) && !current[name] {
			os.Remove(filepath.Join(dir, name))
		}
	}
	f.keys = slices.Sorted(maps.Keys(f.objects))
	return f, err
}

// loadDemoObject refuses an object whose bytes are not all there, which can be
// after a power cut. To start without it would be to lose it silently.
func loadDemoObject(dir, name string) (*demoObject, error) {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	o := &demoObject{}
	if err := json.Unmarshal(text, o); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err := os.Stat(filepath.Join(dir, filepath.Base(o.Data)))
	if err != nil || name != demoFileName(o.Key)+".json" || data.Size() != o.Size {
		return nil, fmt.Errorf("%s: object %q is damaged", path, o.Key)
	}
	return o, nil
}

// open returns an object and its bytes. The file is opened under the lock: a
// writer removes it after the object was replaced, and it stays readable then.
func (f *demoFolder) open(key string) (*demoObject, *os.File, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	o := f.objects[key]
	if o == nil {
		return nil, nil, errDemoNoSuchKey
	}
	file, err := os.Open(filepath.Join(f.dir, o.Data))
	return o, file, err
}

func (f *demoFolder) get(key string) (*demoObject, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if o := f.objects[key]; o != nil {
		return o, nil
	}
	return nil, errDemoNoSuchKey
}

// store makes o, with the bytes that fill writes, the object of its key. What
// o has no ETag or sum of, it gets from them. The headers hold the sums that
// these bytes must have, and the conditions under which o is stored at all.
func (f *demoFolder) store(o *demoObject, h http.Header, now time.Time, fill func(io.Writer) (int64, error)) error {
	data, err := f.create(demoFileName(o.Key) + ".*.data")
	if err != nil {
		return err
	}
	sums := newDemoSums(o.Algorithm)
	o.Size, err = fill(io.MultiWriter(data, sums))
	if err = cmp.Or(err, data.Close()); err == nil {
		err = sums.verify(h)
	}
	o.Data, o.Modified = filepath.Base(data.Name()), now.UTC().Truncate(time.Second)
	o.ETag = cmp.Or(o.ETag, `"`+hex.EncodeToString(sums["Content-Md5"].Sum(nil))+`"`)
	if o.Algorithm != "" {
		o.Sum = cmp.Or(o.Sum, base64.StdEncoding.EncodeToString(sums["X-Amz-Checksum-"+o.Algorithm].Sum(nil)))
	}
	if err == nil {
		err = f.replace(o.Key, func(old *demoObject) (*demoObject, error) { return o, demoWriteConditions(h, old) })
	}
	if err != nil {
		os.Remove(data.Name())
	}
	return err
}

// create makes a file, under the lock that guards the folder's removal.
func (f *demoFolder) create(pattern string) (*os.File, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.gone {
		return nil, errDemoNoSuchUpload
	}
	return os.CreateTemp(f.dir, pattern)
}

// replace puts what next returns in the place of the object there is, either
// of which may be nil. It is decided under the lock which guards the rename:
// of two writers who both say If-None-Match: *, one is refused.
func (f *demoFolder) replace(key string, next func(old *demoObject) (*demoObject, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return errDemoNoSuchUpload
	}
	old := f.objects[key]
	o, err := next(old)
	if err != nil || o == old {
		return err
	}
	if err := f.write(key, o); err != nil {
		return err
	}
	if old != nil && (o == nil || o.Data != old.Data) {
		os.Remove(filepath.Join(f.dir, old.Data))
	}
	i, found := slices.BinarySearch(f.keys, key)
	switch {
	case o == nil:
		delete(f.objects, key)
		f.keys = slices.Delete(f.keys, i, i+1)
		return nil
	case !found:
		f.keys = slices.Insert(f.keys, i, key)
	}
	f.objects[key] = o
	return nil
}

// write replaces the .json file of an object, or removes it for nil. It
// requires that f.mu is held: the temporary file is there once.
func (f *demoFolder) write(key string, o *demoObject) error {
	path := filepath.Join(f.dir, demoFileName(key))
	if o == nil {
		return os.Remove(path + ".json")
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path+".json")
}
