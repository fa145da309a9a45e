package main

// The demo's multipart uploads: one object in up to 10,000 parts, which may arrive in any order
// and more than once. It knows nothing of signatures and files.
//
// Checksums of checksums (COMPOSITE) and pages of ListParts are not implemented.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

const demoMaxParts = 10000 // of an upload

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
func (s *demoServer) createMultipartUpload(w http.ResponseWriter, q *demoRequest) error {
	if _, err := q.writePayload(io.Discard); err != nil {
		return err
	}
	id := rand.Text()
	if err := q.bucket.addUpload(id, newDemoObject(q.key, q.Header)); err != nil {
		return err
	}
	return q.writeXML(w, http.StatusOK, struct {
		XMLName               xml.Name
		Bucket, Key, UploadId string
	}{demoXMLName("InitiateMultipartUploadResult"), q.bucketName, q.key, id})
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
func (s *demoServer) uploadPart(w http.ResponseWriter, q *demoRequest) error {
	o, err := q.newPart()
	if err != nil {
		return err
	}
	return s.putBody(w, q, q.upload.demoFolder, o)
}

func (q *demoRequest) newPart() (*demoObject, error) {
	number, err := strconv.Atoi(q.query.Get("partNumber"))
	if err != nil || number < 1 || number > demoMaxParts {
		return nil, demoInvalidArgument("Part number must be an integer between 1 and 10000, inclusive")
	}
	return &demoObject{Key: demoPartKey(number), Header: map[string][]byte{}}, nil
}

// uploadPartCopy copies all of the source, or its range bytes=first-last, of which no byte may be
// missing.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
func (s *demoServer) uploadPartCopy(w http.ResponseWriter, q *demoRequest) error {
	o, err := q.newPart()
	if err != nil {
		return err
	}
	source, f, err := s.openSource(q)
	if err != nil {
		return err
	}
	defer f.Close()
	spec := q.Header.Get("X-Amz-Copy-Source-Range")
	first, length, _ := source.rangeOf(spec)
	if spec != "" && spec != fmt.Sprintf("bytes=%d-%d", first, first+length-1) {
		return demoInvalidArgument("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	}
	return s.putCopy(w, q, q.upload.demoFolder, o, io.NewSectionReader(f, first, length), "CopyPartResult")
}

// demoPartKey returns the key of a part, which sorts as its number does.
func demoPartKey(number int) string { return fmt.Sprintf("%05d", number) }

type demoPartList struct {
	XMLName               xml.Name
	Bucket, Key, UploadId string
	MaxParts              int
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	Part                  []demoPartEntry
}

type demoPartEntry struct {
	PartNumber, LastModified, ETag string
	Size                           int64
}

// listParts lists all parts on one page, where S3 has 1000.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
func (s *demoServer) listParts(w http.ResponseWriter, q *demoRequest) error {
	p := &demoPage{max: demoMaxParts, encoding: q.query.Get("encoding-type")}
	q.upload.list(p)
	result := &demoPartList{XMLName: demoXMLName("ListPartsResult"), Bucket: q.bucketName, Key: p.name(q.key), UploadId: q.upload.id,
		MaxParts: p.max, EncodingType: p.encoding}
	for _, o := range p.objects {
		result.Part = append(result.Part, demoPartEntry{strings.TrimLeft(o.Key, "0"), demoTime(o.Modified), o.ETag, o.Size})
	}
	return q.writeXML(w, http.StatusOK, result)
}

type demoComplete struct {
	XMLName struct{} `xml:"CompleteMultipartUpload"`
	Part    []demoPart
}

type demoPart struct {
	PartNumber int
	ETag       string
}

// completeMultipartUpload stores the parts named, one after another, as one object.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
func (s *demoServer) completeMultipartUpload(w http.ResponseWriter, q *demoRequest) error {
	u := q.upload
	var doc demoComplete
	if err := q.document(&doc, nil); err != nil {
		return err
	}
	parts, err := u.choose(doc.Part, s.minPart)
	if err != nil {
		return err
	}
	var size int64
	for _, part := range parts {
		size += part.Size
	}
	if want := q.Header.Get("X-Amz-Mp-Object-Size"); want != "" && want != strconv.FormatInt(size, 10) {
		return demoInvalidRequest("The provided 'x-amz-mp-object-size' header does not match what was computed.")
	}
	o := *u.object
	o.Header, o.ETag = maps.Clone(o.Header), demoPartsETag(parts) // put adds a checksum
	digests := q.Header.Clone()
	digests.Del("Content-Md5") // of the document
	fill := func(w io.Writer) (int64, error) { return u.join(w, parts) }
	if err := s.put(q.bucket.demoFolder, &o, fill, digests, q.Header); err != nil {
		return err
	}
	if err := q.bucket.removeUpload(u); err != nil {
		return err
	}
	return q.writeXML(w, http.StatusOK, struct {
		XMLName                     xml.Name
		Location, Bucket, Key, ETag string
	}{demoXMLName("CompleteMultipartUploadResult"), "http://" + q.Host + q.URL.EscapedPath(), q.bucketName, q.key, o.ETag})
}

var errDemoInvalidPart = newDemoError(400, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.")

// choose returns the parts that were named. Each but the last must have at least minPart bytes.
func (u *demoUpload) choose(named []demoPart, minPart int64) (parts []*demoObject, err error) {
	if len(named) == 0 {
		return nil, errDemoMalformedXML
	}
	for i, part := range named {
		o := u.get(demoPartKey(part.PartNumber))
		switch {
		case i > 0 && part.PartNumber <= named[i-1].PartNumber:
			return nil, newDemoError(400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number.")
		case o == nil || strings.Trim(part.ETag, `"`) != strings.Trim(o.ETag, `"`):
			return nil, errDemoInvalidPart
		case i < len(named)-1 && o.Size < minPart:
			return nil, newDemoError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
		}
		parts = append(parts, o)
	}
	return parts, nil
}

// demoPartsETag returns the MD5 of the parts' MD5s, with their number.
func demoPartsETag(parts []*demoObject) string {
	sum := md5.New()
	for _, part := range parts {
		one, _ := hex.DecodeString(strings.Trim(part.ETag, `"`))
		sum.Write(one)
	}
	return fmt.Sprintf(`"%x-%d"`, sum.Sum(nil), len(parts))
}

// join writes the bytes of parts. A part that was replaced after it was chosen is not the one
// that the client meant.
func (u *demoUpload) join(w io.Writer, parts []*demoObject) (n int64, err error) {
	for _, part := range parts {
		o, f, err := u.open(part.Key)
		if err != nil {
			return n, err
		}
		m, err := f.WriteTo(w)
		f.Close()
		if n += m; err != nil {
			return n, err
		}
		if o != part {
			return n, errDemoInvalidPart
		}
	}
	return n, nil
}

func (s *demoServer) abortMultipartUpload(w http.ResponseWriter, q *demoRequest) error {
	if err := q.bucket.removeUpload(q.upload); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
