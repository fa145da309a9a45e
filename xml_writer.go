package main

// The writer of answers: a backend's document, as one client gets it. It knows forms and
// what takes the place of what they hide, not requests.

// An answerWriter writes documents for one client.
type answerWriter struct {
	user, bucket, key string            // as the client knows them
	url               string            // of the object at the gateway
	places            bool              // the client may see elements of the kind place
	encodeURL         bool              // the client asked for encoding-type=url
	owned             bool              // each entry of a list gets an Owner
	ownerID           string            // at the backend, of an access control list
	echo              func(string) bool // reports whether an error code repeats text of the request; nil: none does
}

// append writes an element and everything below it that k knows.
func (w *answerWriter) append(b []byte, e *element, k *knownElement) []byte {
	switch k.is {
	case publicBucket:
		return appendElement(b, e.name, w.bucket)
	case objectKey:
		return w.appendKey(b, e.name)
	case objectURL:
		return appendElement(b, e.name, w.url)
	case owner:
		return w.appendOwner(b, e.name)
	case grantee:
		return w.appendGrantee(b, e)
	case failedKey:
		return w.appendFailure(b, e)
	case place:
		if !w.places {
			return b
		}
	}
	b = append(append(append(b, '<'), e.name...), '>')
	b = w.appendContent(b, e, k)
	return append(append(append(b, "</"...), e.name...), '>')
}

// appendContent writes the content of an element, between its tags.
func (w *answerWriter) appendContent(b []byte, e *element, k *knownElement) []byte {
	if len(k.children) > 0 {
		hint, owned := 0, !w.owned || k.name != "Contents"
		for i := range e.children {
			if known := k.child(e.children[i].name, &hint); known != nil {
				b = w.append(b, &e.children[i], known)
				owned = owned || known.is == owner
			}
		}
		if !owned {
			b = w.appendOwner(b, "Owner")
		}
		return b
	}
	switch {
	case k.encoded && w.encodeURL:
		return appendURIEncoded(b, e.text, false)
	case k.instant && !hasMilliseconds(e.text):
		return appendText(b, s3Time(string(e.text)))
	case e.plain:
		return append(b, e.text...)
	}
	return appendText(b, e.text)
}

// appendRoot writes a document, from the root element on.
func (w *answerWriter) appendRoot(b []byte, e *element, form *answerForm) []byte {
	w.ownerID = ownerID(e)
	b = append(append(append(b, '<'), form.root.name...), ` xmlns="`+s3Namespace+`">`...)
	b = w.appendContent(b, e, &form.root)
	return append(append(append(b, "</"...), form.root.name...), '>')
}

// appendKey writes the key of the request in place of the one in the answer.
func (w *answerWriter) appendKey(b []byte, name string) []byte {
	if !w.encodeURL {
		return appendElement(b, name, w.key)
	}
	b = append(append(append(b, '<'), name...), '>')
	b = appendURIEncoded(b, w.key, false)
	return append(append(append(b, "</"...), name...), '>')
}

// appendOwner writes the user in place of the owner at the backend, which is the
// gateway's account there.
func (w *answerWriter) appendOwner(b []byte, name string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendElement(b, "ID", w.user)
	b = appendElement(b, "DisplayName", w.user)
	return append(append(append(b, "</"...), name...), '>')
}

// otherAccount is the ID and the name of a grantee that is not the owner.
const otherAccount = "another-account"

// groupsOfS3 is how the URIs of S3's predefined groups of grantees begin.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html
const groupsOfS3 = "http://acs.amazonaws.com/groups/"

var s3Groups = setOf(groupsOfS3+"global/AllUsers", groupsOfS3+"global/AuthenticatedUsers", groupsOfS3+"s3/LogDelivery")

// appendGrantee writes who has a permission: a group of S3, the owner, who is the user, or
// another account. Some servers give neither the owner nor the grantee an ID; then the
// grantee is the owner.
func (w *answerWriter) appendGrantee(b []byte, e *element) []byte {
	const start = `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="`
	if uri := e.child("URI"); s3Groups[uri] {
		b = append(b, start+`Group">`...)
		return append(appendElement(b, "URI", uri), "</Grantee>"...)
	}
	name := otherAccount
	if e.child("ID") == w.ownerID && e.child("URI") == "" && e.child("EmailAddress") == "" {
		name = w.user
	}
	b = append(b, start+`CanonicalUser">`...)
	b = appendElement(b, "ID", name)
	b = appendElement(b, "DisplayName", name)
	return append(b, "</Grantee>"...)
}

// ownerID returns the ID of the owner in an access control list, or "".
func ownerID(policy *element) string {
	for _, e := range policy.children {
		if e.name == "Owner" {
			return e.child("ID")
		}
	}
	return ""
}

// appendFailure writes an error of one key of a batch, with a message of the gateway.
func (w *answerWriter) appendFailure(b []byte, e *element) []byte {
	b = append(b, "<Error>"...)
	for _, c := range e.children {
		if c.name == "Key" || c.name == "VersionId" {
			b = appendElement(b, c.name, c.text)
		}
	}
	failure := errorInDocument(e)
	if w.echo != nil && w.echo(failure.Code) {
		failure = newError(reasonBackendProtocol, "InternalError", "")
	}
	b = appendElement(b, "Code", failure.Code)
	b = appendElement(b, "Message", failure.Message)
	return append(b, "</Error>"...)
}
