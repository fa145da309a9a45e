package main

// Storage for the demo: objects in a folder, and an index of them in memory.
// It knows nothing of requests.
//
// A bucket is a folder, and an object is two files in it:
//
//	photos/5f1c….json           its key, headers, ETag, and the name of
//	photos/5f1c….UO4T….data     its bytes
//
// 5f1c… is the SHA-256 of the key, because a key has up to 1024 bytes of any kind and a file name
// can't. A new version gets a new .data file, and renaming its .json over the old one stores it. A
// process that is killed leaves either the old object or the new one, and a reader that has opened
// the old one reads on.
//
// A multipart upload is a folder too, photos/UO4T….upload, and its objects are the parts. It ends
// with the process.

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"sync"
	"time"
)

// demoBucketMarker is an empty file. A folder without one is not ours.
const demoBucketMarker = ".s3-proxy-demo-bucket"

// A demoObject is the .json file of an object. An object in the index never changes; it is
// replaced.
type demoObject struct {
	Key      string
	Data     string            // name of the .data file
	Size     int64             // bytes
	ETag     string            // quoted
	Modified time.Time         // UTC, whole seconds: HTTP has no finer ones
	Header   map[string][]byte // by lower-case name; bytes, because JSON strings are UTF-8
}

// A demoFolder is a folder of objects. It may be used by several goroutines.
type demoFolder struct {
	root *os.Root // the folder of the whole demo: no name leads out of it
	dir  string   // within root, with slashes

	mu      sync.RWMutex           // protects what follows, and which files are current
	objects map[string]*demoObject // by key
	removed bool                   // it was that of an upload that has ended
}

type demoBucket struct {
	*demoFolder
	uploads sync.Map // of *demoUpload, by id
}

type demoUpload struct {
	*demoFolder // of the parts
	id          string
	object      *demoObject // the one to be
}

// openDemoBuckets makes the folder dir and the buckets named, as far as they are missing, and
// returns all buckets in dir by name. It removes files that a killed process has left.
func openDemoBuckets(dir string, names []string) (map[string]*demoBucket, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := root.MkdirAll(name, 0o700); err != nil {
			return nil, err
		}
		if err := root.WriteFile(path.Join(name, demoBucketMarker), nil, 0o600); err != nil {
			return nil, err
		}
	}
	markers, err := fs.Glob(root.FS(), "*/"+demoBucketMarker)
	if err != nil {
		return nil, err
	}
	buckets := map[string]*demoBucket{}
	for _, marker := range markers {
		f := newDemoFolder(root, path.Dir(marker))
		if err := f.load(); err != nil {
			return nil, err
		}
		buckets[f.dir] = &demoBucket{demoFolder: f}
	}
	return buckets, nil
}

func newDemoFolder(root *os.Root, dir string) *demoFolder {
	return &demoFolder{root: root, dir: dir, objects: map[string]*demoObject{}}
}

var demoLeftover = regexp.MustCompile(`^([0-9a-f]{64}(\.[0-9A-Z]+)?\.(data|tmp)|[0-9A-Za-z]+\.upload)$`)

// load indexes the objects of a folder, and removes files of ours that no object names.
func (f *demoFolder) load() error {
	entries, err := fs.ReadDir(f.root.FS(), f.dir)
	if err != nil {
		return err
	}
	current := map[string]bool{}
	for _, entry := range entries {
		if path.Ext(entry.Name()) != ".json" {
			continue
		}
		name := path.Join(f.dir, entry.Name())
		text, err := f.root.ReadFile(name)
		if err != nil {
			return err
		}
		o := &demoObject{}
		if err := json.Unmarshal(text, o); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.objects[o.Key], current[o.Data] = o, true
	}
	for _, entry := range entries {
		if name := entry.Name(); demoLeftover.MatchString(name) && !current[name] {
			f.root.RemoveAll(path.Join(f.dir, name))
		}
	}
	return nil
}

func demoFileName(key string) string {
	digest := sha256.Sum256([]byte(key))
	return hex.EncodeToString(digest[:])
}

// get returns nil for a key without an object.
func (f *demoFolder) get(key string) *demoObject {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.objects[key]
}

// open returns an object and its bytes, or errDemoNoSuchKey. It opens the file under the lock: a
// writer removes it only after the object was replaced, and an open file stays readable.
func (f *demoFolder) open(key string) (*demoObject, *os.File, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	o := f.objects[key]
	switch {
	case f.removed:
		return nil, nil, errDemoNoSuchUpload
	case o == nil:
		return nil, nil, errDemoNoSuchKey
	}
	file, err := f.root.Open(path.Join(f.dir, o.Data))
	return o, file, err
}

// put stores o with the bytes that fill writes, and sets o.Data and o.Size. When all bytes are
// written it calls check with the object that o would replace, or nil, and stores nothing if that
// returns an error; check may complete o. It returns errDemoNoSuchUpload for the folder of an upload that
// has ended.
func (f *demoFolder) put(o *demoObject, fill func(io.Writer) (int64, error), check func(old *demoObject) error) error {
	o.Data = demoFileName(o.Key) + "." + rand.Text() + ".data"
	name := path.Join(f.dir, o.Data)
	data, err := f.create(name)
	if err != nil {
		return err
	}
	o.Size, err = fill(data)
	if err = cmp.Or(err, data.Close()); err == nil {
		err = f.replace(o, check)
	}
	if err != nil {
		f.root.Remove(name)
	}
	return err
}

// create makes a file, under the lock that guards the folder's removal.
func (f *demoFolder) create(name string) (*os.File, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.removed {
		return nil, errDemoNoSuchUpload
	}
	return f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// replace makes o the object of its key. It calls check under the lock that guards the rename: of
// two writers of an object that must not exist, one is refused.
func (f *demoFolder) replace(o *demoObject, check func(old *demoObject) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.removed {
		return errDemoNoSuchUpload
	}
	old := f.objects[o.Key]
	if err := check(old); err != nil {
		return err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	name := path.Join(f.dir, demoFileName(o.Key))
	if err := f.root.WriteFile(name+".tmp", text, 0o600); err != nil {
		return err
	}
	if err := f.root.Rename(name+".tmp", name+".json"); err != nil {
		return err
	}
	f.objects[o.Key] = o
	if old != nil {
		f.root.Remove(path.Join(f.dir, old.Data)) // or the next start does
	}
	return nil
}

// remove removes the object of a key, if there is one.
func (f *demoFolder) remove(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[key]
	if o == nil {
		return nil
	}
	if err := f.root.Remove(path.Join(f.dir, demoFileName(key)+".json")); err != nil {
		return err
	}
	delete(f.objects, key)
	f.root.Remove(path.Join(f.dir, o.Data)) // or the next start does
	return nil
}

// addUpload makes an upload of the object o.
func (b *demoBucket) addUpload(id string, o *demoObject) error {
	u := &demoUpload{newDemoFolder(b.root, path.Join(b.dir, id+".upload")), id, o}
	b.uploads.Store(id, u)
	return b.root.Mkdir(u.dir, 0o700)
}

// upload returns nil for an id that b does not have, or has for another key.
func (b *demoBucket) upload(id, key string) *demoUpload {
	if u, ok := b.uploads.Load(id); ok && u.(*demoUpload).object.Key == key {
		return u.(*demoUpload)
	}
	return nil
}

func (b *demoBucket) removeUpload(u *demoUpload) error {
	b.uploads.Delete(u.id)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.removed = true
	return u.root.RemoveAll(u.dir)
}
