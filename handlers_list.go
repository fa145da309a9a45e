package main

// Listings. A page is always asked for with encoding-type=url, so that a key
// with a control character does not spoil it, parsed whole, checked and
// written anew. A listing without paging parameters is every page there is,
// written as they arrive: never more than one is held.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// maxListKeys is how many keys S3 has on a page at most.
const maxListKeys = 1000

// listBuckets answers from the configuration: the buckets this user may see.
// No backend is asked, whose other buckets are not the gateway's.
func (g *gateway) listBuckets(x *exchange) *apiError {
	most := maxBuckets
	if n, err := strconv.Atoi(parameterValue(x.query, "max-buckets")); err == nil { // it is in range: parameterRules
		most = n
	}
	prefix, after := parameterValue(x.query, "prefix"), parameterValue(x.query, "continuation-token")
	created := g.started.UTC().Format(s3TimeFormat) // S3 clients expect a date; we know no better
	result := listAllMyBucketsResult{Owner: ownerEntry{x.user.name, x.user.name}, Prefix: optional(textOf(prefix))}
	for _, name := range g.names {
		if !x.user.mayUse(name) || !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		if len(result.Buckets.Bucket) == most {
			result.ContinuationToken = result.Buckets.Bucket[most-1].Name
			break
		}
		result.Buckets.Bucket = append(result.Buckets.Bucket, bucketEntry{name, created})
	}
	x.writeDocument("application/xml", append([]byte(xmlHeader), marshalDocument(result)...))
	return nil
}

// listObjects answers a V1 listing: one page if the client pages, else all.
func (g *gateway) listObjects(x *exchange) *apiError {
	switch {
	case hasParameter(x.query, "continuation-token") || hasParameter(x.query, "start-after"): // V2 in all but name
		return g.listPage(x, withParameter(x.query, "list-type", "2"), "ListObjectsV2")
	case hasParameter(x.query, "marker") || hasParameter(x.query, "max-keys"):
		return g.listPage(x, x.query, "ListObjects")
	}
	return g.listAll(x)
}

// listObjectVersions and listMultipartUploads answer one page.
func (g *gateway) listObjectVersions(x *exchange) *apiError {
	return g.listPage(x, x.query, "ListObjectVersions")
}

func (g *gateway) listMultipartUploads(x *exchange) *apiError {
	return g.listPage(x, x.query, "ListMultipartUploads")
}

// listObjectsV2 answers one page of a V2 listing.
func (g *gateway) listObjectsV2(x *exchange) *apiError {
	return g.listPage(x, x.query, "ListObjectsV2")
}

// listPage passes on one page of the list that an operation makes.
func (g *gateway) listPage(x *exchange, query []parameter, name string) *apiError {
	page, err := g.fetchPage(x, query, name)
	if err != nil {
		return err
	}
	w := x.answerWriter()
	w.encodeURL = hasParameter(x.query, "encoding-type")
	w.owned = name == "ListObjects"
	start, end := openDocument(w.listHead(name, page, query))
	buffer := listBuffers.Get().(*[]byte)
	b := append(append((*buffer)[:0], xmlHeader...), start...)
	b = w.appendEntries(b, page)
	page.free() // before a slow client is waited for
	*buffer = append(b, end...)
	if err := x.keepAnswer(cap(*buffer)); err != nil {
		freeListBuffer(buffer)
		return err
	}
	if x.writeDocument("application/xml", *buffer) == nil {
		freeListBuffer(buffer)
	}
	return nil
}

// listHead returns the document of a page, without its entries. It repeats what the
// client sent, not what the backend repeats: servers differ in how they write it.
func (w *answerWriter) listHead(name string, page *listedPage, query []parameter) any {
	asked := func(param string) string { return parameterValue(query, param) }
	said := func(element string) *xmlText { return optional(w.listText(element, page.child(element))) }
	prefix, delimiter := w.listText("Prefix", asked("prefix")), optional(w.listText("Delimiter", asked("delimiter")))
	truncated := textOf(page.child("IsTruncated"))
	switch name {
	case "ListObjects":
		return listBucketResult{
			Name: w.bucket, Prefix: w.sparing(asked("prefix")), Delimiter: delimiter, EncodingType: w.encodingType(),
			Marker: w.listText("Marker", asked("marker")), NextMarker: said("NextMarker"),
			MaxKeys: said("MaxKeys"), IsTruncated: truncated,
		}
	case "ListObjectVersions":
		return listVersionsResult{
			Name: w.bucket, Prefix: prefix, Delimiter: delimiter, EncodingType: w.encodingType(),
			KeyMarker: w.listText("KeyMarker", asked("key-marker")), NextKeyMarker: said("NextKeyMarker"),
			VersionIDMarker: textOf(asked("version-id-marker")), NextVersionIDMarker: said("NextVersionIdMarker"),
			MaxKeys: said("MaxKeys"), IsTruncated: truncated,
		}
	case "ListMultipartUploads":
		return listMultipartUploadsResult{
			Bucket: w.bucket, Prefix: prefix, Delimiter: delimiter, EncodingType: w.encodingType(),
			KeyMarker: w.listText("KeyMarker", asked("key-marker")), NextKeyMarker: said("NextKeyMarker"),
			UploadIDMarker: textOf(asked("upload-id-marker")), NextUploadIDMarker: said("NextUploadIdMarker"),
			MaxUploads: said("MaxUploads"), IsTruncated: truncated,
		}
	}
	return listBucketV2Result{
		Name: w.bucket, Prefix: prefix, Delimiter: delimiter, EncodingType: w.encodingType(),
		StartAfter:        optional(w.listText("StartAfter", asked("start-after"))),
		ContinuationToken: optional(textOf(asked("continuation-token"))), NextContinuationToken: said("NextContinuationToken"),
		KeyCount: page.count("Contents") + page.count("CommonPrefixes"), MaxKeys: said("MaxKeys"), IsTruncated: truncated,
	}
}

// listText returns the text of an element of a list, encoded if the client asked for
// that and encoding-type=url encodes the element.
func (w *answerWriter) listText(name, value string) xmlText {
	if w.encodeURL && urlEncoded(name) {
		return xmlText{appendURIEncoded(nil, value, false)}
	}
	return textOf(value)
}

// sparing returns the Prefix of a V1 list: see appendSparingly.
func (w *answerWriter) sparing(prefix string) xmlText {
	if w.encodeURL {
		return xmlText{appendSparingly(nil, prefix)}
	}
	return textOf(prefix)
}

func (w *answerWriter) encodingType() string {
	if w.encodeURL {
		return "url"
	}
	return ""
}

// optional returns nil for an empty text: an element that is not written.
func optional(t xmlText) *xmlText {
	if len(t.Raw) == 0 {
		return nil
	}
	return &t
}

// appendEntries writes the entries of a page, all of which have children.
func (w *answerWriter) appendEntries(b []byte, page *listedPage) []byte {
	hint := 0
	for i := range page.children {
		e := &page.children[i]
		if known := page.form.root.child(e.name, &hint); known != nil && len(known.children) > 0 {
			b = w.append(b, e, known)
		}
	}
	return b
}

// listAll passes on every page, as one V1 document that is not truncated.
func (g *gateway) listAll(x *exchange) *apiError {
	query := withParameter(x.query, "list-type", "2")
	page, refusal := g.fetchPage(x, query, "ListObjectsV2")
	if refusal != nil {
		return refusal
	}
	if !page.last && x.isHTTP10() {
		page.free()
		return errUnsized()
	}
	l := newWholeList(x)
	for {
		token, last := l.append(page)
		if refusal := l.send(last); refusal != nil || last {
			return refusal
		}
		if l.circles(token) {
			x.abort(errors.New("the pages go round in a circle"))
		}
		if page, refusal = g.fetchPage(x, withParameter(query, "continuation-token", token), "ListObjectsV2"); refusal != nil {
			x.abort(refusal)
		}
	}
}

// A wholeList is a list of every page, written as the pages arrive. If one is missing
// the document breaks off, and so does the connection: a list that lacks its end must
// not parse as a shorter one.
type wholeList struct {
	x      *exchange
	w      *answerWriter
	buffer *[]byte // to be sent
	end    []byte  // of the document
	pages  int     // in the document so far
	seen   string  // the token of an earlier page
}

func newWholeList(x *exchange) *wholeList {
	w := x.answerWriter()
	w.encodeURL = hasParameter(x.query, "encoding-type")
	w.owned = true                               // as V1 has it
	maxKeys := textOf(strconv.Itoa(maxListKeys)) // S3's, which is no bound here
	start, end := openDocument(listBucketResult{
		Name: w.bucket, Prefix: w.sparing(parameterValue(x.query, "prefix")),
		Delimiter: optional(w.listText("Delimiter", parameterValue(x.query, "delimiter"))),
		MaxKeys:   &maxKeys, IsTruncated: textOf("false"), EncodingType: w.encodingType(),
	})
	buffer := listBuffers.Get().(*[]byte)
	*buffer = append(append((*buffer)[:0], xmlHeader...), start...)
	return &wholeList{x: x, w: w, buffer: buffer, end: end}
}

// append writes a page into the buffer and frees it. It returns the token of the next
// page, and whether this is the last.
func (l *wholeList) append(page *listedPage) (token string, last bool) {
	defer page.free() // before a slow client is waited for
	l.pages++
	*l.buffer = l.w.appendEntries(*l.buffer, page)
	if page.last {
		*l.buffer = append(*l.buffer, l.end...)
	}
	return page.child("NextContinuationToken"), page.last
}

// send sends the buffer. What fails once the answer has begun breaks it off.
func (l *wholeList) send(last bool) *apiError {
	x, b := l.x, *l.buffer
	switch refusal := x.keepAnswer(cap(b)); {
	case refusal != nil && l.pages == 1:
		return refusal
	case refusal != nil:
		x.abort(refusal)
	case l.pages == 1:
		x.beginList(last, len(b))
	}
	if _, err := x.Write(b); err != nil {
		x.abort(err)
	}
	if last {
		freeListBuffer(l.buffer)
		return nil
	}
	if err := x.flush(); err != nil {
		x.abort(err)
	}
	*l.buffer = b[:0]
	return nil
}

// circles reports whether a token was that of an earlier page. The one it compares with
// is that of the page whose number is the last power of two: so a circle of any length is
// found.
func (l *wholeList) circles(token string) bool {
	if token == l.seen {
		return true
	}
	if l.pages&(l.pages-1) == 0 {
		l.seen = token
	}
	return false
}

// beginList writes the head of a whole list. One of a single page has a length.
func (x *exchange) beginList(single bool, length int) {
	h := x.Header()
	h["Content-Type"] = []string{"application/xml"}
	if single {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
	x.WriteHeader(http.StatusOK)
}

// A listedPage of a list, with its keys decoded, and the memory it is in.
type listedPage struct {
	element
	form    *answerForm
	last    bool     // no page follows
	memory  *holding // counts the memory of the scanner; nil: not counted
	scanner scanner
}

// pageBuffers and listBuffers are memory for pages, as they come and as they go. They
// take some 0.8 and 0.3 MiB for 1,000 keys; what takes much more is left to the
// collector.
var (
	pageBuffers = sync.Pool{New: func() any { return new(listedPage) }}
	listBuffers = sync.Pool{New: func() any { return new([]byte) }}
)

const maxListBuffer = 2 << 20 // bytes

// free ends the use of the page and of all that is in it.
func (p *listedPage) free() {
	p.memory, p.scanner.memory = nil, nil
	if p.scanner.reusable() {
		pageBuffers.Put(p)
	}
}

// freeListBuffer ends the use of a buffer that was written. One that could not be
// is not freed: HTTP/2 may still be reading it when Write has failed.
func freeListBuffer(b *[]byte) {
	if cap(*b) <= maxListBuffer {
		listBuffers.Put(b)
	}
}

// fetchPage asks the backend for a page and returns it checked, to be freed.
func (g *gateway) fetchPage(x *exchange, query []parameter, name string) (*listedPage, *apiError) {
	out, refusal := g.outgoing(x)
	if refusal != nil {
		return nil, refusal
	}
	out.query = withParameter(query, "encoding-type", "url")
	resp, refusal := x.send(x.bucket, out)
	if refusal != nil {
		return nil, refusal
	}
	defer resp.Body.Close()
	p := pageBuffers.Get().(*listedPage)
	p.memory = x.countAnswer()
	if err := p.read(plainBody(resp), plainLength(resp), answerSpecs[name], query); err != nil {
		switch {
		case isOutOfMemory(err):
			refusal = outOfMemory()
		case p.name == "Error":
			refusal = x.hiddenError(&p.element)
		default:
			refusal = badGateway(err)
		}
		x.answered.free()
		p.free()
		return nil, refusal
	}
	return p, nil
}

// read reads a page to the end of the answer, which a query has asked for. The size
// is -1 if it is not known.
func (p *listedPage) read(body io.Reader, size int64, a answerSpec, query []parameter) (err error) {
	p.scanner.reset(body, size)
	p.scanner.memory = p.memory
	if err := p.memory.reserve(p.scanner.room()); err != nil {
		return err
	}
	if p.element, err = p.scanner.document(""); err != nil {
		return err
	}
	if err := p.scanner.ends(); err != nil {
		return err
	}
	if p.form = a.form(p.name); p.form == nil {
		return fmt.Errorf("want a document %s, have %s", a.forms[0].names[0], rootName(p.name))
	}
	if p.child("EncodingType") == "url" {
		if err := p.form.list.decode(&p.element); err != nil {
			return err
		}
	}
	p.last, err = p.form.list.last(&p.element, query)
	return err
}
