package main

// DeleteObjects: many keys in one document. Each is held to the rules for a key
// in a path, and the document is written anew from what was understood, so that
// the backend reads no other list than the one that was checked.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const maxDeleteKeys = 1000

// deleteObjects forwards a batch. A version may be deleted by admins only, here
// as anywhere.
func (g *gateway) deleteObjects(x *exchange) *apiError {
	body, refusal := x.readSmall()
	if refusal != nil {
		return refusal
	}
	for name, values := range x.r.Header { // the backend gets another document, and can't check these
		if sum := newChecksum(strings.ToLower(name)); sum != nil {
			sum.Write(body)
			if values[0] != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
				return newError("BadDigest", "")
			}
		}
	}
	doc, err := parseDelete(body)
	if err != nil {
		return newError("MalformedXML", err.Error())
	}
	for i, e := range doc.children {
		if e.name != "Object" {
			continue
		}
		doc.children[i].children = slices.DeleteFunc(e.children, func(m element) bool { // which is none
			return m.name == "VersionId" && len(m.text) == 0
		})
		if err := checkKey(e.child("Key"), g.config.nestedKeys); err != nil {
			return newError("InvalidRequest", fmt.Sprintf("%v (%q)", err, shortened(e.child("Key"), 64)))
		}
		if err := checkMemberValues(e); err != nil {
			return newError("InvalidArgument", err.Error())
		}
		if e.child("VersionId") != "" && !x.user.role.may(actionAdmin) {
			return newError("AccessDenied", "DeleteObjectVersion is not allowed to the role "+string(x.user.role))
		}
	}
	out, refusal := g.outgoing(x)
	if refusal != nil {
		return refusal
	}
	document := appendTree([]byte(xmlHeader), &doc, false)
	out.setDocument(document)
	for name := range out.header { // they were of the document that came
		if strings.HasPrefix(name, "X-Amz-Checksum-") || name == "X-Amz-Sdk-Checksum-Algorithm" {
			delete(out.header, name)
		}
	}
	digest := md5.Sum(document)
	out.header["Content-Md5"] = []string{base64.StdEncoding.EncodeToString(digest[:])}
	return g.stream(x, out)
}

// deleteMembers are the elements of an Object, each of which may be there once.
var deleteMembers = set("Key", "VersionId", "ETag", "LastModifiedTime", "Size")

// parseDelete reads a Delete document, and nothing but it: no document type, no
// second root, no other namespace, no element that S3 does not have. The error is
// for the client.
func parseDelete(body []byte) (element, error) {
	scanner := newScanner(bytes.NewReader(body))
	scanner.namespaces = []string{"", s3Namespace}
	doc, err := scanner.document("Delete")
	if err != nil {
		return doc, err
	}
	if err := scanner.ends(); err != nil {
		return doc, err
	}
	objects := 0
	for _, e := range doc.children {
		switch {
		case e.name == "Quiet" && len(e.children) == 0:
		case e.name != "Object":
			return doc, fmt.Errorf("an element %q, where Object or Quiet is wanted", shortened(e.name, 64))
		default:
			objects++
			if err := checkMembers(e); err != nil {
				return doc, err
			}
		}
	}
	if objects < 1 || objects > maxDeleteKeys {
		return doc, fmt.Errorf("want 1 to %d objects, have %d", maxDeleteKeys, objects)
	}
	return doc, nil
}

func checkMembers(object element) error {
	seen := map[string]bool{}
	for _, member := range object.children {
		if !deleteMembers[member.name] || seen[member.name] || len(member.children) > 0 {
			return fmt.Errorf("an Object with an element %q that it does not have, or has once", shortened(member.name, 64))
		}
		seen[member.name] = true
	}
	if !seen["Key"] {
		return errors.New("an Object without a Key")
	}
	return nil
}

// checkMemberValues applies the rule for opaque tokens to all of an Object but its
// key. The error is for the client.
func checkMemberValues(object element) error {
	for _, member := range object.children {
		if member.name == "Key" {
			continue
		}
		if err := markerID(string(member.text)); err != nil {
			return fmt.Errorf("the %s of an Object %w", member.name, err)
		}
	}
	return nil
}
