package main

// A backend: an S3 server that checks signatures, keeps its objects in memory, and stores
// nothing that the ledger does not expect.

import (
	"bufio"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A backend serves one account.
type backend struct {
	*store
	ledger   *ledger
	keys     keyPair
	counting bool // no fault proxy is before it, so it tells the ledger what arrives
	address  string
	server   *http.Server
}

// startBackend serves an account on a port of its own.
func startBackend(l *ledger, k keyPair, counting bool, buckets ...string) (*backend, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &backend{store: newStore(buckets...), ledger: l, keys: k, counting: counting, address: listener.Addr().String()}
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	go b.server.Serve(listener)
	l.secrets.add(k.secret)
	return b, nil
}

// An s3Error is an error document.
type s3Error struct {
	XMLName xml.Name `xml:"Error"`
	status  int
	Code    string
	Message string
}

func (e *s3Error) Error() string { return e.Code }

func newS3Error(status int, code string) *s3Error {
	return &s3Error{status: status, Code: code, Message: "the backend says " + code}
}

// A call is a request to a backend, with its path and query parsed.
type call struct {
	*http.Request
	w           http.ResponseWriter
	bucket, key string
	query       url.Values
}

// has reports whether a parameter is there, with a value or without.
func (c *call) has(name string) bool { _, there := c.query[name]; return there }

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "soak-backend")
	w.Header().Set("X-Amz-Request-Id", fmt.Sprintf("%016X", time.Now().UnixNano()))
	if err := b.serve(w, r); err != nil {
		var e *s3Error
		if !errors.As(err, &e) {
			panic(http.ErrAbortHandler) // the request broke off
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(e.status)
		if r.Method != http.MethodHead {
			writeXML(w, e)
		}
	}
}

func (b *backend) serve(w http.ResponseWriter, r *http.Request) error {
	if b.counting && !b.ledger.arrived(r.Method, r.RequestURI, r.Header) {
		return newS3Error(http.StatusForbidden, "AccessDenied")
	}
	sum, ok := verify(r, b.keys)
	b.ledger.secrets.addSignature(sum)
	if !ok {
		b.ledger.broken(promiseSigned, "%s %s has a wrong signature", r.Method, r.RequestURI)
		return newS3Error(http.StatusForbidden, "SignatureDoesNotMatch")
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if _, there := b.objects[bucket]; !there { // the set of buckets does not change
		return newS3Error(http.StatusNotFound, "NoSuchBucket")
	}
	c := &call{Request: r, w: w, bucket: bucket, key: key, query: r.URL.Query()}
	if s := settingOf(c); s != nil {
		return b.serveConfiguration(c, s.selector, []byte(s.document))
	}
	if key == "" {
		return b.serveBucket(c)
	}
	return b.serveObject(c)
}

// serveObject serves an operation on an object.
func (b *backend) serveObject(c *call) error {
	switch id := c.query.Get("uploadId"); {
	case c.Method == http.MethodPost && c.has("uploads"):
		return c.document(&initiated{Bucket: c.bucket, Key: c.key, UploadID: b.beginUpload(c.bucket, c.key, c.Header)})
	case id != "":
		return b.serveUpload(c, id)
	case c.has("tagging"):
		return b.serveTags(c)
	case c.has("attributes"):
		return b.attributes(c)
	case c.Method == http.MethodPut && c.Header.Get("X-Amz-Copy-Source") != "":
		return b.copy(c)
	case c.Method == http.MethodPut:
		v, err := b.receive(c)
		if err == nil {
			b.put(c.bucket, c.key, v)
			c.w.Header().Set("ETag", `"`+v.etag+`"`)
		}
		return err
	case c.Method == http.MethodDelete:
		b.put(c.bucket, c.key, &version{deleted: true, trace: traceOf(c.Header)})
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case c.Method == http.MethodGet || c.Method == http.MethodHead:
		return b.get(c)
	}
	return newS3Error(http.StatusMethodNotAllowed, "MethodNotAllowed")
}

// serveUpload serves an operation on a multipart upload.
func (b *backend) serveUpload(c *call, id string) error {
	u := b.upload(c.bucket, c.key, id)
	if u == nil {
		return newS3Error(http.StatusNotFound, "NoSuchUpload")
	}
	switch c.Method {
	case http.MethodGet:
		return c.document(b.parts(u, id))
	case http.MethodDelete:
		b.abort(id)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPost:
		return b.completeUpload(c, id)
	}
	number, err := strconv.Atoi(c.query.Get("partNumber"))
	if err != nil {
		return newS3Error(http.StatusBadRequest, "InvalidArgument")
	}
	v, err := b.receivePart(c)
	if err != nil {
		return err
	}
	if v.part = number; !b.putPart(id, v) {
		return newS3Error(http.StatusNotFound, "NoSuchUpload")
	}
	if c.Header.Get("X-Amz-Copy-Source") != "" {
		return c.document(&copied{XMLName: xml.Name{Local: "CopyPartResult"}, ETag: `"` + v.etag + `"`, LastModified: s3Time(time.Now())})
	}
	c.w.Header().Set("ETag", `"`+v.etag+`"`)
	return nil
}

// receivePart returns a part that is sent or copied.
func (b *backend) receivePart(c *call) (*version, error) {
	if c.Header.Get("X-Amz-Copy-Source") == "" {
		return b.receive(c)
	}
	source, err := b.source(c)
	if err != nil {
		return nil, err
	}
	part := source.content
	var first, last int64
	if n, _ := fmt.Sscanf(c.Header.Get("X-Amz-Copy-Source-Range"), "bytes=%d-%d", &first, &last); n == 2 {
		part = part.slice(first, last-first+1)
	}
	sum := part.md5()
	return &version{etag: sum, sum: sum, content: part, length: part.size()}, nil
}

// completeUpload makes the object of an upload.
func (b *backend) completeUpload(c *call, id string) error {
	var doc struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := c.read(&doc); err != nil {
		return err
	}
	var numbers []int
	var etags []string
	for _, p := range doc.Part {
		numbers = append(numbers, p.PartNumber)
		etags = append(etags, strings.Trim(p.ETag, `"`))
	}
	v := b.complete(id, numbers, etags, traceOf(c.Header))
	if v == nil {
		return newS3Error(http.StatusBadRequest, "InvalidPart")
	}
	return c.document(&completed{Location: "http://backend/", Bucket: c.bucket, Key: c.key, ETag: `"` + v.etag + `"`})
}

// copy copies an object within the account.
func (b *backend) copy(c *call) error {
	source, err := b.source(c)
	if err != nil {
		return err
	}
	v := &version{etag: source.etag, sum: source.sum, content: source.content, length: source.length,
		metadata: source.metadata, tags: source.tags, trace: traceOf(c.Header)}
	b.put(c.bucket, c.key, v)
	return c.document(&copied{XMLName: xml.Name{Local: "CopyObjectResult"}, ETag: `"` + v.etag + `"`, LastModified: s3Time(v.from)})
}

// source returns the object that a copy names.
func (b *backend) source(c *call) (*version, error) {
	name, err := url.PathUnescape(strings.TrimPrefix(c.Header.Get("X-Amz-Copy-Source"), "/"))
	if err != nil {
		return nil, newS3Error(http.StatusBadRequest, "InvalidArgument")
	}
	bucket, key, _ := strings.Cut(name, "/")
	if v := b.current(bucket, key); v != nil {
		return v, nil
	}
	return nil, newS3Error(http.StatusNotFound, "NoSuchKey")
}

// receive reads an upload. What breaks off, or is not what its checksums say, is an error.
// What is whole, but is not what the client sent, is a violation, and is not stored either.
func (b *backend) receive(c *call) (*version, error) {
	if c.ContentLength < 0 {
		return nil, newS3Error(http.StatusLengthRequired, "MissingContentLength")
	}
	body, want := io.Reader(c.Body), c.ContentLength
	var chunks *chunkedBody
	if payload := c.Header.Get("X-Amz-Content-Sha256"); strings.HasPrefix(payload, "STREAMING-") {
		chunks = &chunkedBody{r: bufio.NewReader(c.Body)}
		body = chunks
		want, _ = strconv.ParseInt(c.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	}
	sums := newChecksums()
	n, err := io.Copy(sums, body)
	if err != nil {
		return nil, err
	}
	if n != want {
		return nil, newS3Error(http.StatusBadRequest, "IncompleteBody")
	}
	if chunks != nil {
		c.Header.Set("X-Amz-Checksum-Crc32", chunks.trailer["x-amz-checksum-crc32"])
	}
	if err := sums.check(c.Header); err != nil {
		return nil, err
	}
	sum := hex.EncodeToString(sums.md5.Sum(nil))
	v := &version{etag: sum, sum: sum, length: n, metadata: metadataOf(c.Header), tags: c.Header.Get("X-Amz-Tagging"), trace: traceOf(c.Header)}
	if !b.ledger.mayStore(v.trace, v) {
		b.ledger.broken(promiseWhole, "PUT %s: %d bytes were about to be stored", c.RequestURI, n)
		return nil, newS3Error(http.StatusForbidden, "AccessDenied")
	}
	return v, nil
}

// checksums of a body, of those kinds that the clients send.
type checksums struct {
	md5, sha256, crc32 hash.Hash
	io.Writer
}

func newChecksums() *checksums {
	c := &checksums{md5: md5.New(), sha256: sha256.New(), crc32: crc32.NewIEEE()}
	c.Writer = io.MultiWriter(c.md5, c.sha256, c.crc32)
	return c
}

// check compares the sums with those that the headers announce.
func (c *checksums) check(h http.Header) error {
	payload := h.Get("X-Amz-Content-Sha256")
	for _, sum := range []struct{ want, have string }{
		{h.Get("Content-Md5"), base64.StdEncoding.EncodeToString(c.md5.Sum(nil))},
		{h.Get("X-Amz-Checksum-Crc32"), base64.StdEncoding.EncodeToString(c.crc32.Sum(nil))},
		{h.Get("X-Amz-Checksum-Sha256"), base64.StdEncoding.EncodeToString(c.sha256.Sum(nil))},
		{map[bool]string{true: payload}[len(payload) == 64], hex.EncodeToString(c.sha256.Sum(nil))},
	} {
		if sum.want != "" && sum.want != sum.have {
			return newS3Error(http.StatusBadRequest, "BadDigest")
		}
	}
	return nil
}

// A chunkedBody decodes aws-chunked. It does not check signatures: the gateway sends none in
// chunks.
type chunkedBody struct {
	r       *bufio.Reader
	left    int64 // of the chunk
	trailer map[string]string
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		if b.trailer != nil {
			return 0, io.EOF
		}
		if err := b.next(); err != nil || b.left == 0 {
			return 0, err
		}
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 && err == nil {
		_, err = b.line()
	}
	return n, unexpected(err)
}

// next reads the head of a chunk, and after the last one the trailer.
func (b *chunkedBody) next() error {
	head, err := b.line()
	if err != nil {
		return unexpected(err)
	}
	size, _, _ := strings.Cut(head, ";")
	if b.left, err = strconv.ParseInt(size, 16, 64); err != nil || b.left > 0 {
		return err
	}
	b.trailer = map[string]string{}
	for {
		line, err := b.line()
		if err != nil || line == "" {
			return unexpected(err)
		}
		name, value, _ := strings.Cut(line, ":")
		b.trailer[strings.ToLower(name)] = strings.TrimSpace(value)
	}
}

func (b *chunkedBody) line() (string, error) {
	line, err := b.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// unexpected turns the end of the input into an error.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// get sends an object, or a range of it.
func (b *backend) get(c *call) error {
	v := b.current(c.bucket, c.key)
	if v == nil {
		return newS3Error(http.StatusNotFound, "NoSuchKey")
	}
	h := c.w.Header()
	h.Set("ETag", `"`+v.etag+`"`)
	h.Set("Last-Modified", v.from.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	for name, value := range v.metadata {
		h.Set(name, value)
	}
	if v.tags != "" {
		h.Set("X-Amz-Tagging-Count", strconv.Itoa(strings.Count(v.tags, "&")+1))
	}
	if want := c.Header.Get("If-Match"); want != "" && strings.Trim(want, `"`) != v.etag {
		return newS3Error(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	if strings.Trim(c.Header.Get("If-None-Match"), `"`) == v.etag {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body, status := v.content, http.StatusOK
	if first, n, ok := byteRange(c.Header.Get("Range"), v.length); ok {
		if first >= v.length {
			return newS3Error(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+n-1, v.length))
		body, status = body.slice(first, n), http.StatusPartialContent
	}
	h.Set("Content-Length", strconv.FormatInt(body.size(), 10))
	c.w.WriteHeader(status)
	if c.Method == http.MethodGet {
		io.Copy(c.w, body.reader())
	}
	return nil
}

// byteRange reads a Range header for an object of a size.
func byteRange(header string, size int64) (first, n int64, ok bool) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	start, end, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, 0, false
	}
	if start == "" {
		n, err := strconv.ParseInt(end, 10, 64)
		n = min(n, size)
		return size - n, n, err == nil
	}
	first, err := strconv.ParseInt(start, 10, 64)
	last := size - 1
	if end != "" && err == nil {
		var to int64
		if to, err = strconv.ParseInt(end, 10, 64); to < last {
			last = to
		}
	}
	return first, last - first + 1, err == nil
}

// attributes answers GetObjectAttributes.
func (b *backend) attributes(c *call) error {
	v := b.current(c.bucket, c.key)
	if v == nil {
		return newS3Error(http.StatusNotFound, "NoSuchKey")
	}
	return c.document(&struct {
		XMLName    xml.Name `xml:"GetObjectAttributesResponse"`
		ETag       string
		ObjectSize int64
	}{ETag: v.etag, ObjectSize: v.length})
}

// serveTags serves the tags of an object.
func (b *backend) serveTags(c *call) error {
	v := b.current(c.bucket, c.key)
	if v == nil {
		return newS3Error(http.StatusNotFound, "NoSuchKey")
	}
	switch c.Method {
	case http.MethodPut:
		var doc tagging
		if err := c.read(&doc); err != nil {
			return err
		}
		tags := url.Values{}
		for _, t := range doc.Tags {
			tags.Set(t.Key, t.Value)
		}
		b.setTags(c.bucket, c.key, tags.Encode())
		return nil
	case http.MethodDelete:
		b.setTags(c.bucket, c.key, "")
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return c.document(newTagging(v.tags))
}

// serveBucket serves an operation on a bucket.
func (b *backend) serveBucket(c *call) error {
	switch {
	case c.has("tagging"):
		return b.serveConfiguration(c, "tagging", nil)
	case c.Method == http.MethodPost && c.has("delete"):
		return b.deleteObjects(c)
	case c.Method == http.MethodHead:
		return nil
	case c.Method != http.MethodGet:
		return newS3Error(http.StatusMethodNotAllowed, "MethodNotAllowed")
	case c.has("uploads"):
		return c.document(b.listUploads(c))
	}
	return c.document(b.list(c))
}

// serveConfiguration keeps a document under a name. Before one was written, there is the usual one,
// if that is not nil.
func (b *backend) serveConfiguration(c *call, name string, usual []byte) error {
	path := c.bucket + "/" + c.key + "?" + name
	switch c.Method {
	case http.MethodPut:
		data, err := io.ReadAll(c.Body)
		if err == nil {
			b.setDocument(path, data)
		}
		return err
	case http.MethodDelete:
		b.setDocument(path, nil)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	data := b.document(path)
	if data == nil {
		data = usual
	}
	if data == nil {
		return newS3Error(http.StatusNotFound, "NoSuchConfiguration")
	}
	c.w.Header().Set("Content-Type", "application/xml")
	c.w.Write(data)
	return nil
}

// deleteObjects deletes the keys that a document names.
func (b *backend) deleteObjects(c *call) error {
	var doc struct{ Object []struct{ Key string } }
	if err := c.read(&doc); err != nil {
		return err
	}
	answer := &deleted{}
	for _, o := range doc.Object {
		b.put(c.bucket, o.Key, &version{deleted: true, trace: traceOf(c.Header)})
		answer.Deleted = append(answer.Deleted, keyEntry{o.Key})
	}
	return c.document(answer)
}

// parts lists the parts of an upload.
func (b *backend) parts(u *upload, id string) *partList {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := &partList{Bucket: u.bucket, Key: u.key, UploadID: id, MaxParts: 1000}
	for n, p := range u.parts {
		list.Part = append(list.Part, partEntry{n, s3Time(time.Now()), `"` + p.etag + `"`, p.length})
	}
	slices.SortFunc(list.Part, func(a, b partEntry) int { return a.PartNumber - b.PartNumber })
	return list
}

// read decodes a document.
func (c *call) read(doc any) error {
	data, err := io.ReadAll(c.Body)
	if err != nil {
		return err
	}
	if xml.Unmarshal(data, doc) != nil {
		return newS3Error(http.StatusBadRequest, "MalformedXML")
	}
	return nil
}

// document answers with a document.
func (c *call) document(doc any) error {
	c.w.Header().Set("Content-Type", "application/xml")
	return writeXML(c.w, doc)
}
