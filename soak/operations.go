package main

// The operations of clients that may do what they do. Each checks the answer against what the
// backend had stored while the request ran.

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// operations with how often they are chosen.
var operations = []choice[func(w *worker, name string)]{
	{"PutObject", 24, (*worker).putObject},
	{"GetObject", 40, (*worker).getObject},
	{"GetObject of a range", 10, (*worker).getRange},
	{"HeadObject", 6, (*worker).headObject},
	{"DeleteObject", 5, (*worker).deleteObject},
	{"DeleteObjects", 2, (*worker).deleteObjects},
	{"ListObjects", 3, (*worker).listAll},
	{"ListObjectsV2", 3, (*worker).listPages},
	{"CopyObject", 5, (*worker).copyObject},
	{"CreateMultipartUpload", 3, (*worker).multipart},
	{"PutObjectTagging", 2, (*worker).tagObject},
	{"GetObjectAttributes", 2, (*worker).getAttributes},
	{"PutBucketTagging", 1, (*worker).configureBucket},
	{"settings", 4, (*worker).changeSetting},
	{"HeadBucket", 1, (*worker).headBucket},
	{"ListBuckets", 1, (*worker).listBuckets},
	{"ListMultipartUploads", 1, (*worker).listUploads},
	{"Presign", 1, (*worker).presignByGateway},
}

// work sends requests until it is told to stop.
func (w *worker) work(stop <-chan struct{}) {
	for !isClosed(stop) {
		o := choose(w.random, operations)
		o.run(w, o.name)
	}
}

// place chooses an account, a bucket of it, and a key. All workers share the keys, so that
// objects change while they are read.
func (w *worker) place() (*account, string, string) {
	a := pick(w, w.accounts...)
	return a, pick(w, a.buckets...), w.anyKey()
}

func (w *worker) anyKey() string {
	n := w.random.IntN(keysInBucket)
	return fmt.Sprintf("%s/%03d%s", pick(w, "a", "b", "docs/2026"), n, []string{"", ".txt", " with space", "+plus", "ü", "%25"}[n%6])
}

// keysInBucket is how many names each folder has.
const keysInBucket = 60

// anySize returns a size as clients have them: many small, few large.
func (w *worker) anySize() int64 {
	switch n := w.random.IntN(100); {
	case n < 3:
		return 0
	case n < 45:
		return w.random.Int64N(2 << 10)
	case n < 70:
		return w.random.Int64N(32 << 10)
	case n < 97:
		return w.random.Int64N(256 << 10)
	}
	return w.random.Int64N(6 << 20)
}

// upload returns a request for an upload, which may store exactly its content.
func (w *worker) upload(method, bucket, key, query string, size int64) *request {
	body := newContent(w.random.Uint64(), size)
	sum := body.md5()
	r := &request{method: method, bucket: bucket, key: key, query: query, body: body, user: w.writer, header: http.Header{},
		auth: pick(w, byKey, bySignature, bySignedPayload, bySignedChunks, byTrailer, byPresignedURL)}
	r.permission = &permission{stores: func(v *version) bool {
		v.content = body
		return v.sum == sum && v.length == size
	}}
	if size > 1<<20 && r.auth != byKey {
		r.auth = bySignature
	}
	if query != "" && r.auth == byPresignedURL {
		r.auth = bySignature
	}
	if r.auth == byKey && w.random.IntN(3) == 0 {
		r.header.Set("X-Amz-Checksum-Crc32", base64CRC32(body.bytes()))
	}
	return r
}

func (w *worker) putObject(name string) {
	account, bucket, key := w.place()
	r := w.upload(http.MethodPut, bucket, key, "", w.anySize())
	if r.auth != byPresignedURL {
		r.header.Set("X-Amz-Meta-Soak", escape(key, ""))
		r.header.Set("Content-Type", pick(w, "text/plain", "application/octet-stream", "image/png"))
	}
	a := w.send(r, nil)
	wrong := ""
	if a.err == nil && a.status < 300 {
		w.checkStored(account, bucket, key, a, false)
		if etag := strings.Trim(a.header.Get("Etag"), `"`); etag != r.body.md5() {
			wrong = "the ETag is " + etag
		}
		w.ledger.count("writes acknowledged", 1)
	}
	w.outcome(name, account, a, wrong)
}

// checkStored checks that a write which was acknowledged is stored, once, while it ran.
func (w *worker) checkStored(account *account, bucket, key string, a *answer, deleted bool) {
	n := 0
	for _, v := range account.backend.during(bucket, key, a.begin, a.end) {
		if v.trace == a.trace && v.deleted == deleted && v.from.After(a.begin) {
			n++
		}
	}
	if n != 1 {
		w.ledger.broken(promiseDurable, "a write to %s/%s (trace %d) was acknowledged with %d and is stored %d times\n%s", bucket, key, a.trace, a.status, n, w.logOf(a))
	}
}

// read returns a request to read, by any authentication method.
func (w *worker) read(method, bucket, key, query string) *request {
	r := &request{method: method, bucket: bucket, key: key, query: query, header: http.Header{}, user: pick(w, w.writer, w.reader, w.admin),
		auth: pick(w, byKey, bySignature, byPresignedURL)}
	if query != "" && r.auth == byPresignedURL {
		r.auth = bySignature
	}
	return r
}

func (w *worker) getObject(name string) {
	account, bucket, key := w.place()
	w.get(name, account, w.read(http.MethodGet, bucket, key, ""), 0, -1)
}

// getRange reads a range of an object that is likely to be there.
func (w *worker) getRange(name string) {
	account, bucket, key := w.place()
	v := account.backend.current(bucket, key)
	if v == nil || v.length == 0 {
		return
	}
	first := w.random.Int64N(v.length)
	n := 1 + w.random.Int64N(v.length-first)
	r := w.read(http.MethodGet, bucket, key, "")
	r.header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, first+n-1))
	w.get(name, account, r, first, n)
}

// get sends a GET and compares what comes, while it comes, with the version that its ETag
// names. With n < 0 it wants all of it.
func (w *worker) get(name string, account *account, r *request, first, n int64) {
	wrong := ""
	begin := time.Now()
	a := w.send(r, func(resp *http.Response) error {
		var err error
		wrong, err = w.compare(account, r, resp, begin, first, n)
		return err
	})
	if a.err == nil && a.status == http.StatusNotFound {
		wrong = w.checkMissing(account, r, a)
	}
	if n >= 0 && a.err == nil && a.status == http.StatusRequestedRangeNotSatisfiable {
		a.status = http.StatusNotFound // the object has become shorter, which ends in no right answer
	}
	if w.outcome(name, account, a, wrong) && a.status < 300 {
		w.ledger.count("objects verified", 1)
	}
}

// checkMissing checks that there was no object while a request ran that was answered 404.
func (w *worker) checkMissing(account *account, r *request, a *answer) string {
	absent := func(v version) bool { return v.deleted }
	if !slices.ContainsFunc(account.backend.during(r.bucket, r.key, a.begin, a.end), absent) {
		return "404 for an object that was there"
	}
	return ""
}

// compare reads the body of an answer. It returns what is wrong with it, and the error with
// which it breaks off.
func (w *worker) compare(account *account, r *request, resp *http.Response, begin time.Time, first, n int64) (wrong string, err error) {
	etag := strings.Trim(resp.Header.Get("Etag"), `"`)
	versions := account.backend.during(r.bucket, r.key, begin, time.Now())
	i := slices.IndexFunc(versions, func(v version) bool { return !v.deleted && v.etag == etag })
	if i < 0 {
		return fmt.Sprintf("the ETag %q is of no version of %s/%s", etag, r.bucket, r.key), nil
	}
	v := versions[i]
	want := v.content
	if n >= 0 {
		last := min(first+n, v.length) - 1
		want = want.slice(first, last-first+1)
		if span := fmt.Sprintf("bytes %d-%d/%d", first, last, v.length); resp.StatusCode != http.StatusPartialContent || resp.Header.Get("Content-Range") != span {
			return fmt.Sprintf("%d with the range %q, want %s", resp.StatusCode, resp.Header.Get("Content-Range"), span), nil
		}
	}
	for name, value := range v.metadata {
		if resp.Header.Get(name) != value {
			return fmt.Sprintf("%s is %q, want %q", name, resp.Header.Get(name), value), nil
		}
	}
	if r.method == http.MethodHead {
		if resp.ContentLength != v.length {
			return fmt.Sprintf("Content-Length %d, want %d", resp.ContentLength, v.length), nil
		}
		return "", nil
	}
	at, err := equal(resp.Body, want.reader())
	if at >= 0 {
		return fmt.Sprintf("the byte %d of %d differs (range from %d)", at, want.size(), first), nil
	}
	return "", err
}

// equal reads both to their ends. It returns where they differ, or -1, and the error of the
// first one. A body that breaks off visibly does not differ.
func equal(body, want io.Reader) (at int64, err error) {
	have, wanted := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, err := fill(body, have)
		m, _ := fill(want, wanted)
		for i := range min(n, m) {
			if have[i] != wanted[i] {
				return at + int64(i), nil
			}
		}
		switch {
		case err != nil && err != io.EOF:
			return -1, err
		case n != m:
			return at + int64(min(n, m)), nil
		case err == io.EOF:
			return -1, nil
		}
		at += int64(n)
	}
}

// fill reads until the buffer is full. Unlike io.ReadFull it returns the error of the reader: the
// end of a body and the end of a body that was cut are two things here.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

func (w *worker) headObject(name string) {
	account, bucket, key := w.place()
	w.get(name, account, w.read(http.MethodHead, bucket, key, ""), 0, -1)
}

func (w *worker) deleteObject(name string) {
	account, bucket, key := w.place()
	a := w.send(&request{method: http.MethodDelete, bucket: bucket, key: key, user: w.writer, auth: pick(w, byKey, bySignature)}, nil)
	if a.err == nil && a.status < 300 {
		w.checkStored(account, bucket, key, a, true)
		w.ledger.count("writes acknowledged", 1)
	}
	w.outcome(name, account, a, "")
}

func (w *worker) deleteObjects(name string) {
	account, bucket, key := w.place()
	keys := []string{key, w.anyKey(), w.anyKey()}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	doc := struct {
		XMLName xml.Name   `xml:"Delete"`
		Object  []keyEntry `xml:"Object"`
	}{}
	for _, k := range keys {
		doc.Object = append(doc.Object, keyEntry{k})
	}
	data, _ := xml.Marshal(doc)
	a := w.send(&request{method: http.MethodPost, bucket: bucket, query: "delete=", document: data, user: w.writer, auth: bySignedPayload}, nil)
	wrong := ""
	if a.err == nil && a.status < 300 {
		var answer deleted
		if err := xml.Unmarshal(a.data, &answer); err != nil || len(answer.Deleted) != len(keys) {
			wrong = fmt.Sprintf("the answer is %q (%v)", a.data, err)
		}
		for _, k := range keys {
			w.checkStored(account, bucket, k, a, true)
		}
	}
	w.outcome(name, account, a, wrong)
}

// listAll asks for all keys of a bucket at once.
func (w *worker) listAll(name string) {
	account, bucket, _ := w.place()
	prefix := pick(w, "", "a/", "docs/")
	a := w.send(w.read(http.MethodGet, bucket, "", "encoding-type=url&prefix="+escape(prefix, "")), nil)
	wrong := ""
	if a.err == nil && a.status < 300 {
		var keys []string
		if keys, _, wrong = keysOf(a.data); wrong == "" {
			wrong = checkList(account, bucket, prefix, keys, a.begin, a.end)
		}
	}
	w.outcome(name, account, a, wrong)
}

// listPages asks for the keys of a bucket page by page.
func (w *worker) listPages(name string) {
	account, bucket, _ := w.place()
	prefix := pick(w, "", "b/")
	query := fmt.Sprintf("list-type=2&encoding-type=url&max-keys=%d&prefix=%s", 20+w.random.IntN(100), escape(prefix, ""))
	begin, token := time.Now(), ""
	var all []string
	for {
		page := query
		if token != "" {
			page += "&continuation-token=" + escape(token, "")
		}
		a := w.send(w.read(http.MethodGet, bucket, "", page), nil)
		wrong := ""
		if a.err == nil && a.status < 300 {
			var keys []string
			keys, token, wrong = keysOf(a.data)
			if all = append(all, keys...); wrong == "" && token == "" {
				wrong = checkList(account, bucket, prefix, all, begin, a.end)
			}
		}
		if !w.outcome(name, account, a, wrong) || token == "" {
			return
		}
	}
}

// keysOf reads the keys of a list, and the token of its next page.
func keysOf(data []byte) (keys []string, next, wrong string) {
	var list objectList
	if err := xml.Unmarshal(data, &list); err != nil {
		return nil, "", fmt.Sprintf("the list does not parse: %v", err)
	}
	for _, entry := range list.Contents {
		key, err := url.QueryUnescape(entry.Key)
		if err != nil {
			return nil, "", fmt.Sprintf("the key %q is not encoded", entry.Key)
		}
		keys = append(keys, key)
	}
	if list.IsTruncated != (list.NextContinuationToken != "") {
		return nil, "", "IsTruncated and NextContinuationToken contradict each other"
	}
	return keys, list.NextContinuationToken, ""
}

// checkList compares a list with what was there while it was made.
func checkList(account *account, bucket, prefix string, keys []string, begin, end time.Time) string {
	must, may := account.backend.listed(bucket, prefix, begin, end)
	if !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != len(keys) {
		return "the keys are not sorted, or not unique"
	}
	for _, key := range keys {
		if !may[key] {
			return fmt.Sprintf("the key %q was not there", key)
		}
		delete(must, key)
	}
	for key, missed := range must {
		if missed {
			return fmt.Sprintf("the key %q is missing", key)
		}
	}
	return ""
}

// copyObject copies within an account or from one to another.
func (w *worker) copyObject(name string) {
	source, from, key := w.place()
	account, bucket, to := w.place()
	begin := time.Now()
	isSource := func(v *version) bool {
		for _, s := range source.backend.during(from, key, begin, time.Now()) {
			if !s.deleted && (v.sum != "" && s.content.md5() == v.sum || v.etag == s.etag) {
				v.content = s.content
				return true
			}
		}
		return false
	}
	r := &request{method: http.MethodPut, bucket: bucket, key: to, user: w.writer, auth: pick(w, byKey, bySignature),
		header: http.Header{"X-Amz-Copy-Source": {escape(from+"/"+key, "/")}}, permission: &permission{stores: isSource}}
	a := w.send(r, nil)
	wrong := ""
	if a.err == nil && a.status < 300 {
		wrong = w.checkCopy(account, bucket, to, a, isSource)
	}
	// A copy whose source is in trouble fails, whatever its target.
	if source.proxy != nil {
		account = source
	}
	w.outcome(name, account, a, wrong)
}

// checkCopy checks what a copy has stored, and the document that says so. A copy that takes
// long may end in an error under a 200.
func (w *worker) checkCopy(account *account, bucket, key string, a *answer, isSource func(*version) bool) string {
	var doc struct{ ETag string }
	if err := xml.Unmarshal(a.data, &doc); err != nil {
		return fmt.Sprintf("the answer is %q", a.data)
	}
	if doc.ETag == "" {
		a.status = http.StatusBadGateway
		return ""
	}
	w.checkStored(account, bucket, key, a, false)
	for _, v := range account.backend.during(bucket, key, a.begin, a.end) {
		if v.trace == a.trace && !isSource(&v) {
			return "the copy is no version of its source"
		}
	}
	w.ledger.count("writes acknowledged", 1)
	return ""
}

// multipart uploads an object in parts, and completes or aborts it.
func (w *worker) multipart(name string) {
	account, bucket, key := w.place()
	a := w.send(&request{method: http.MethodPost, bucket: bucket, key: key, query: "uploads=", user: w.writer, auth: bySignature,
		header: http.Header{"X-Amz-Meta-Soak": {escape(key, "")}}}, nil)
	var doc initiated
	wrong := ""
	if a.err == nil && a.status < 300 && (xml.Unmarshal(a.data, &doc) != nil || doc.UploadID == "" || doc.Key != key || doc.Bucket != bucket) {
		wrong = fmt.Sprintf("the answer is %q", a.data)
	}
	if !w.outcome(name, account, a, wrong) {
		return
	}
	list := struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []completedPart
	}{}
	for n := 1; n <= 1+w.random.IntN(3); n++ {
		if etag := w.uploadPart(account, bucket, key, doc.UploadID, n); etag != "" {
			list.Part = append(list.Part, completedPart{n, etag})
		}
	}
	w.listParts(account, bucket, key, doc.UploadID, len(list.Part))
	if len(list.Part) == 0 || w.random.IntN(5) == 0 {
		a := w.send(&request{method: http.MethodDelete, bucket: bucket, key: key, query: "uploadId=" + escape(doc.UploadID, ""), user: w.writer, auth: byKey}, nil)
		w.outcome("AbortMultipartUpload", account, a, "")
		return
	}
	data, _ := xml.Marshal(list)
	w.completeUpload(account, bucket, key, doc.UploadID, data)
}

type completedPart struct {
	PartNumber int
	ETag       string
}

// uploadPart sends a part, or copies it, and returns its ETag, or "" if that fails.
func (w *worker) uploadPart(account *account, bucket, key, id string, n int) string {
	query := fmt.Sprintf("partNumber=%d&uploadId=%s", n, escape(id, ""))
	if w.random.IntN(4) == 0 {
		return w.copyPart(account, bucket, key, query)
	}
	r := w.upload(http.MethodPut, bucket, key, query, 1+w.random.Int64N(300<<10))
	a := w.send(r, nil)
	wrong := ""
	if etag := strings.Trim(a.header.Get("Etag"), `"`); a.err == nil && a.status < 300 && etag != r.body.md5() {
		wrong = "the ETag is " + etag
	}
	if !w.outcome("UploadPart", account, a, wrong) || a.status >= 300 {
		return ""
	}
	return a.header.Get("Etag")
}

// copyPart copies a range of an object of any account into a part.
func (w *worker) copyPart(account *account, bucket, key, query string) string {
	source, from, sourceKey := w.place()
	v := source.backend.current(from, sourceKey)
	if v == nil || v.length < 2 {
		return ""
	}
	last := w.random.Int64N(v.length)
	first := w.random.Int64N(last + 1)
	begin := time.Now()
	isSource := func(part *version) bool {
		for _, s := range source.backend.during(from, sourceKey, begin, time.Now()) {
			if c := s.content.slice(first, last-first+1); !s.deleted && c.size() == part.length && c.md5() == part.sum {
				part.content = c
				return true
			}
		}
		return false
	}
	r := &request{method: http.MethodPut, bucket: bucket, key: key, query: query, user: w.writer, auth: bySignature, permission: &permission{stores: isSource},
		header: http.Header{"X-Amz-Copy-Source": {escape(from+"/"+sourceKey, "/")}, "X-Amz-Copy-Source-Range": {fmt.Sprintf("bytes=%d-%d", first, last)}}}
	a := w.send(r, nil)
	var doc copied
	if a.err == nil && a.status < 300 {
		xml.Unmarshal(a.data, &doc)
	}
	if a.status == http.StatusRequestedRangeNotSatisfiable || a.code() == "InvalidRange" { // the source has become shorter
		a.status = http.StatusNotFound
	}
	if source.proxy != nil {
		account = source
	}
	w.outcome("UploadPartCopy", account, a, "")
	return doc.ETag
}

// listParts lists the parts of an upload, of which at least so many were acknowledged.
func (w *worker) listParts(account *account, bucket, key, id string, least int) {
	a := w.send(w.read(http.MethodGet, bucket, key, "uploadId="+escape(id, "")), nil)
	wrong := ""
	var list partList
	if a.err == nil && a.status < 300 && (xml.Unmarshal(a.data, &list) != nil || list.UploadID != id || len(list.Part) < least) {
		wrong = fmt.Sprintf("%d parts are listed, want at least %d", len(list.Part), least)
	}
	w.outcome("ListParts", account, a, wrong)
}

// completeUpload makes an object of the parts.
func (w *worker) completeUpload(account *account, bucket, key, id string, data []byte) {
	a := w.send(&request{method: http.MethodPost, bucket: bucket, key: key, query: "uploadId=" + escape(id, ""), document: data, user: w.writer, auth: bySignedPayload}, nil)
	if a.err == nil && a.status < 300 {
		var doc completed
		if xml.Unmarshal(a.data, &doc) == nil && doc.ETag != "" {
			w.checkStored(account, bucket, key, a, false)
			w.ledger.count("writes acknowledged", 1)
		} else {
			a.status = http.StatusBadGateway // an error under a 200
		}
	}
	w.outcome("CompleteMultipartUpload", account, a, "")
}

// tagObject sets, reads or deletes the tags of an object.
func (w *worker) tagObject(string) {
	account, bucket, key := w.place()
	own := escape(key, "")
	r := &request{method: pick(w, http.MethodPut, http.MethodGet, http.MethodDelete), bucket: bucket, key: key, query: "tagging=", user: w.writer, auth: bySignedPayload}
	name := "GetObjectTagging"
	switch r.method {
	case http.MethodPut:
		name = "PutObjectTagging"
		r.document, _ = xml.Marshal(&tagging{Tags: []tag{{"soak", strings.ReplaceAll(own, "%", "=")}}})
	case http.MethodDelete:
		name = "DeleteObjectTagging"
	}
	a := w.send(r, nil)
	wrong := ""
	if a.err == nil && a.status < 300 && r.method == http.MethodGet {
		var doc tagging
		if xml.Unmarshal(a.data, &doc) != nil || len(doc.Tags) > 1 {
			wrong = fmt.Sprintf("the answer is %q", a.data)
		}
	}
	w.outcome(name, account, a, wrong)
}

func (w *worker) getAttributes(name string) {
	account, bucket, key := w.place()
	r := w.read(http.MethodGet, bucket, key, "attributes=")
	r.header.Set("X-Amz-Object-Attributes", "ETag,ObjectSize")
	a := w.send(r, nil)
	wrong := ""
	if a.err == nil && a.status < 300 {
		var doc struct {
			ETag       string
			ObjectSize int64
		}
		err := xml.Unmarshal(a.data, &doc)
		same := func(v version) bool {
			return !v.deleted && v.etag == strings.Trim(doc.ETag, `"`) && v.length == doc.ObjectSize
		}
		if err != nil || !slices.ContainsFunc(account.backend.during(bucket, key, a.begin, a.end), same) {
			wrong = fmt.Sprintf("the answer is %q", a.data)
		}
	}
	w.outcome(name, account, a, wrong)
}

// configureBucket writes, reads or deletes a configuration of a bucket.
func (w *worker) configureBucket(string) {
	account, bucket, _ := w.place()
	r := &request{method: pick(w, http.MethodPut, http.MethodGet, http.MethodDelete), bucket: bucket, query: "tagging=", user: w.admin, auth: bySignedPayload}
	name := map[string]string{http.MethodPut: "PutBucketTagging", http.MethodGet: "GetBucketTagging", http.MethodDelete: "DeleteBucketTagging"}[r.method]
	if r.method == http.MethodPut {
		r.document, _ = xml.Marshal(&tagging{Tags: []tag{{"bucket", bucket}}})
	}
	a := w.send(r, nil)
	wrong := ""
	if a.err == nil && a.status < 300 && r.method == http.MethodGet {
		var doc tagging
		if xml.Unmarshal(a.data, &doc) != nil || len(doc.Tags) != 1 || doc.Tags[0].Value != bucket {
			wrong = fmt.Sprintf("the answer is %q", a.data)
		}
	}
	w.outcome(name, account, a, wrong)
}

func (w *worker) headBucket(name string) {
	account, bucket, _ := w.place()
	w.outcome(name, account, w.send(w.read(http.MethodHead, bucket, "", ""), nil), "")
}

// listBuckets asks for the buckets of a user, which no backend is asked for.
func (w *worker) listBuckets(name string) {
	r := w.read(http.MethodGet, "", "", "")
	a := w.send(r, nil)
	wrong := ""
	if a.err == nil && a.status < 300 {
		var doc struct {
			Buckets struct{ Bucket []struct{ Name string } }
		}
		err := xml.Unmarshal(a.data, &doc)
		if len(doc.Buckets.Bucket) != len(w.bucketsOf(r.user)) {
			wrong = fmt.Sprintf("%s sees %d buckets (%v)", r.user.name, len(doc.Buckets.Bucket), err)
		}
	}
	w.outcome(name, w.calm(), a, wrong)
}

func (w *worker) listUploads(name string) {
	account, bucket, _ := w.place()
	a := w.send(w.read(http.MethodGet, bucket, "", "uploads="), nil)
	wrong := ""
	if a.err == nil && a.status < 300 {
		var list uploadList
		if err := xml.Unmarshal(a.data, &list); err != nil || list.Bucket != bucket {
			wrong = fmt.Sprintf("the answer is %q", a.data)
		}
	}
	w.outcome(name, account, a, wrong)
}

// presignByGateway asks the gateway for a URL, and reads the object with it.
func (w *worker) presignByGateway(name string) {
	account, bucket, key := w.place()
	a := w.send(&request{method: http.MethodGet, bucket: "-", key: "presign", user: w.reader, auth: byKey,
		query: "bucket=" + bucket + "&expires=60&key=" + escape(key, "")}, nil)
	var doc struct{ URL string }
	wrong := ""
	if a.err == nil && a.status < 300 && json.Unmarshal(a.data, &doc) != nil {
		wrong = fmt.Sprintf("the answer is %q", a.data)
	}
	if !w.outcome(name, w.calm(), a, wrong) {
		return
	}
	u, err := url.Parse(doc.URL)
	if err != nil {
		w.outcome(name, w.calm(), a, err.Error())
		return
	}
	w.fixed = w.gateway // whose name is signed
	w.get("GetObject by presigned URL", account, &request{method: http.MethodGet, bucket: bucket, key: key, query: u.RawQuery, user: w.reader, auth: withoutAnyKey}, 0, -1)
	w.fixed = nil
}
