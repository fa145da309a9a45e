package main

// The demo's operations on what is known of an object or a bucket besides the
// bytes: tags, attributes, access, versioning, where it is.

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

type demoTag struct{ Key, Value string }

// demoTagText is what a tag may hold, in up to 128 characters of a key and 256
// of a value.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
var demoTagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

func demoCheckTags(tags []demoTag) error {
	if len(tags) > 10 {
		return &demoError{400, "BadRequest", "Object tags cannot be greater than 10"}
	}
	seen := map[string]bool{}
	for _, tag := range tags {
		if n := utf8.RuneCountInString(tag.Key); n == 0 || n > 128 || utf8.RuneCountInString(tag.Value) > 256 ||
			seen[tag.Key] || !demoTagText.MatchString(tag.Key+tag.Value) {
			return &demoError{400, "InvalidTag", "The tag " + strconv.Quote(tag.Key) + " is not valid, or there twice"}
		}
		seen[tag.Key] = true
	}
	return nil
}

// demoParseTags reads the header x-amz-tagging, a=1&b=2.
func demoParseTags(header string) (tags []demoTag, err error) {
	query, err := url.ParseQuery(header)
	if err != nil {
		return nil, demoInvalidArgument("The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
	}
	for key, values := range query {
		for _, value := range values {
			tags = append(tags, demoTag{key, value})
		}
	}
	slices.SortFunc(tags, func(a, b demoTag) int { return cmp.Compare(a.Key, b.Key) })
	return tags, demoCheckTags(tags)
}

func (s *demoServer) getObjectTagging(w http.ResponseWriter, q *demoRequest) error {
	o, err := q.bucket.get(q.key)
	if err != nil {
		return err
	}
	x := newDemoXML("Tagging")
	x.begin("TagSet")
	for _, tag := range o.Tags {
		x.group("Tag", "Key", tag.Key, "Value", tag.Value)
	}
	return x.send(w, q, http.StatusOK)
}

func (s *demoServer) putObjectTagging(w http.ResponseWriter, q *demoRequest) error {
	var doc struct {
		XMLName struct{}  `xml:"Tagging"`
		Tags    []demoTag `xml:"TagSet>Tag"`
	}
	if err := q.document(&doc, true); err != nil {
		return err
	}
	if err := demoCheckTags(doc.Tags); err != nil {
		return err
	}
	return q.bucket.tag(q.key, doc.Tags)
}

func (s *demoServer) deleteObjectTagging(w http.ResponseWriter, q *demoRequest) error {
	return q.bucket.tag(q.key, nil)
}

// tag gives an object other tags, and the bytes of the old one.
func (f *demoFolder) tag(key string, tags []demoTag) error {
	return f.replace(key, func(old *demoObject) (*demoObject, error) {
		if old == nil {
			return nil, errDemoNoSuchKey
		}
		o := *old
		o.Tags = tags
		return &o, nil
	})
}

// getObjectAttributes has the ETag without quotes, as S3.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html
func (s *demoServer) getObjectAttributes(w http.ResponseWriter, q *demoRequest) error {
	o, err := q.bucket.get(q.key)
	if err != nil {
		return err
	}
	x := newDemoXML("GetObjectAttributesResponse")
	for name := range strings.SplitSeq(strings.Join(q.Header.Values("X-Amz-Object-Attributes"), ","), ",") {
		switch strings.TrimSpace(name) {
		case "ETag":
			x.fields("ETag", strings.Trim(o.ETag, `"`))
		case "Checksum":
			x.begin("Checksum")
			x.checksum(o)
			x.end()
		case "ObjectParts":
			if _, parts, ok := strings.Cut(strings.Trim(o.ETag, `"`), "-"); ok {
				x.group("ObjectParts", "PartsCount", parts)
			}
		case "StorageClass":
			x.fields("StorageClass", o.StorageClass)
		case "ObjectSize":
			x.fields("ObjectSize", strconv.FormatInt(o.Size, 10))
		default:
			return demoInvalidArgument("Invalid attribute name specified.")
		}
	}
	w.Header().Set("Last-Modified", o.Modified.Format(http.TimeFormat))
	return x.send(w, q, http.StatusOK)
}

// getACL is of a bucket or an object: all is the owner's.
func (s *demoServer) getACL(w http.ResponseWriter, q *demoRequest) error {
	if q.key != "" {
		if _, err := q.bucket.get(q.key); err != nil {
			return err
		}
	}
	x := newDemoXML("AccessControlPolicy")
	x.owner("Owner")
	x.begin("AccessControlList")
	x.begin("Grant")
	x.begin("Grantee", `xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`, `xsi:type="CanonicalUser"`)
	x.fields("ID", demoOwner, "DisplayName", demoOwner)
	x.end()
	x.fields("Permission", "FULL_CONTROL")
	return x.send(w, q, http.StatusOK)
}

// getBucketVersioning answers nothing for a bucket that never had versions.
func (s *demoServer) getBucketVersioning(w http.ResponseWriter, q *demoRequest) error {
	return newDemoXML("VersioningConfiguration").send(w, q, http.StatusOK)
}

// getBucketLocation answers nothing for us-east-1, which had no name when the
// operation was made.
func (s *demoServer) getBucketLocation(w http.ResponseWriter, q *demoRequest) error {
	x := newDemoXML("LocationConstraint")
	if s.region != "us-east-1" {
		x.text(s.region)
	}
	return x.send(w, q, http.StatusOK)
}

func (s *demoServer) headBucket(w http.ResponseWriter, q *demoRequest) error {
	w.Header().Set("x-amz-bucket-region", cmp.Or(s.region, "us-east-1"))
	return nil
}
