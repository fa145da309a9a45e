package main

// S3's documents as types: the errors and lists that the gateway writes, and the results
// of a backend that it passes on. A type is the whole schema. What is not a field of it
// reaches no client: xml_answers.go derives from the type what of a backend's document
// is passed on.
//
// encoding/xml renders the documents, but not the entries of lists. It takes 2.5 µs for
// an entry, as long as a page of 1,000 takes otherwise for 10 of them, and it writes a
// control character in a key as U+FFFD, which is another key. So the entries are written
// by an answerWriter between the two parts of openDocument, and an xmlText is written
// as it is.

import (
	"bytes"
	"encoding/xml"
	"io"
)

const (
	xmlHeader   = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

	maxErrorDocument = 64 << 10 // bytes; S3's errors have less than 2 KiB
)

// A tag "is" says what the gateway writes for an element, where that is not what the
// backend wrote: an elementKind of xml_answers.go, or "request" for what repeats a
// parameter of the request. One that ends in "!" is needed: without it the answer says
// nothing. A name that ends in "*" stands for all names that begin so.

// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
type errorDocument struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Condition string `xml:",omitempty"`
	Resource  string
	RequestID string `xml:"RequestId"`
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
type listAllMyBucketsResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner   ownerEntry
	Buckets struct {
		Bucket []bucketEntry
	}
	ContinuationToken string   `xml:",omitempty"`
	Prefix            *xmlText // nil: not asked for
}

type bucketEntry struct{ Name, CreationDate string }

type ownerEntry struct{ ID, DisplayName string }

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

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
type listBucketV2Result struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string   `is:"bucket"`
	Prefix                xmlText  `is:"request"`
	StartAfter            *xmlText `is:"request"`
	ContinuationToken     *xmlText `is:"request"`
	NextContinuationToken *xmlText
	KeyCount              int `is:"request"` // the gateway counts
	MaxKeys               *xmlText
	Delimiter             *xmlText `is:"request"`
	IsTruncated           xmlText  `is:"!"`
	EncodingType          string   `xml:",omitempty" is:"request"`
	Contents              []objectEntry
	CommonPrefixes        []prefixEntry
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
type objectEntry struct {
	Key, LastModified, ETag, Size, StorageClass string

	Checksum      string     `xml:"Checksum*"`
	Owner         ownerEntry `is:"owner"`
	RestoreStatus restoreStatus
}

type prefixEntry struct{ Prefix string }

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreStatus.html
type restoreStatus struct{ IsRestoreInProgress, RestoreExpiryDate string }

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

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ObjectVersion.html
type versionEntry struct {
	Key       string
	VersionID string `xml:"VersionId"`

	IsLatest, LastModified, ETag, Size, StorageClass string

	Checksum      string     `xml:"Checksum*"`
	Owner         ownerEntry `is:"owner"`
	RestoreStatus restoreStatus
}

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

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_MultipartUpload.html
type uploadEntry struct {
	Key      string
	UploadID string `xml:"UploadId"`

	Initiator    ownerEntry `is:"owner"`
	Owner        ownerEntry `is:"owner"`
	StorageClass string
	Initiated    string
	Checksum     string `xml:"Checksum*"`
}

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
	Checksum     string `xml:"Checksum*"`
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Part.html
type partEntry struct {
	PartNumber, LastModified, ETag, Size string

	Checksum string `xml:"Checksum*"`
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
type initiateMultipartUploadResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
	Bucket   string   `is:"bucket"`
	Key      string   `is:"key"`
	UploadID string   `xml:"UploadId" is:"!"`
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
type completeMultipartUploadResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
	Location string   `is:"url"`
	Bucket   string   `is:"bucket"`
	Key      string   `is:"key"`
	ETag     string   `is:"!"`
	Checksum string   `xml:"Checksum*"`
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
type copyObjectResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
	LastModified string
	ETag         string  `is:"!"`
	Checksum     *string `xml:"Checksum*"` // nil where the gateway itself copies
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
type copyPartResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyPartResult"`
	LastModified string
	ETag         string  `is:"!"`
	Checksum     *string `xml:"Checksum*"` // nil where the gateway itself copies
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
type deleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []deletedEntry
	Error   []errorEntry `is:"failure"`
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeletedObject.html
type deletedEntry struct {
	Key                   string
	VersionID             string `xml:"VersionId"`
	DeleteMarker          string
	DeleteMarkerVersionID string `xml:"DeleteMarkerVersionId"`
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Error.html
type errorEntry struct {
	Key       string
	VersionID string `xml:"VersionId"`
	Code      string
	Message   string
}

// An xmlText is character data that is written as it is: see appendText.
type xmlText struct {
	Raw []byte `xml:",innerxml"`
}

// textOf returns a text to be written.
func textOf(s string) xmlText { return xmlText{appendText(nil, s)} }

// marshalDocument renders a document from its root element on.
func marshalDocument(document any) []byte {
	b, err := xml.Marshal(document)
	if err != nil {
		panic(err) // a struct of this file
	}
	return b
}

// openDocument renders a document that has no entries yet, in two parts between which
// they belong: from the root element on, and its end tag.
func openDocument(document any) (start, end []byte) {
	b := marshalDocument(document)
	i := bytes.LastIndex(b, []byte("</"))
	return b[:i:i], b[i:]
}

// errorXML renders an error from its root element on.
func errorXML(e *apiError, resource, id string) []byte {
	return marshalDocument(errorDocument{Code: e.Code, Message: e.Message, Condition: e.condition, Resource: resource, RequestID: id})
}

// parseDocument reads a document with the given root element, or any if that is
// empty. An answer that was cut, is not XML, or is larger or deeper than a list
// has a reason to be, is an error. What follows the document is not looked at.
func parseDocument(r io.Reader, root string) (element, error) {
	return newScanner(r).document(root)
}
