package main

// The demo's lists of objects, and how names and times are written in documents.
// This file knows nothing of bodies and files.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const demoMaxKeys = 1000 // entries of a page

// demoXMLName is the name of a document's root.
func demoXMLName(root string) xml.Name {
	return xml.Name{Space: "http://s3.amazonaws.com/doc/2006-03-01/", Local: root}
}

func demoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// A demoText is text that may hold any character. What XML 1.0 section 2.2
// can't hold becomes a numeric reference, as with S3, where encoding/xml writes
// U+FFFD. Most parsers refuse it, which is honest: the way to list such keys is
// encoding-type=url.
type demoText string

func (t demoText) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	var b bytes.Buffer
	for _, r := range t { // utf8.RuneError for what is not UTF-8, in a prefix
		if r < ' ' || r == 0xFFFE || r == 0xFFFF {
			fmt.Fprintf(&b, "&#x%x;", r)
		} else {
			xml.EscapeText(&b, []byte(string(r)))
		}
	}
	return e.EncodeElement(struct {
		Text string `xml:",innerxml"`
	}{b.String()}, start)
}

// getBucketLocation answers nothing for us-east-1, which had no name when the
// operation was made.
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

	found  []int    // indices of the keys on the page
	groups []string // the common prefixes on it
	next   string   // the last of either, if there are more; otherwise ""
}

// page reads a list's parameters. The limit has another name in each list.
func (q *demoRequest) page(limit string) (*demoPage, error) {
	p := &demoPage{prefix: q.query.Get("prefix"), delimiter: q.query.Get("delimiter"), max: demoMaxKeys, encoding: q.query.Get("encoding-type")}
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

// fill finds what of the sorted keys is on the page. A page that ended with a
// common prefix continues after all of its keys; a start inside of one, which
// only a client can ask for, lists the prefix again. Of the keys with a common
// prefix it looks at the first only.
func (p *demoPage) fill(keys []string) {
	i, _ := slices.BinarySearch(keys, max(p.prefix, p.after))
	for end := i; i < len(keys) && strings.HasPrefix(keys[i], p.prefix); i = end {
		end = i + 1
		if keys[i] == p.after {
			continue
		}
		group := p.commonPrefix(keys[i])
		if group != "" {
			end = i + sort.Search(len(keys)-i, func(n int) bool { return !strings.HasPrefix(keys[i+n], group) })
		}
		switch {
		case group != "" && group == p.after:
			continue
		case len(p.found)+len(p.groups) == p.max:
			return // a page of none is never truncated: p.next is empty
		case group != "":
			p.groups = append(p.groups, group)
		default:
			p.found = append(p.found, i)
		}
		p.next = cmp.Or(group, keys[i])
	}
	p.next = ""
}

// commonPrefix returns the beginning of a key up to the first delimiter after
// the prefix, delimiter included; "" if there is none.
func (p *demoPage) commonPrefix(key string) string {
	before, _, found := strings.Cut(key[len(p.prefix):], p.delimiter)
	if !found || p.delimiter == "" {
		return ""
	}
	return p.prefix + before + p.delimiter
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
// forms, except for the slash.
func (p *demoPage) name(s string) demoText {
	if p.encoding == "url" {
		s = strings.ReplaceAll(url.QueryEscape(s), "%2F", "/")
	}
	return demoText(s)
}

// A demoList is a ListBucketResult. The fields with pointers are in one version
// of the operation only.
type demoList struct {
	XMLName               xml.Name
	Name                  string
	Prefix                demoText
	Marker                *demoText
	NextMarker            demoText `xml:",omitempty"` // only with a delimiter: otherwise it is the last key
	StartAfter            demoText `xml:",omitempty"`
	ContinuationToken     string   `xml:",omitempty"`
	NextContinuationToken string   `xml:",omitempty"`
	KeyCount              *int
	MaxKeys               int
	Delimiter             demoText `xml:",omitempty"`
	EncodingType          string   `xml:",omitempty"`
	IsTruncated           bool
	Contents              []demoListEntry
	CommonPrefixes        []demoCommonPrefix
}

type demoListEntry struct {
	Key          demoText
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
	Owner        *demoOwner
}

type demoOwner struct{ ID, DisplayName string }

type demoCommonPrefix struct{ Prefix demoText }

// listObjects is both versions of the operation. Tokens are never encoded.
func (s *demoServer) listObjects(w http.ResponseWriter, q *demoRequest) error {
	version := cmp.Or(q.query.Get("list-type"), "1")
	p, err := q.page("max-keys")
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
	result := p.document(q.bucketName, q.bucket.list(p), version == "1" || q.query.Get("fetch-owner") == "true")
	if marker := p.name(p.after); version == "1" {
		result.Marker = &marker
		if p.delimiter != "" {
			result.NextMarker = p.name(p.next)
		}
	} else {
		count := len(p.found) + len(p.groups)
		result.KeyCount, result.StartAfter = &count, p.name(q.query.Get("start-after"))
		result.ContinuationToken, result.NextContinuationToken = token, base64.URLEncoding.EncodeToString([]byte(p.next))
	}
	return q.writeXML(w, http.StatusOK, result)
}

// document returns the page as a document of the bucket named.
func (p *demoPage) document(name string, objects []*demoObject, withOwner bool) *demoList {
	result := &demoList{XMLName: demoXMLName("ListBucketResult"), Name: name, Prefix: p.name(p.prefix), MaxKeys: p.max,
		Delimiter: p.name(p.delimiter), EncodingType: p.encoding, IsTruncated: p.next != ""}
	for _, o := range objects {
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
