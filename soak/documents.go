package main

// The documents of S3 that the backends write and the clients read.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

type initiated struct {
	XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
	Bucket   string
	Key      string
	UploadID string `xml:"UploadId"`
}

type completed struct {
	XMLName  xml.Name `xml:"CompleteMultipartUploadResult"`
	Location string
	Bucket   string
	Key      string
	ETag     string
}

type copied struct {
	XMLName      xml.Name
	LastModified string
	ETag         string
}

type keyEntry struct{ Key string }

type deleted struct {
	XMLName xml.Name `xml:"DeleteResult"`
	Deleted []keyEntry
}

type tag struct{ Key, Value string }

type tagging struct {
	XMLName xml.Name `xml:"Tagging"`
	Tags    []tag    `xml:"TagSet>Tag"`
}

// newTagging returns tags that are written as a query.
func newTagging(query string) *tagging {
	t := &tagging{}
	values, _ := url.ParseQuery(query)
	for key := range values {
		t.Tags = append(t.Tags, tag{key, values.Get(key)})
	}
	return t
}

type partEntry struct {
	PartNumber   int
	LastModified string
	ETag         string
	Size         int64
}

type partList struct {
	XMLName     xml.Name `xml:"ListPartsResult"`
	Bucket      string
	Key         string
	UploadID    string `xml:"UploadId"`
	MaxParts    int
	IsTruncated bool
	Part        []partEntry
}

type uploadEntry struct {
	Key       string
	UploadID  string `xml:"UploadId"`
	Initiated string
}

type uploadList struct {
	XMLName      xml.Name `xml:"ListMultipartUploadsResult"`
	Bucket       string
	Prefix       string
	EncodingType string `xml:",omitempty"`
	MaxUploads   int
	IsTruncated  bool
	Upload       []uploadEntry
}

type objectEntry struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
}

type objectList struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	Marker                string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	MaxKeys               int
	KeyCount              int
	IsTruncated           bool
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	NextMarker            string `xml:",omitempty"`
	Contents              []objectEntry
}

// list answers ListObjects and ListObjectsV2.
func (b *backend) list(c *call) *objectList {
	most, err := strconv.Atoi(c.query.Get("max-keys"))
	if err != nil || most > 1000 {
		most = 1000
	}
	encode := func(s string) string { return s }
	if c.query.Get("encoding-type") == "url" {
		encode = func(s string) string { return escape(s, "/") }
	}
	prefix := c.query.Get("prefix")
	after := max(c.query.Get("marker"), c.query.Get("start-after"), c.query.Get("continuation-token"))
	page := &objectList{Name: c.bucket, Prefix: encode(prefix), MaxKeys: most, EncodingType: c.query.Get("encoding-type"),
		Marker: encode(c.query.Get("marker")), ContinuationToken: c.query.Get("continuation-token")}
	for _, key := range b.keyList(c.bucket) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if page.KeyCount == most {
			page.IsTruncated = true
			break
		}
		v := b.current(c.bucket, key)
		if v == nil { // deleted meanwhile
			continue
		}
		page.KeyCount++
		page.Contents = append(page.Contents, objectEntry{encode(key), s3Time(v.from), `"` + v.etag + `"`, v.length, "STANDARD"})
		page.NextContinuationToken = key
	}
	if !page.IsTruncated {
		page.NextContinuationToken = ""
	} else if !c.has("list-type") {
		page.NextMarker, page.NextContinuationToken = encode(page.NextContinuationToken), ""
	}
	return page
}

// listUploads answers ListMultipartUploads.
func (b *backend) listUploads(c *call) *uploadList {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := &uploadList{Bucket: c.bucket, MaxUploads: 1000, EncodingType: c.query.Get("encoding-type")}
	for id, u := range b.uploads {
		if u.bucket == c.bucket && len(list.Upload) < 1000 {
			list.Upload = append(list.Upload, uploadEntry{escape(u.key, "/"), id, s3Time(time.Now())})
		}
	}
	slices.SortFunc(list.Upload, func(a, b uploadEntry) int {
		return strings.Compare(a.Key+"\x00"+a.UploadID, b.Key+"\x00"+b.UploadID)
	})
	return list
}

// partsETag returns the ETag that S3 gives to an object of parts: the MD5 of their MD5s.
func partsETag(sums []string) string {
	all := md5.New()
	for _, sum := range sums {
		data, _ := hex.DecodeString(sum)
		all.Write(data)
	}
	return fmt.Sprintf("%x-%d", all.Sum(nil), len(sums))
}

func s3Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// writeXML writes a document.
func writeXML(w io.Writer, doc any) error {
	io.WriteString(w, xml.Header)
	return xml.NewEncoder(w).Encode(doc)
}
