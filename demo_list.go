package main

// The demo's lists of buckets and objects, and the XML they are written in.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html

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
	demoNamespace  = `xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
	demoOwner      = "s3-proxy-demo"
)

func (s *demoServer) listBuckets(w http.ResponseWriter, q *demoRequest) error {
	if q.query.Has("prefix") || q.query.Has("continuation-token") {
		return errDemoNotImplemented
	}
	x := newDemoXML("ListAllMyBucketsResult")
	x.owner("Owner")
	x.begin("Buckets")
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		x.group("Bucket", "Name", name, "CreationDate", s.buckets[name].created.Format(demoTimeFormat))
	}
	return x.send(w, q, http.StatusOK)
}

// A demoPage is one page of a list, and what was asked for to get it.
type demoPage struct {
	prefix, delimiter string
	after             string // a key, or a common prefix: the list begins behind it
	within            bool   // what has the name after may be on the page too
	max               int
	encoding          string // of names: url, or none

	found  []int    // indices of the keys on the page
	groups []string // the common prefixes on it
	next   string   // the last of either, if there are more; otherwise ""
}

// page reads the parameters of a list. Two of them have other names in each:
// where it begins, and how many entries it may have.
func (q *demoRequest) page(after, limit string) (*demoPage, error) {
	p := &demoPage{max: demoMaxKeys, encoding: q.query.Get("encoding-type")}
	p.prefix, p.delimiter, p.after = q.query.Get("prefix"), q.query.Get("delimiter"), q.query.Get(after)
	if text := q.query.Get(limit); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, demoInvalidArgument("Provided " + limit + " not an integer or within integer range")
		}
		p.max = int(min(n, demoMaxKeys))
	}
	if q.query.Has("encoding-type") && p.encoding != "url" {
		return nil, demoInvalidArgument("Invalid Encoding Method specified in Request")
	}
	return p, nil
}

// fill finds what of the sorted keys is on the page. A page which ended with a
// common prefix goes on behind all of its keys; a start inside of one, which
// only a client can think of, lists it once more. Of the keys with a common
// prefix none but the first is looked at.
func (p *demoPage) fill(keys []string) {
	i, _ := slices.BinarySearch(keys, max(p.prefix, p.after))
	for end := i; i < len(keys) && strings.HasPrefix(keys[i], p.prefix); i = end {
		group := p.commonPrefix(keys[i])
		if end = i + 1; keys[i] == p.after && !p.within {
			continue
		}
		if group != "" {
			end = i + sort.Search(len(keys)-i, func(n int) bool { return !strings.HasPrefix(keys[i+n], group) })
		}
		switch {
		case group != "" && group == p.after:
			continue
		case len(p.found)+len(p.groups) == p.max:
			return // and a page of none is never called cut short
		case group != "":
			p.groups = append(p.groups, group)
		default:
			p.found = append(p.found, i)
		}
		p.next = cmp.Or(group, keys[i])
	}
	p.next = ""
}

// commonPrefix returns the beginning of a key up to the first delimiter behind
// the prefix, delimiter included; "" if there is none.
func (p *demoPage) commonPrefix(key string) string {
	i := strings.Index(key[len(p.prefix):], p.delimiter)
	if i < 0 || p.delimiter == "" {
		return ""
	}
	return key[:len(p.prefix)+i+len(p.delimiter)]
}

// list fills a page, and returns the objects on it.
func (f *demoFolder) list(p *demoPage) (objects []*demoObject) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	p.fill(f.keys)
	for _, i := range p.found {
		objects = append(objects, f.objects[f.keys[i]])
	}
	return objects
}

// name is a name as the page has it: encoding-type=url is the encoding of HTML
// forms, but for the slash.
func (p *demoPage) name(s string) string {
	if p.encoding == "" {
		return s
	}
	return strings.ReplaceAll(url.QueryEscape(s), "%2F", "/")
}

// begin writes what all pages have. The names of the bucket and of the limit
// differ.
func (p *demoPage) begin(root, bucketElement, bucket, limit string) *demoXML {
	x := newDemoXML(root)
	x.fields(bucketElement, bucket, "Prefix", p.name(p.prefix), limit, strconv.Itoa(p.max), "IsTruncated", strconv.FormatBool(p.next != ""))
	x.optional("Delimiter", p.name(p.delimiter), "EncodingType", p.encoding)
	for _, group := range p.groups {
		x.group("CommonPrefixes", "Prefix", p.name(group))
	}
	return x
}

// listObjects is both versions of the operation. Tokens are never encoded, and
// version 1 has NextMarker with a delimiter only: without one, it is the last
// key.
func (s *demoServer) listObjects(w http.ResponseWriter, q *demoRequest) error {
	after, v2 := "marker", q.query.Get("list-type") == "2"
	if v2 {
		after = "start-after"
	} else if q.query.Has("list-type") {
		return demoInvalidArgument("Invalid List Type specified in Request")
	}
	p, err := q.page(after, "max-keys")
	if err == nil && v2 && q.query.Has("continuation-token") {
		p.after, err = demoParseToken(q.query.Get("continuation-token"))
	}
	if err != nil {
		return err
	}
	objects := q.bucket.list(p)
	x := p.begin("ListBucketResult", "Name", q.bucketName, "MaxKeys")
	if v2 {
		x.fields("KeyCount", strconv.Itoa(len(p.found)+len(p.groups)))
		x.optional("StartAfter", p.name(q.query.Get("start-after")), "ContinuationToken", q.query.Get("continuation-token"), "NextContinuationToken", demoToken(p.next))
	} else if x.fields("Marker", p.name(p.after)); p.delimiter != "" {
		x.optional("NextMarker", p.name(p.next))
	}
	for _, o := range objects {
		x.object("Contents", o, p, !v2 || q.query.Get("fetch-owner") == "true")
	}
	return x.send(w, q, http.StatusOK)
}

// demoToken makes a continuation token, "" for no name. It is not the name
// itself, so that no client gets used to making its own.
func demoToken(name string) string {
	if name == "" {
		return ""
	}
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

// listObjectVersions has one version of each object, which S3 calls null where
// a bucket never had versions. So the marker of a version says nothing.
func (s *demoServer) listObjectVersions(w http.ResponseWriter, q *demoRequest) error {
	p, err := q.page("key-marker", "max-keys")
	if err != nil {
		return err
	}
	if p.after == "" && q.query.Get("version-id-marker") != "" {
		return demoInvalidArgument("A version-id marker cannot be specified without a key marker.")
	}
	objects := q.bucket.list(p)
	x := p.begin("ListVersionsResult", "Name", q.bucketName, "MaxKeys")
	x.fields("KeyMarker", p.name(p.after), "VersionIdMarker", q.query.Get("version-id-marker"))
	if p.next != "" {
		x.fields("NextKeyMarker", p.name(p.next), "NextVersionIdMarker", "null")
	}
	for _, o := range objects {
		x.object("Version", o, p, true, "VersionId", "null", "IsLatest", "true")
	}
	return x.send(w, q, http.StatusOK)
}

// A demoXML is an XML document being written. encoding/xml would turn control
// characters into U+FFFD.
type demoXML struct {
	b    strings.Builder
	open []string // elements begun and not ended
}

func newDemoXML(root string) *demoXML {
	x := &demoXML{}
	x.begin(root, demoNamespace)
	return x
}

func (x *demoXML) begin(name string, attributes ...string) {
	x.open = append(x.open, name)
	x.b.WriteString("<" + strings.Join(append([]string{name}, attributes...), " ") + ">")
}

func (x *demoXML) end() {
	last := len(x.open) - 1
	x.b.WriteString("</" + x.open[last] + ">")
	x.open = x.open[:last]
}

// fields writes elements, each a name and a text.
func (x *demoXML) fields(pairs ...string) {
	for pair := range slices.Chunk(pairs, 2) {
		x.begin(pair[0])
		x.text(pair[1])
		x.end()
	}
}

// optional is fields without those that have no text.
func (x *demoXML) optional(pairs ...string) {
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			x.fields(pair...)
		}
	}
}

// group writes an element of fields.
func (x *demoXML) group(name string, pairs ...string) {
	x.begin(name)
	x.fields(pairs...)
	x.end()
}

// object writes an object of a list.
func (x *demoXML) object(element string, o *demoObject, p *demoPage, owner bool, more ...string) {
	x.begin(element)
	x.fields(more...)
	x.fields("Key", p.name(o.Key), "LastModified", o.Modified.Format(demoTimeFormat), "ETag", o.ETag,
		"Size", strconv.FormatInt(o.Size, 10), "StorageClass", o.StorageClass)
	x.algorithm(o)
	if owner {
		x.owner("Owner")
	}
	x.end()
}

// algorithm and checksum write how an object is summed, and the sum.
func (x *demoXML) algorithm(o *demoObject) {
	if o.Algorithm != "" {
		x.fields("ChecksumAlgorithm", o.Algorithm, "ChecksumType", o.checksumType())
	}
}

func (x *demoXML) checksum(o *demoObject) {
	if o.Algorithm != "" {
		x.fields("Checksum"+o.Algorithm, o.Sum, "ChecksumType", o.checksumType())
	}
}

func (x *demoXML) owner(element string) {
	x.group(element, "ID", demoOwner, "DisplayName", demoOwner)
}

// text writes character data. What XML 1.0 section 2.2 can't hold becomes a
// numeric reference, as with S3. Most parsers refuse that, which is honest:
// the way to list such keys is encoding-type=url. Tab, line feed and carriage
// return could be held, but a parser would change the last.
func (x *demoXML) text(s string) {
	for _, r := range demoEntities.Replace(s) { // utf8.RuneError for what is no UTF-8, in a prefix
		if r < ' ' || r == 0xFFFE || r == 0xFFFF {
			fmt.Fprintf(&x.b, "&#x%x;", r)
		} else {
			x.b.WriteRune(r)
		}
	}
}

var demoEntities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// send ends the document and sends it; after a HEAD, the headers alone.
func (x *demoXML) send(w http.ResponseWriter, q *demoRequest, status int) error {
	for len(x.open) > 0 {
		x.end()
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if q.Method != http.MethodHead {
		fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n", x.b.String())
	}
	return nil
}
