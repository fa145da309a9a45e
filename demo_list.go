package main

// The demo's lists: buckets, the objects of a bucket in both versions, and the
// XML they are written in.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const (
	demoMaxKeys    = 1000 // entries of a page
	demoTimeFormat = "2006-01-02T15:04:05.000Z"
	demoNamespace  = "http://s3.amazonaws.com/doc/2006-03-01/"
	demoOwner      = "s3-proxy-demo"
)

func (s *demoServer) listBuckets(w http.ResponseWriter, q *demoRequest) error {
	if q.query.Has("prefix") || q.query.Has("continuation-token") {
		return errDemoNotImplemented
	}
	var x demoXML
	x.open("ListAllMyBucketsResult", demoNamespace)
	x.owner()
	x.open("Buckets")
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		x.open("Bucket")
		x.element("Name", name)
		x.element("CreationDate", s.buckets[name].created.Format(demoTimeFormat))
		x.close("Bucket")
	}
	x.close("Buckets")
	x.close("ListAllMyBucketsResult")
	return x.write(w, q, http.StatusOK)
}

func (s *demoServer) headBucket(w http.ResponseWriter, q *demoRequest) error {
	w.Header().Set("x-amz-bucket-region", cmp.Or(s.region, "us-east-1"))
	return nil
}

// getBucketLocation answers nothing for us-east-1, which had no name when the
// operation was made.
func (s *demoServer) getBucketLocation(w http.ResponseWriter, q *demoRequest) error {
	region := s.region
	if region == "us-east-1" {
		region = ""
	}
	var x demoXML
	x.open("LocationConstraint", demoNamespace)
	x.text(region)
	x.close("LocationConstraint")
	return x.write(w, q, http.StatusOK)
}

// A demoPage is one page of a list, and what was asked for to get it.
type demoPage struct {
	prefix, delimiter string
	after             string // a key, or a common prefix: the list begins behind it
	max               int

	entries   []demoEntry
	truncated bool // there are more
}

// A demoEntry is an object, or, if that is nil, a common prefix.
type demoEntry struct {
	name   string
	object *demoObject
}

// fill finds the entries of a page. It takes a binary search for its beginning
// and one for the end of each common prefix, and looks at no other key.
func (b *demoBucket) fill(p *demoPage) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	keys := b.keys[p.begin(b.keys):]
	for len(keys) > 0 && strings.HasPrefix(keys[0], p.prefix) {
		if len(p.entries) == p.max {
			p.truncated = p.max > 0 // a page of none is never called cut short
			return
		}
		group, ok := p.commonPrefix(keys[0])
		if !ok {
			p.entries = append(p.entries, demoEntry{keys[0], b.objects[keys[0]]})
			keys = keys[1:]
			continue
		}
		p.entries = append(p.entries, demoEntry{group, nil})
		keys = keys[demoGroupEnd(keys, group):]
	}
}

// begin returns the index of the first key that may be on the page. A page
// which ended with a common prefix goes on behind all of its keys; a start
// inside of one, which only a client can think of, lists it once more.
func (p *demoPage) begin(keys []string) int {
	if p.after == "" || p.after < p.prefix {
		i, _ := slices.BinarySearch(keys, p.prefix)
		return i
	}
	i, found := slices.BinarySearch(keys, p.after)
	if group, ok := p.commonPrefix(p.after); ok && group == p.after {
		return i + demoGroupEnd(keys[i:], group)
	}
	if found {
		i++
	}
	return i
}

// commonPrefix returns the beginning of a key up to the first delimiter behind
// the prefix, delimiter included, if there is one.
func (p *demoPage) commonPrefix(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, p.prefix)
	if !ok || p.delimiter == "" {
		return "", false
	}
	i := strings.Index(rest, p.delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(p.prefix)+i+len(p.delimiter)], true
}

// demoGroupEnd returns how many of the keys, of which none comes before group,
// begin with it.
func demoGroupEnd(keys []string, group string) int {
	return sort.Search(len(keys), func(i int) bool { return !strings.HasPrefix(keys[i], group) })
}

// listObjects is both versions of the operation.
func (s *demoServer) listObjects(w http.ResponseWriter, q *demoRequest) error {
	version := q.query.Get("list-type")
	if q.query.Has("list-type") && version != "2" {
		return demoInvalidArgument("Invalid List Type specified in Request")
	}
	p := &demoPage{prefix: q.query.Get("prefix"), delimiter: q.query.Get("delimiter"), after: q.query.Get("marker")}
	var err error
	if p.max, err = q.maxKeys(); err != nil {
		return err
	}
	encode := func(name string) string { return name }
	if q.query.Has("encoding-type") {
		if q.query.Get("encoding-type") != "url" {
			return demoInvalidArgument("Invalid Encoding Method specified in Request")
		}
		encode = demoListEncode
	}
	if version == "2" {
		p.after = q.query.Get("start-after")
		if q.query.Has("continuation-token") {
			if p.after, err = demoParseToken(q.query.Get("continuation-token")); err != nil {
				return err
			}
		}
	}
	q.bucket.fill(p)
	return p.render(q, version == "2", encode).write(w, q, http.StatusOK)
}

func demoInvalidArgument(message string) error {
	return &demoError{400, "InvalidArgument", message}
}

func (q *demoRequest) maxKeys() (int, error) {
	text := q.query.Get("max-keys")
	if text == "" {
		return demoMaxKeys, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0, demoInvalidArgument("Provided max-keys not an integer or within integer range")
	}
	return int(min(n, demoMaxKeys)), nil
}

// demoToken makes a continuation token. It is not the name itself, so that no
// client gets used to making its own.
func demoToken(name string) string {
	return base64.StdEncoding.EncodeToString([]byte("after:" + name))
}

func demoParseToken(token string) (string, error) {
	text, err := base64.StdEncoding.DecodeString(token)
	name, ok := strings.CutPrefix(string(text), "after:")
	if err != nil || !ok {
		return "", demoInvalidArgument("The continuation token provided is incorrect")
	}
	return name, nil
}

// demoListEncode is encoding-type=url: the encoding of HTML forms, but for the
// slash.
func demoListEncode(name string) string {
	return strings.ReplaceAll(url.QueryEscape(name), "%2F", "/")
}

// render writes the document of either version. Tokens are never encoded.
func (p *demoPage) render(q *demoRequest, v2 bool, encode func(string) string) *demoXML {
	x := &demoXML{}
	x.open("ListBucketResult", demoNamespace)
	x.element("Name", q.bucketName)
	x.element("Prefix", encode(p.prefix))
	p.renderPosition(x, q, v2, encode)
	x.element("MaxKeys", strconv.Itoa(p.max))
	x.optional("Delimiter", encode(p.delimiter))
	x.optional("EncodingType", q.query.Get("encoding-type"))
	x.element("IsTruncated", strconv.FormatBool(p.truncated))
	owner := !v2 || q.query.Get("fetch-owner") == "true"
	for _, e := range p.entries {
		if e.object != nil {
			x.object(e.object, encode(e.name), owner)
		}
	}
	for _, e := range p.entries {
		if e.object == nil {
			x.open("CommonPrefixes")
			x.element("Prefix", encode(e.name))
			x.close("CommonPrefixes")
		}
	}
	x.close("ListBucketResult")
	return x
}

// renderPosition writes where the page begins, and where the next one does.
// S3 has NextMarker with a delimiter only: without one, it is the last key.
func (p *demoPage) renderPosition(x *demoXML, q *demoRequest, v2 bool, encode func(string) string) {
	last := ""
	if p.truncated {
		last = p.entries[len(p.entries)-1].name
	}
	if !v2 {
		x.element("Marker", encode(p.after))
		if p.delimiter != "" {
			x.optional("NextMarker", encode(last))
		}
		return
	}
	x.optional("StartAfter", encode(q.query.Get("start-after")))
	x.optional("ContinuationToken", q.query.Get("continuation-token"))
	if p.truncated {
		x.element("NextContinuationToken", demoToken(last))
	}
	x.element("KeyCount", strconv.Itoa(len(p.entries)))
}

// A demoXML is an XML document being written. encoding/xml would turn control
// characters into U+FFFD.
type demoXML struct{ b strings.Builder }

// open writes a start tag, with a namespace if there is one.
func (x *demoXML) open(name string, namespace ...string) {
	x.b.WriteString("<" + name)
	for _, ns := range namespace {
		x.b.WriteString(` xmlns="` + ns + `"`)
	}
	x.b.WriteByte('>')
}

func (x *demoXML) close(name string) { x.b.WriteString("</" + name + ">") }

func (x *demoXML) element(name, text string) {
	x.open(name)
	x.text(text)
	x.close(name)
}

func (x *demoXML) optional(name, text string) {
	if text != "" {
		x.element(name, text)
	}
}

func (x *demoXML) object(o *demoObject, name string, owner bool) {
	x.open("Contents")
	x.element("Key", name)
	x.element("LastModified", o.Modified.Format(demoTimeFormat))
	x.element("ETag", o.ETag)
	for checksum := range o.Checksum {
		x.element("ChecksumAlgorithm", strings.ToUpper(strings.TrimPrefix(checksum, "x-amz-checksum-")))
		x.element("ChecksumType", "FULL_OBJECT")
	}
	x.element("Size", strconv.FormatInt(o.Size, 10))
	if owner {
		x.owner()
	}
	x.element("StorageClass", o.StorageClass)
	x.close("Contents")
}

func (x *demoXML) owner() {
	x.open("Owner")
	x.element("ID", demoOwner)
	x.element("DisplayName", demoOwner)
	x.close("Owner")
}

// text writes character data. What XML 1.0 section 2.2 can't hold becomes a
// numeric reference, as with S3. Most parsers refuse that, which is honest:
// the way to list such keys is encoding-type=url. Tab, line feed and carriage
// return could be held, but a parser would change the last.
func (x *demoXML) text(s string) {
	for _, r := range s {
		switch {
		case r == '&':
			x.b.WriteString("&amp;")
		case r == '<':
			x.b.WriteString("&lt;")
		case r == '>':
			x.b.WriteString("&gt;")
		case r == '"':
			x.b.WriteString("&quot;")
		case r < ' ', r == 0xFFFE, r == 0xFFFF:
			fmt.Fprintf(&x.b, "&#x%x;", r)
		default:
			x.b.WriteRune(r) // utf8.RuneError for what is no UTF-8, in a prefix
		}
	}
}

// write sends the document; after a HEAD, its headers alone.
func (x *demoXML) write(w http.ResponseWriter, q *demoRequest, status int) error {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if q.Method != http.MethodHead {
		fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n", x.b.String())
	}
	return nil
}
