package main

// The demo's operations on a bucket: lists of objects, and the deletion of many. It knows
// nothing of signatures and files.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html

import (
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const demoMaxKeys = 1000 // entries of a page

// demoXMLName returns the name of a document's root.
func demoXMLName(root string) xml.Name {
	return xml.Name{Space: "http://s3.amazonaws.com/doc/2006-03-01/", Local: root}
}

func demoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// getBucketLocation answers with an empty location, which is us-east-1: it had no name when
// S3 got the operation.
func (s *demoServer) getBucketLocation(w http.ResponseWriter, q *demoRequest) error {
	return q.writeXML(w, http.StatusOK, struct{ XMLName xml.Name }{demoXMLName("LocationConstraint")})
}

func (s *demoServer) headBucket(w http.ResponseWriter, q *demoRequest) error {
	w.Header().Set("x-amz-bucket-region", "us-east-1")
	return nil
}

// A demoPage is one page of a list: the request for it, and what is on it.
type demoPage struct {
	prefix, delimiter string
	after             string // a key, or a common prefix: the list begins after it
	max               int
	encoding          string // of names: url, or none

	objects []*demoObject
	groups  []string // the common prefixes
	next    string   // the last key or common prefix, if there are more; otherwise ""
}

// page reads the parameters that both versions of the list have.
func (q *demoRequest) page() (*demoPage, error) {
	p := &demoPage{prefix: q.query.Get("prefix"), delimiter: q.query.Get("delimiter"), max: demoMaxKeys, encoding: q.query.Get("encoding-type")}
	if text := q.query.Get("max-keys"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, demoInvalidArgument("Provided max-keys not an integer or within integer range")
		}
		p.max = int(min(n, demoMaxKeys))
	}
	if q.query.Has("encoding-type") && p.encoding != "url" {
		return nil, demoInvalidArgument("Invalid Encoding Method specified in Request")
	}
	return p, nil
}

// list fills a page. A page that ended with a common prefix continues after all of its keys. A
// page that begins inside of one, which only a client can ask for, lists the prefix again. A
// page of no entries is never truncated.
func (f *demoFolder) list(p *demoPage) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if p.max == 0 {
		return
	}
	last := p.after
	for _, key := range slices.Sorted(maps.Keys(f.objects)) {
		rest, ok := strings.CutPrefix(key, p.prefix)
		if !ok || key <= p.after {
			continue
		}
		name := key
		before, _, grouped := strings.Cut(rest, p.delimiter)
		if grouped = grouped && p.delimiter != ""; grouped {
			name = p.prefix + before + p.delimiter
		}
		switch {
		case grouped && name == last:
			continue
		case len(p.objects)+len(p.groups) == p.max:
			p.next = last
			return
		case grouped:
			p.groups = append(p.groups, name)
		default:
			p.objects = append(p.objects, f.objects[key])
		}
		last = name
	}
}

// name returns a name as the page has it. With encoding-type=url it is encoded as in an HTML
// form, except for the slash. Without, a character that XML can't hold becomes U+FFFD, as
// encoding/xml writes it; S3 writes a numeric reference, which most parsers refuse.
func (p *demoPage) name(s string) string {
	if p.encoding == "url" {
		return strings.ReplaceAll(url.QueryEscape(s), "%2F", "/")
	}
	return s
}

// A demoList is a ListBucketResult. Fields with pointers are in one version of the operation
// only.
type demoList struct {
	XMLName               xml.Name
	Name                  string
	Prefix                string
	Marker                *string
	NextMarker            string `xml:",omitempty"` // only with a delimiter: otherwise it is the last key
	StartAfter            string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              *int
	MaxKeys               int
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	Contents              []demoListEntry
	CommonPrefixes        []demoCommonPrefix
}

type demoListEntry struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
	Owner        *demoOwner
}

type demoOwner struct{ ID, DisplayName string }

type demoCommonPrefix struct{ Prefix string }

// listObjects is both versions of the operation. Tokens are never encoded.
func (s *demoServer) listObjects(w http.ResponseWriter, q *demoRequest) error {
	version := cmp.Or(q.query.Get("list-type"), "1")
	p, err := q.page()
	token := q.query.Get("continuation-token")
	switch {
	case err != nil:
		return err
	case version == "1":
		p.after = q.query.Get("marker")
	case version != "2":
		return demoInvalidArgument("Invalid List Type specified in Request")
	case q.query.Has("continuation-token"):
		after, err := base64.URLEncoding.DecodeString(token)
		if p.after = string(after); err != nil || p.after == "" {
			return demoInvalidArgument("The continuation token provided is incorrect")
		}
	default:
		p.after = q.query.Get("start-after")
	}
	q.bucket.list(p)
	result := p.document(q.bucketName, version == "1" || q.query.Get("fetch-owner") == "true")
	if marker := p.name(p.after); version == "1" {
		result.Marker = &marker
		if p.delimiter != "" {
			result.NextMarker = p.name(p.next)
		}
	} else {
		count := len(p.objects) + len(p.groups)
		result.KeyCount, result.StartAfter = &count, p.name(q.query.Get("start-after"))
		result.ContinuationToken, result.NextContinuationToken = token, base64.URLEncoding.EncodeToString([]byte(p.next))
	}
	return q.writeXML(w, http.StatusOK, result)
}

// document returns the page as a document of the bucket named.
func (p *demoPage) document(name string, withOwner bool) *demoList {
	result := &demoList{XMLName: demoXMLName("ListBucketResult"), Name: name, Prefix: p.name(p.prefix), MaxKeys: p.max,
		Delimiter: p.name(p.delimiter), EncodingType: p.encoding, IsTruncated: p.next != ""}
	for _, o := range p.objects {
		entry := demoListEntry{p.name(o.Key), demoTime(o.Modified), o.ETag, o.Size, "STANDARD", nil}
		if withOwner {
			entry.Owner = &demoOwner{"s3-proxy-demo", "s3-proxy-demo"}
		}
		result.Contents = append(result.Contents, entry)
	}
	for _, group := range p.groups {
		result.CommonPrefixes = append(result.CommonPrefixes, demoCommonPrefix{p.name(group)})
	}
	return result
}

type demoDelete struct {
	XMLName struct{} `xml:"Delete"`
	Quiet   bool
	Object  []struct {
		Key  string
		More []struct{} `xml:",any"` // a version, or a condition
	}
}

type demoDeleteResult struct {
	XMLName xml.Name
	Deleted []demoDeleted
}

type demoDeleted struct{ Key string }

// deleteObjects deletes all objects named, or none.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
func (s *demoServer) deleteObjects(w http.ResponseWriter, q *demoRequest) error {
	var doc demoDelete
	if err := q.document(&doc, q.Header); err != nil {
		return err
	}
	if len(doc.Object) == 0 || len(doc.Object) > demoMaxKeys {
		return errDemoMalformedXML
	}
	for _, o := range doc.Object {
		switch {
		case o.Key == "":
			return errDemoMalformedXML
		case o.More != nil:
			return errDemoNotImplemented
		}
	}
	result := demoDeleteResult{XMLName: demoXMLName("DeleteResult")}
	for _, o := range doc.Object {
		if err := q.bucket.remove(o.Key); err != nil {
			return err
		}
		if !doc.Quiet {
			result.Deleted = append(result.Deleted, demoDeleted{o.Key})
		}
	}
	return q.writeXML(w, http.StatusOK, result)
}
