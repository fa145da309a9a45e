package main

import (
	"encoding/xml"
	"testing"
)

// An error document is what an XML parser reads, whatever is in it.
func TestErrorIsXMLWhateverIsInIt(t *testing.T) {
	e := &apiError{Status: 403, Code: "AccessDenied", Message: `a & b <c> "d"`}
	got := string(errorXML(e, "/photos/é ]]>", "ID"))
	want := `<Error><Code>AccessDenied</Code><Message>a &amp; b &lt;c&gt; &#34;d&#34;</Message><Resource>/photos/é ]]&gt;</Resource><RequestId>ID</RequestId></Error>`
	if got != want {
		t.Errorf("errorXML = %s, want %s", got, want)
	}
	var parsed struct{ Code, Message, Resource, RequestId string }
	if err := xml.Unmarshal([]byte(got), &parsed); err != nil || parsed.Resource != "/photos/é ]]>" || parsed.Message != e.Message {
		t.Errorf("parsed: %+v, %v", parsed, err)
	}
}

// Every document can be rendered, in S3's namespace, with or without entries.
func TestDocumentsAreInTheNamespaceOfS3(t *testing.T) {
	for _, document := range []any{
		listAllMyBucketsResult{}, listBucketResult{}, listBucketV2Result{}, listVersionsResult{}, listMultipartUploadsResult{}, listPartsResult{},
		initiateMultipartUploadResult{}, completeMultipartUploadResult{}, copyObjectResult{}, copyPartResult{}, deleteResult{},
	} {
		var root struct{ XMLName xml.Name }
		start, end := openDocument(document)
		if err := xml.Unmarshal(append(start, end...), &root); err != nil || root.XMLName.Space != s3Namespace || string(end) != "</"+root.XMLName.Local+">" {
			t.Errorf("%T is rendered as %s%s, with the root %v, %v", document, start, end, root.XMLName, err)
		}
	}
}
