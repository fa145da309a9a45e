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
// Nothing is asked of a backend, whose other buckets are none of ours.
func (g *gateway) listBuckets(x *exchange) *apiError {
	limit := maxBuckets
	if n, err := strconv.Atoi(parameterValue(x.query, "max-buckets")); err == nil { // it is in range: parameterRules
		limit = n
	}
	prefix, after := parameterValue(x.query, "prefix"), parameterValue(x.query, "continuation-token")
	created := g.started.UTC().Format(s3TimeFormat) // S3 clients want a date; we know no better
	b := append([]byte(nil), xmlHeader+`<ListAllMyBucketsResult xmlns="`+s3Namespace+`">`...)
	b = append(b, "<Owner>"...)
	b = appendElement(b, "ID", x.user.name)
	b = appendElement(b, "DisplayName", x.user.name)
	b = append(b, "</Owner><Buckets>"...)
	last, next := "", ""
	for _, name := range g.names {
		if !x.user.mayUse(name) || !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		if limit--; limit < 0 {
			next = last
			break
		}
		b = append(b, "<Bucket>"...)
		b = appendElement(b, "Name", name)
		b = appendElement(b, "CreationDate", created)
		b = append(b, "</Bucket>"...)
		last = name
	}
	b = append(b, "</Buckets>"...)
	if next != "" {
		b = appendElement(b, "ContinuationToken", next)
	}
	if prefix != "" {
		b = appendElement(b, "Prefix", prefix)
	}
	x.writeDocument("application/xml", append(b, "</ListAllMyBucketsResult>"...))
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
	form := page.form
	w := x.answerWriter()
	w.encodeURL = hasParameter(x.query, "encoding-type")
	w.owned = name == "ListObjects"
	buffer := listBuffers.Get().(*[]byte)
	b := appendListStart((*buffer)[:0], form.root.name)
	b = appendEchoes(b, form.list.echoes, query, w.encodeURL)
	if name == "ListObjectsV2" {
		b = appendElement(b, "KeyCount", strconv.Itoa(page.count("Contents")+page.count("CommonPrefixes")))
	}
	b = w.appendContent(b, &page.element, &form.root)
	page.free() // before a slow client is waited for
	if w.encodeURL {
		b = appendElement(b, "EncodingType", "url")
	}
	*buffer = append(append(append(b, "</"...), form.root.name...), '>')
	if err := x.keepAnswer(cap(*buffer)); err != nil {
		freeListBuffer(buffer)
		return err
	}
	if x.writeDocument("application/xml", *buffer) == nil {
		freeListBuffer(buffer)
	}
	return nil
}

// appendEchoes writes what a list repeats of the request: as the client has sent it,
// for servers differ in how they write it.
func appendEchoes(b []byte, echoes []echo, query []parameter, encodeURL bool) []byte {
	for _, e := range echoes {
		if value := parameterValue(query, e.param); value != "" || e.always {
			b = append(append(append(b, '<'), e.element...), '>')
			switch {
			case encodeURL && e.sparing:
				b = appendSparingly(b, value)
			case encodeURL && urlEncoded(e.element):
				b = appendURIEncoded(b, value, false)
			default:
				b = appendText(b, value)
			}
			b = append(append(append(b, "</"...), e.element...), '>')
		}
	}
	return b
}

// appendEntries writes the keys and common prefixes of a page.
func (w *answerWriter) appendEntries(b []byte, page *element, root *knownElement) []byte {
	hint := 0
	for i := range page.children {
		e := &page.children[i]
		if e.name != "Contents" && e.name != "CommonPrefixes" {
			continue
		}
		if known := root.child(e.name, &hint); known != nil {
			b = w.append(b, e, known)
		}
	}
	return b
}

// listAll passes on every page, as one V1 document that is not truncated. If a
// page is missing the document breaks off, and so does the connection: a list
// that lacks its end must not parse as a shorter one.
func (g *gateway) listAll(x *exchange) *apiError {
	w := x.answerWriter()
	w.encodeURL = hasParameter(x.query, "encoding-type")
	w.owned = true // as V1 has it
	query := withParameter(x.query, "list-type", "2")
	page, err := g.fetchPage(x, query, "ListObjectsV2")
	if err != nil {
		return err
	}
	single := page.last
	if !single && x.isHTTP10() {
		page.free()
		return errUnsized()
	}
	buffer := listBuffers.Get().(*[]byte)
	b := appendListStart((*buffer)[:0], "ListBucketResult")
	b = appendElement(b, "Name", x.target.bucket)
	b = appendEchoes(b, objectsV1.echoes, x.query, w.encodeURL)
	b = appendElement(b, "MaxKeys", strconv.Itoa(maxListKeys)) // S3's, which is no bound here
	if w.encodeURL {
		b = appendElement(b, "EncodingType", "url")
	}
	b = appendElement(b, "IsTruncated", "false")
	for number, seen := 1, ""; ; number++ {
		b = w.appendEntries(b, &page.element, &page.form.root)
		last, token := page.last, page.child("NextContinuationToken")
		page.free() // before a slow client is waited for
		if last {
			b = append(b, "</ListBucketResult>"...)
		}
		switch err := x.keepAnswer(cap(b)); {
		case err != nil && number == 1:
			return err
		case err != nil:
			x.abort(err)
		case number == 1:
			x.beginList(single, len(b))
		}
		if _, err := x.Write(b); err != nil {
			x.abort(err)
		}
		if last {
			*buffer = b
			freeListBuffer(buffer)
			return nil
		}
		if err := x.flush(); err != nil {
			x.abort(err)
		}
		if token == seen {
			x.abort(errors.New("the pages go round in a circle"))
		}
		if number&(number-1) == 0 { // a power of two: then a circle of any length is found
			seen = token
		}
		if page, err = g.fetchPage(x, withParameter(query, "continuation-token", token), "ListObjectsV2"); err != nil {
			x.abort(err)
		}
		b = b[:0]
	}
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

func appendListStart(b []byte, root string) []byte {
	return append(b, xmlHeader+"<"+root+` xmlns="`+s3Namespace+`">`...)
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
