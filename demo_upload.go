package main

// The demo's multipart uploads: one object in up to 10,000 parts, which may
// come in any order and more than once.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html

import (
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// createMultipartUpload makes a folder for the parts. Ids grow with time, and
// so they sort as S3 lists them.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
func (s *demoServer) createMultipartUpload(w http.ResponseWriter, q *demoRequest) error {
	if _, err := q.payload(io.Discard); err != nil {
		return err
	}
	o, err := newDemoObject(q.key, q.Header)
	if err == nil {
		err = o.setChecksumType(q.Header)
	}
	if err != nil {
		return err
	}
	o.Modified = s.now().UTC().Truncate(time.Second)
	id := fmt.Sprintf("%016x%s", s.now().UnixNano(), rand.Text())
	if err := q.bucket.addUpload(id, o); err != nil {
		return err
	}
	if o.Algorithm != "" {
		w.Header().Set("x-amz-checksum-algorithm", o.Algorithm)
		w.Header().Set("x-amz-checksum-type", o.checksumType())
	}
	x := newDemoXML("InitiateMultipartUploadResult")
	x.fields("Bucket", q.bucketName, "Key", q.key, "UploadId", id)
	return x.send(w, q, http.StatusOK)
}

// setChecksumType decides of what the object's sum will be: S3 can combine
// CRCs only, and CRC64NVME not otherwise.
func (o *demoObject) setChecksumType(h http.Header) error {
	o.Algorithm = strings.ToUpper(h.Get("X-Amz-Checksum-Algorithm"))
	kind := h.Get("X-Amz-Checksum-Type")
	o.Composite = kind == "COMPOSITE" || kind == "" && o.Algorithm != "" && o.Algorithm != "CRC64NVME"
	switch {
	case o.Algorithm != "" && demoChecksums[o.Algorithm] == nil:
		return errDemoNotImplemented
	case kind != "" && kind != o.checksumType(), kind != "" && o.Algorithm == "",
		o.Composite && o.Algorithm == "CRC64NVME", !o.Composite && strings.HasPrefix(o.Algorithm, "SHA"):
		return demoInvalidRequest("The " + kind + " checksum type cannot be used with the " + o.Algorithm + " checksum algorithm.")
	}
	return nil
}

func (b *demoBucket) addUpload(id string, o *demoObject) error {
	dir := filepath.Join(b.dir, id+".upload")
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, demoUploadMarker), text, 0o600); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.loadUpload(id, o.Modified)
}

// upload returns nil for the id of another key, too.
func (b *demoBucket) upload(id, key string) *demoUpload {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if u := b.uploads[id]; u != nil && u.object.Key == key {
		return u
	}
	return nil
}

// removeUpload forgets an upload. The marker goes first: what a killed process
// leaves of the folder then is removed at the next start.
func (b *demoBucket) removeUpload(u *demoUpload) error {
	b.mu.Lock()
	delete(b.uploads, u.id)
	b.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gone = true
	os.Remove(filepath.Join(u.dir, demoUploadMarker))
	return os.RemoveAll(u.dir)
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
func (s *demoServer) uploadPart(w http.ResponseWriter, q *demoRequest) error {
	o, err := q.newPart()
	if err != nil {
		return err
	}
	return s.putBytes(w, q, q.upload.demoFolder, o)
}

func (q *demoRequest) newPart() (*demoObject, error) {
	number, err := strconv.Atoi(q.query.Get("partNumber"))
	if err != nil || number < 1 || number > 10000 {
		return nil, demoInvalidArgument("Part number must be an integer between 1 and 10000, inclusive")
	}
	return &demoObject{Key: demoPartKey(number), Algorithm: q.upload.object.Algorithm}, nil
}

// demoPartKey sorts as numbers do.
func demoPartKey(number int) string { return fmt.Sprintf("%05d", number) }

// uploadPartCopy takes a range bytes=first-last of the source, of which
// nothing may be missing, or all of it.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
func (s *demoServer) uploadPartCopy(w http.ResponseWriter, q *demoRequest) error {
	o, err := q.newPart()
	if err != nil {
		return err
	}
	source, f, err := s.openSource(q)
	if err != nil {
		return err
	}
	defer f.Close()
	h := q.sourceHeader()
	first, length, _, err := source.rangeOf(h)
	if spec := h.Get("Range"); err != nil || spec != "" && spec != fmt.Sprintf("bytes=%d-%d", first, first+length-1) {
		return demoInvalidArgument("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	}
	o.Size = length
	return s.copyBytes(w, q, q.upload.demoFolder, o, io.NewSectionReader(f, first, length))
}

var errDemoInvalidPart = &demoError{400, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."}

// A demoPart is a part as CompleteMultipartUpload names it.
type demoPart struct {
	PartNumber int
	ETag       string
	Others     []struct {
		XMLName xml.Name
		Text    string `xml:",chardata"`
	} `xml:",any"`
}

func (p demoPart) sum(algorithm string) string {
	for _, other := range p.Others {
		if other.XMLName.Local == "Checksum"+algorithm {
			return other.Text
		}
	}
	return ""
}

// completeMultipartUpload stores the parts named, one after another, as one
// object.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
func (s *demoServer) completeMultipartUpload(w http.ResponseWriter, q *demoRequest) error {
	u := q.upload
	var doc struct {
		XMLName struct{}   `xml:"CompleteMultipartUpload"`
		Parts   []demoPart `xml:"Part"`
	}
	if err := q.document(&doc, false); err != nil {
		return err
	}
	parts, err := u.choose(doc.Parts, s.minPart)
	if err != nil {
		return err
	}
	o := u.object
	if o.Algorithm, err = q.algorithm(); err != nil {
		return err
	}
	h, name := demoConditions(q.Header), http.CanonicalHeaderKey("X-Amz-Checksum-"+o.Algorithm)
	switch sum := q.Header.Get(name); {
	case !o.Composite:
		h.Set(name, sum)
	case sum != "" && sum != parts.sum(o.Algorithm):
		return &demoError{400, "BadDigest", "The " + name + " you specified did not match the calculated checksum."}
	}
	if size := q.Header.Get("X-Amz-Mp-Object-Size"); size != "" && size != strconv.FormatInt(parts.size(), 10) {
		return demoInvalidRequest("The provided 'x-amz-mp-object-size' header does not match what was computed.")
	}
	o.ETag = parts.etag()
	if o.Composite {
		o.Sum = parts.sum(o.Algorithm)
	}
	err = q.bucket.store(&o, h, s.now(), func(w io.Writer) (int64, error) { return u.join(w, parts) })
	if err == nil {
		err = q.bucket.removeUpload(u)
	}
	if err != nil {
		return err
	}
	x := newDemoXML("CompleteMultipartUploadResult")
	x.fields("Location", "http://"+q.Host+q.URL.EscapedPath(), "Bucket", q.bucketName, "Key", q.key, "ETag", o.ETag)
	x.checksum(&o)
	return x.send(w, q, http.StatusOK)
}

// demoParts are the parts of an object, in their order.
type demoParts []*demoObject

// choose returns the parts that were named, if they are all there and what the
// client takes them for.
func (u *demoUpload) choose(named []demoPart, minPart int64) (parts demoParts, err error) {
	if len(named) == 0 {
		return nil, errDemoMalformedXML
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	for i, part := range named {
		o, sum := u.objects[demoPartKey(part.PartNumber)], part.sum(u.object.Algorithm)
		switch {
		case i > 0 && part.PartNumber <= named[i-1].PartNumber:
			return nil, &demoError{400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number."}
		case o == nil, strings.Trim(part.ETag, `"`) != strings.Trim(o.ETag, `"`), sum != "" && sum != o.Sum:
			return nil, errDemoInvalidPart
		case sum == "" && u.object.Composite:
			return nil, demoInvalidRequest("The upload was created using a checksum. The complete request must include the checksum for each part. It was missing for part " + strconv.Itoa(part.PartNumber) + " in the request.")
		case i < len(named)-1 && o.Size < minPart:
			return nil, &demoError{400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"}
		}
		parts = append(parts, o)
	}
	return parts, nil
}

// join writes the bytes of the parts. A part that was replaced since it was
// chosen is another one than the client meant.
func (u *demoUpload) join(w io.Writer, parts demoParts) (n int64, err error) {
	for _, part := range parts {
		o, f, err := u.open(part.Key)
		if err != nil || o != part {
			return n, errDemoInvalidPart
		}
		m, err := io.Copy(w, f)
		f.Close()
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p demoParts) size() (n int64) {
	for _, part := range p {
		n += part.Size
	}
	return n
}

// etag is the MD5 of the parts' MD5s, with how many they are.
func (p demoParts) etag() string {
	sum := md5.New()
	for _, part := range p {
		one, _ := hex.DecodeString(strings.Trim(part.ETag, `"`))
		sum.Write(one)
	}
	return fmt.Sprintf(`"%x-%d"`, sum.Sum(nil), len(p))
}

// sum is the same of their checksums.
func (p demoParts) sum(algorithm string) string {
	sum := demoChecksums[algorithm]()
	for _, part := range p {
		one, _ := base64.StdEncoding.DecodeString(part.Sum)
		sum.Write(one)
	}
	return fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(sum.Sum(nil)), len(p))
}

func (s *demoServer) abortMultipartUpload(w http.ResponseWriter, q *demoRequest) error {
	return q.bucket.removeUpload(q.upload)
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
func (s *demoServer) listParts(w http.ResponseWriter, q *demoRequest) error {
	u := q.upload
	p, err := q.page("", "max-parts")
	if err != nil {
		return err
	}
	marker, err := strconv.ParseUint(cmp.Or(q.query.Get("part-number-marker"), "0"), 10, 31)
	if err != nil {
		return demoInvalidArgument("Provided part-number-marker not an integer or within integer range")
	}
	p.after = demoPartKey(int(marker))
	parts := u.list(p)
	x := p.begin("ListPartsResult", "Bucket", q.bucketName, "MaxParts")
	x.fields("Key", p.name(q.key), "UploadId", u.id, "PartNumberMarker", strconv.FormatUint(marker, 10), "StorageClass", u.object.StorageClass)
	x.optional("NextPartNumberMarker", strings.TrimLeft(p.next, "0"))
	x.owner("Initiator")
	x.owner("Owner")
	x.algorithm(&u.object)
	for _, o := range parts {
		x.begin("Part")
		x.fields("PartNumber", strings.TrimLeft(o.Key, "0"), "LastModified", o.Modified.Format(demoTimeFormat), "ETag", o.ETag, "Size", strconv.FormatInt(o.Size, 10))
		if o.Algorithm != "" {
			x.fields("Checksum"+o.Algorithm, o.Sum)
		}
		x.end()
	}
	return x.send(w, q, http.StatusOK)
}

// listMultipartUploads goes on behind a key, or, with an id, behind an upload.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
func (s *demoServer) listMultipartUploads(w http.ResponseWriter, q *demoRequest) error {
	p, err := q.page("key-marker", "max-uploads")
	if err != nil {
		return err
	}
	uploads := q.bucket.sortedUploads()
	marker := q.query.Get("upload-id-marker")
	if p.within = marker != ""; p.within { // of the key's uploads, the later ones are still to come
		uploads = slices.DeleteFunc(uploads, func(u *demoUpload) bool { return u.object.Key == p.after && u.id <= marker })
	}
	var keys []string
	for _, u := range uploads {
		keys = append(keys, u.object.Key)
	}
	p.fill(keys)
	x := p.begin("ListMultipartUploadsResult", "Bucket", q.bucketName, "MaxUploads")
	x.fields("KeyMarker", p.name(p.after), "UploadIdMarker", marker)
	for n, i := range p.found {
		u := uploads[i]
		if n == len(p.found)-1 && p.next == u.object.Key {
			x.fields("NextUploadIdMarker", u.id)
		}
		x.begin("Upload")
		x.fields("Key", p.name(u.object.Key), "UploadId", u.id, "StorageClass", u.object.StorageClass, "Initiated", u.object.Modified.Format(demoTimeFormat))
		x.owner("Initiator")
		x.owner("Owner")
		x.algorithm(&u.object)
		x.end()
	}
	x.optional("NextKeyMarker", p.name(p.next))
	return x.send(w, q, http.StatusOK)
}

func (b *demoBucket) sortedUploads() []*demoUpload {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.SortedFunc(maps.Values(b.uploads), func(u, v *demoUpload) int {
		return cmp.Or(cmp.Compare(u.object.Key, v.object.Key), cmp.Compare(u.id, v.id))
	})
}
