package main

// S3's documents as types: the errors and lists that the gateway writes, and the results
// of a backend that it passes on. It knows the schemas, not who asks for a document.
//
// A type is the whole schema. xml_answers.go derives from it what is passed on of a
// backend's document, so an element without a field reaches no client. Configurations of
// buckets and objects have no types: the gateway does not use what is in them, and
// xml_answers.go lists their elements.
//
// encoding/xml renders everything except the entries of lists, for two reasons. It takes
// 2.5 µs for an entry, and an answerWriter takes 0.25 µs; a page has 1,000. And it writes
// a control character in a key as U+FFFD, which makes it another key. So an answerWriter
// writes the entries between the two parts that openDocument returns, and texts of the
// client or the backend are of type xmlText, which is escaped by appendText.

import (
	"bytes"
	"encoding/xml"
)

//lint:file-ignore U1000 some fields are read by reflection only: see knownFields

const (
	xmlHeader   = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
)

// The fields of these types have two tags. Besides that of encoding/xml, the tag "is" says
// what the gateway writes for an element if that is not what the backend wrote:
//
//	is = [ kind | "request" ] [ "!" ]
//
// A kind is a key of elementKinds. The kind "request" marks what the gateway itself puts
// there: a parameter of the request, or the number of keys. "!" marks what an answer
// must have: without it, the answer says nothing.

// An errorDocument is the body of an error.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
type errorDocument struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Condition string `xml:",omitempty"`
	Resource  string // with U+FFFD for control characters of a key, so that parsers read it
	RequestID string `xml:"RequestId"`
}

// A listAllMyBucketsResult is the answer to ListBuckets.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
type listAllMyBucketsResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner   ownerEntry
	Buckets struct {
		Bucket []bucketEntry
	}
	ContinuationToken string   `xml:",omitempty"`
	Prefix            *xmlText // nil if the request has none
}

// A bucketEntry is a bucket in a listAllMyBucketsResult.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Bucket.html
type bucketEntry struct{ Name, CreationDate string }

// An ownerEntry is who owns a bucket or an object, or began an upload.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Owner.html
type ownerEntry struct{ ID, DisplayName string }

// A listBucketResult is the answer to ListObjects, version 1.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html
type listBucketResult struct {
	XMLName        xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name           string   `is:"bucket"`
	Prefix         xmlText  `is:"request"`
	Marker         xmlText  `is:"request"`
	Delimiter      *xmlText `is:"request"`
	MaxKeys        *xmlText
	IsTruncated    xmlText `is:"!"`
	EncodingType   string  `xml:",omitempty" is:"request"`
	NextMarker     *xmlText
	Contents       []objectEntry
	CommonPrefixes []prefixEntry
}

// A listBucketV2Result is the answer to ListObjectsV2, under the same name.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
type listBucketV2Result struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string   `is:"bucket"`
	Prefix                xmlText  `is:"request"`
	StartAfter            *xmlText `is:"request"`
	ContinuationToken     *xmlText `is:"request"`
	NextContinuationToken *xmlText
	KeyCount              int `is:"request"` // counted by the gateway
	MaxKeys               *xmlText
	Delimiter             *xmlText `is:"request"`
	IsTruncated           xmlText  `is:"!"`
	EncodingType          string   `xml:",omitempty" is:"request"`
	Contents              []objectEntry
	CommonPrefixes        []prefixEntry
}

// An objectEntry is an object in a list.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
type objectEntry struct {
	Key, LastModified, ETag, Size, StorageClass string

	checksumElements
	Owner         ownerEntry `is:"owner"`
	RestoreStatus restoreStatus
}

// checksumElements stands for all elements of a backend whose names begin with "Checksum", such
// as ChecksumCRC32 and ChecksumType. There is no closed list of them. The gateway makes
// none itself.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Checksum.html
type checksumElements struct{}

// A prefixEntry is a common prefix of keys: what they have before the delimiter.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CommonPrefix.html
type prefixEntry struct{ Prefix string }

// A restoreStatus says whether an archived object is being restored.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreStatus.html
type restoreStatus struct{ IsRestoreInProgress, RestoreExpiryDate string }

// A listVersionsResult is the answer to ListObjectVersions.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
type listVersionsResult struct {
	XMLName             xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
	Name                string   `is:"bucket"`
	Prefix              xmlText  `is:"request"`
	KeyMarker           xmlText  `is:"request"`
	VersionIDMarker     xmlText  `xml:"VersionIdMarker" is:"request"`
	NextKeyMarker       *xmlText
	NextVersionIDMarker *xmlText `xml:"NextVersionIdMarker"`
	MaxKeys             *xmlText
	Delimiter           *xmlText `is:"request"`
	IsTruncated         xmlText  `is:"!"`
	EncodingType        string   `xml:",omitempty" is:"request"`
	Version             []versionEntry
	DeleteMarker        []versionEntry
	CommonPrefixes      []prefixEntry
}

// A versionEntry is a version of an object, or a delete marker, which has less.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ObjectVersion.html
type versionEntry struct {
	Key       string
	VersionID string `xml:"VersionId"`

	IsLatest, LastModified, ETag, Size, StorageClass string

	checksumElements
	Owner         ownerEntry `is:"owner"`
	RestoreStatus restoreStatus
}

// A listMultipartUploadsResult is the answer to ListMultipartUploads.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
type listMultipartUploadsResult struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string   `is:"bucket"`
	KeyMarker          xmlText  `is:"request"`
	UploadIDMarker     xmlText  `xml:"UploadIdMarker" is:"request"`
	NextKeyMarker      *xmlText
	NextUploadIDMarker *xmlText `xml:"NextUploadIdMarker"`
	Prefix             xmlText  `is:"request"`
	Delimiter          *xmlText `is:"request"`
	MaxUploads         *xmlText
	IsTruncated        xmlText `is:"!"`
	EncodingType       string  `xml:",omitempty" is:"request"`
	Upload             []uploadEntry
	CommonPrefixes     []prefixEntry
}

// An uploadEntry is an upload that is not complete.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_MultipartUpload.html
type uploadEntry struct {
	Key      string
	UploadID string `xml:"UploadId"`

	Initiator    ownerEntry `is:"owner"`
	Owner        ownerEntry `is:"owner"`
	StorageClass string
	Initiated    string
	checksumElements
}

// A listPartsResult is the answer to ListParts.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
type listPartsResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
	Bucket   string   `is:"bucket"`
	Key      string   `is:"key"`
	UploadID string   `xml:"UploadId"`

	PartNumberMarker, NextPartNumberMarker, MaxParts string

	IsTruncated  string `is:"!"`
	Part         []partEntry
	Initiator    ownerEntry `is:"owner"`
	Owner        ownerEntry `is:"owner"`
	StorageClass string
	checksumElements
}

// A partEntry is a part of an upload.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Part.html
type partEntry struct {
	PartNumber, LastModified, ETag, Size string

	checksumElements
}

// An initiateMultipartUploadResult is the answer to CreateMultipartUpload.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
type initiateMultipartUploadResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
	Bucket   string   `is:"bucket"`
	Key      string   `is:"key"`
	UploadID string   `xml:"UploadId" is:"!"`
}

// A completeMultipartUploadResult is the answer to CompleteMultipartUpload.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
type completeMultipartUploadResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
	Location string   `is:"url"`
	Bucket   string   `is:"bucket"`
	Key      string   `is:"key"`
	ETag     string   `is:"!"`
	checksumElements
}

// A copyObjectResult is the answer to CopyObject.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
type copyObjectResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
	LastModified string
	ETag         string `is:"!"`
	checksumElements
}

// A copyPartResult is the answer to UploadPartCopy.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
type copyPartResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyPartResult"`
	LastModified string
	ETag         string `is:"!"`
	checksumElements
}

// A deleteResult is the answer to DeleteObjects.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
type deleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []deletedEntry
	Error   []errorEntry `is:"failure"`
}

// A deletedEntry is a key that was deleted.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeletedObject.html
type deletedEntry struct {
	Key                   string
	VersionID             string `xml:"VersionId"`
	DeleteMarker          string
	DeleteMarkerVersionID string `xml:"DeleteMarkerVersionId"`
}

// An errorEntry is a key that was not deleted.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Error.html
type errorEntry struct {
	Key       string
	VersionID string `xml:"VersionId"`
	Code      string
	Message   string
}

// An xmlText is text that is escaped already, by appendText or by encoding-type=url.
type xmlText struct {
	Raw []byte `xml:",innerxml"`
}

// textOf returns a text, escaped.
func textOf(s string) xmlText { return xmlText{appendText(nil, s)} }

// marshalDocument renders a document from its root element on.
func marshalDocument(document any) []byte {
	b, err := xml.Marshal(document)
	if err != nil {
		panic(err) // the types of this file can be marshaled
	}
	return b
}

// openDocument renders a document whose entries are written by an answerWriter. It
// returns what comes before them, from the root element on, and what comes after them,
// which is its end tag.
func openDocument(document any) (start, end []byte) {
	b := marshalDocument(document)
	i := bytes.LastIndex(b, []byte("</"))
	return b[:i:i], b[i:]
}

// errorXML renders an error from its root element on.
func errorXML(e *apiError, resource, id string) []byte {
	return marshalDocument(errorDocument{Code: e.Code, Message: e.Message, Condition: e.condition, Resource: resource, RequestID: id})
}
