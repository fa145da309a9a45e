package main

// The operations that list: buckets, objects, versions, uploads. They know how to fetch a
// page and when to send it; xml_list.go and xml_pages.go know what is in it.
//
// The gateway asks for every page with encoding-type=url, so that a control character in
// a key does not break the document. It reads the page whole, checks it, and writes it
// anew. A list without paging parameters has all pages, which are sent as they arrive;
// the gateway holds one at a time.
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

// maxListKeys is the largest number of keys on a page of S3.
const maxListKeys = 1000

// listBuckets answers with the buckets that the user may see, from the configuration. It
// asks no backend: those have other buckets, too.
func (g *gateway) listBuckets(x *exchange) *apiError {
	most := maxBuckets
	if n, err := strconv.Atoi(parameterValue(x.query, "max-buckets")); err == nil { // parameterRules has checked the range
		most = n
	}
	prefix, after := parameterValue(x.query, "prefix"), parameterValue(x.query, "continuation-token")
	created := g.started.UTC().Format(s3TimeFormat) // clients expect a date, and the gateway does not know the real one
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

// listObjects answers a V1 list: one page if the client asks for pages, and else all.
func (g *gateway) listObjects(x *exchange) *apiError {
	switch {
	case hasParameter(x.query, "continuation-token") || hasParameter(x.query, "start-after"): // parameters of V2, without its list-type
		return g.listPage(x, withParameter(x.query, "list-type", "2"), "ListObjectsV2")
	case hasParameter(x.query, "marker") || hasParameter(x.query, "max-keys"):
		return g.listPage(x, x.query, "ListObjects")
	}
	return g.listAll(x)
}

// listObjectVersions answers one page of a list of versions.
func (g *gateway) listObjectVersions(x *exchange) *apiError {
	return g.listPage(x, x.query, "ListObjectVersions")
}

// listMultipartUploads answers one page of a list of uploads.
func (g *gateway) listMultipartUploads(x *exchange) *apiError {
	return g.listPage(x, x.query, "ListMultipartUploads")
}

// listObjectsV2 answers one page of a V2 list.
func (g *gateway) listObjectsV2(x *exchange) *apiError {
	return g.listPage(x, x.query, "ListObjectsV2")
}

// listPage passes on one page of the list that the named operation makes.
func (g *gateway) listPage(x *exchange, query []parameter, name string) *apiError {
	page, err := g.fetchPage(x, query, name)
	if err != nil {
		return err
	}
	w := x.answerWriter()
	w.encodeURL = hasParameter(x.query, "encoding-type")
	w.owned = name == "ListObjects"
	buffer := listBuffers.Get().(*[]byte)
	*buffer = w.appendPage((*buffer)[:0], name, &page.element, &page.form.root, query)
	page.free() // before a slow client is waited for
	if err := x.keepAnswer(cap(*buffer)); err != nil {
		freeListBuffer(buffer)
		return err
	}
	if x.writeDocument("application/xml", *buffer) == nil {
		freeListBuffer(buffer)
	}
	return nil
}

// listAll passes on all pages as one V1 document that is not truncated.
func (g *gateway) listAll(x *exchange) *apiError {
	query := withParameter(x.query, "list-type", "2")
	page, refusal := g.fetchPage(x, query, "ListObjectsV2")
	if refusal != nil {
		return refusal
	}
	if !page.last && x.isHTTP10() {
		page.free()
		return unsizedError()
	}
	l := newWholeList(x)
	for {
		token, last := l.append(page)
		if refusal := l.send(last); refusal != nil || last {
			return refusal
		}
		if l.circles(token) {
			x.abort(errors.New("the pages of a list repeat without end"))
		}
		if page, refusal = g.fetchPage(x, withParameter(query, "continuation-token", token), "ListObjectsV2"); refusal != nil {
			x.abort(refusal)
		}
	}
}

// A wholeList is a list of all pages, written as they arrive. If a page is missing, the
// document breaks off and so does the connection: an incomplete list must not parse as a
// shorter one.
type wholeList struct {
	x      *exchange
	w      *answerWriter
	buffer *[]byte // what is to be sent next
	end    []byte  // of the document
	pages  int     // written so far
	seen   string  // the token of an earlier page
}

// newWholeList returns a list whose buffer has what comes before the entries.
func newWholeList(x *exchange) *wholeList {
	w := x.answerWriter()
	w.encodeURL = hasParameter(x.query, "encoding-type")
	w.owned = true                               // as V1 has it
	maxKeys := textOf(strconv.Itoa(maxListKeys)) // S3 says 1,000; there is no limit here
	start, end := openDocument(listBucketResult{
		Name: w.bucket, Prefix: w.sparing(parameterValue(x.query, "prefix")),
		Delimiter: optional(w.listText("Delimiter", parameterValue(x.query, "delimiter"))),
		MaxKeys:   &maxKeys, IsTruncated: textOf("false"), EncodingType: w.encodingType(),
	})
	buffer := listBuffers.Get().(*[]byte)
	*buffer = append(append((*buffer)[:0], xmlHeader...), start...)
	return &wholeList{x: x, w: w, buffer: buffer, end: end}
}

// append writes a page to the buffer and frees it. It returns the token of the next page
// and whether this page is the last.
func (l *wholeList) append(page *listedPage) (token string, last bool) {
	defer page.free() // before a slow client is waited for
	l.pages++
	*l.buffer = l.w.appendEntries(*l.buffer, &page.element, &page.form.root)
	if page.last {
		*l.buffer = append(*l.buffer, l.end...)
	}
	return page.child("NextContinuationToken"), page.last
}

// send sends the buffer and empties it. An error after the first page aborts the answer.
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

// circles reports whether a token is that of an earlier page. It compares with the page
// whose number is the last power of two, so it finds a circle of any length.
func (l *wholeList) circles(token string) bool {
	if token == l.seen {
		return true
	}
	if l.pages&(l.pages-1) == 0 {
		l.seen = token
	}
	return false
}

// beginList writes the headers of a whole list. Only a list of a single page has a
// Content-Length.
func (x *exchange) beginList(single bool, length int) {
	h := x.Header()
	h["Content-Type"] = []string{"application/xml"}
	if single {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
	x.WriteHeader(http.StatusOK)
}

// A listedPage is a page of a list with its keys decoded, and the memory that holds it.
type listedPage struct {
	element
	form    *answerForm
	last    bool     // no page follows
	memory  *holding // counts the memory of the scanner; nil: not counted
	scanner scanner
}

// pageBuffers hold pages as they are read, listBuffers hold pages as they are sent. They
// take about 0.8 and 0.3 MiB for 1,000 keys. Those that are much larger are left to the
// garbage collector.
var (
	pageBuffers = sync.Pool{New: func() any { return new(listedPage) }}
	listBuffers = sync.Pool{New: func() any { return new([]byte) }}
)

const maxListBuffer = 2 << 20 // bytes of a buffer that is used again

// free ends the use of the page and of everything in it.
func (p *listedPage) free() {
	p.memory, p.scanner.memory = nil, nil
	if p.scanner.reusable() {
		pageBuffers.Put(p)
	}
}

// freeListBuffer ends the use of a buffer that was sent. If Write failed, the buffer must
// not be freed: HTTP/2 may still be reading it.
func freeListBuffer(b *[]byte) {
	if cap(*b) <= maxListBuffer {
		listBuffers.Put(b)
	}
}

// fetchPage asks the backend for a page and returns it checked, to be freed. A page that breaks
// off is asked for again: the client has seen nothing of it.
func (g *gateway) fetchPage(x *exchange, query []parameter, name string) (*listedPage, *apiError) {
	for attempt := 1; ; attempt++ {
		page, broken, refusal := g.readPage(x, query, name)
		if !broken || !x.mayAskAgain(attempt) {
			return page, refusal
		}
	}
}

// readPage asks for a page once. It reports whether the backend broke it off.
func (g *gateway) readPage(x *exchange, query []parameter, name string) (p *listedPage, broken bool, refusal *apiError) {
	out, refusal := g.outgoing(x)
	if refusal != nil {
		return nil, false, refusal
	}
	out.query = withParameter(query, "encoding-type", "url")
	resp, refusal := x.send(x.bucket, out)
	if refusal != nil {
		return nil, false, refusal
	}
	defer resp.Body.Close()
	p = pageBuffers.Get().(*listedPage)
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
		return nil, resp.Body.(*answerBody).broken, refusal
	}
	return p, false, nil
}

// read reads a page to the end of the answer and checks it. The query is the one that
// asked for it. The size is that of the body in bytes, or -1 if it is not known.
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
		return fmt.Errorf("the document must be %s, not %s", a.forms[0].names[0], rootName(p.name))
	}
	if p.child("EncodingType") == "url" {
		if err := p.form.list.decode(&p.element); err != nil {
			return err
		}
	}
	p.last, err = p.form.list.last(&p.element, query)
	return err
}
