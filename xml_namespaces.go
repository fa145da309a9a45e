package main

// Namespaces of documents that clients send, and xsi:type, the only attribute that means
// something in S3's documents. It knows tags, not what documents they are of.
// https://www.w3.org/TR/xml-names/

import (
	"bytes"
	"errors"
	"slices"
)

const schemaNamespace = "http://www.w3.org/2001/XMLSchema-instance"

const maxNamespaces = 32 // declarations in scope at a time

// requestNamespaces are the namespaces in the examples of requests on S3's pages, of
// which the older ones are used for logging. Most clients use none, which is "".
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html
var requestNamespaces = []string{"", s3Namespace, "http://doc.s3.amazonaws.com/2006-03-01", "http://doc.s3.amazonaws.com/2006-03-01/", "http://s3.amazonaws.com/doc/2006-03-01"}

var errNamespace = errors.New("an element of another namespace")

// A namespaceScope is the namespaces that are declared at a place in a document, the
// innermost last.
type namespaceScope []declaredNamespace

// A declaredNamespace is the URI that stands for a prefix; the default namespace has
// the prefix "".
type declaredNamespace struct{ prefix, uri string }

// An xsiType is an attribute "type" and its prefix, which may or may not stand for the
// namespace of XML Schema: see namespaceScope.schemaType.
type xsiType struct{ prefix, value string }

// enter declares the namespaces of the start tag that was read last. It returns the
// attribute "type" of the tag, if that has one with a prefix. The caller shortens the
// scope again when the element ends.
func (n *namespaceScope) enter(s *scanner) (typed xsiType, err error) {
	for d := s.attributes; ; {
		d = d[skipSpace(d, 0):]
		if len(d) == 0 {
			return typed, nil
		}
		name, value, size, err := s.attribute(d)
		if err != nil {
			return xsiType{}, err
		}
		switch {
		case name.whole == "xmlns":
			err = n.declare("", value)
		case name.prefix == "xmlns":
			err = n.declare(name.local, value)
		case name.prefix != "" && name.local == "type" && typed.prefix != "":
			err = errTag
		case name.prefix != "" && name.local == "type":
			typed = xsiType{name.prefix, attributeValue(value)}
		}
		if err != nil {
			return xsiType{}, err
		}
		d = d[size:]
	}
}

func (n *namespaceScope) declare(prefix string, value []byte) error {
	if len(*n) == maxNamespaces {
		return errors.New("more namespaces than a document needs")
	}
	*n = append(*n, declaredNamespace{prefix, attributeValue(value)})
	return nil
}

// uri returns the namespace that a prefix stands for. A prefix that is not declared
// stands for itself, as in encoding/xml.
func (n namespaceScope) uri(prefix string) string {
	for _, d := range slices.Backward(n) {
		if d.prefix == prefix {
			return d.uri
		}
	}
	return prefix
}

// allows reports whether a document of a request may have an element with the prefix.
func (n namespaceScope) allows(prefix string) bool {
	if prefix == "xml" || prefix == "xmlns" { // reserved, whatever is declared
		return false
	}
	return slices.Contains(requestNamespaces, n.uri(prefix))
}

// schemaType returns the value of an attribute that is xsi:type, or "".
func (n namespaceScope) schemaType(t xsiType) string {
	if t.prefix == "" || n.uri(t.prefix) != schemaNamespace {
		return ""
	}
	return t.value
}

// attributeValue decodes a value that scanner.attribute returned. It leaves the input
// as it is.
func attributeValue(value []byte) string { return string(decode(bytes.Clone(value), true)) }
