package main

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// A namespace is in scope from the tag that declares it, inclusive, to the end of the
// element.
func TestNamespacesAreInScopeFromTagToTag(t *testing.T) {
	const s3 = ` xmlns="` + s3Namespace + `"`
	for _, test := range []struct {
		in string
		ok bool
	}{
		{`<a/>`, true},
		{`<a` + s3 + `><b/></a>`, true},
		{`<a xmlns="http://&#115;3.amazonaws.com/doc/2006-03-01/"/>`, true},
		{`<x:a xmlns:x="` + s3Namespace + `"><x:b/><b/></x:a>`, true},
		{`<a><b` + s3 + `/><c/></a>`, true},
		{`<a xmlns="urn:x"/>`, false},
		{`<a><b xmlns="urn:x"/></a>`, false},
		{`<a xmlns:x="urn:x"><x:b/></a>`, false},
		{`<a xmlns:x="urn:x"><b y="1" x:y="1"/></a>`, true},
		{`<a><b xmlns:x="` + s3Namespace + `"/><x:c/></a>`, false},
		{`<a><b xmlns:x="` + s3Namespace + `"></b><x:c/></a>`, false},
		{`<a xmlns:x="` + s3Namespace + `"><b xmlns:x="urn:x"></b><x:c/></a>`, true},
		{`<a xmlns:x="` + s3Namespace + `" xmlns:x="urn:x"><x:c/></a>`, false},
		{`<x:a/>`, false},
		{`<xml:a/>`, false},
		{`<xmlns:a/>`, false},
		{`<a xmlns:xml="` + s3Namespace + `"><xml:b/></a>`, false},
		{`<a` + strings.Repeat(` xmlns:x="urn:x"`, maxNamespaces) + `/>`, true},
	} {
		for _, r := range []io.Reader{strings.NewReader(test.in), iotest.OneByteReader(strings.NewReader(test.in))} {
			got, err := rewrittenAs(anyForm, r)
			if _, _, want := readReference([]byte(test.in), requestNamespaces); (err == nil) != test.ok || (want == nil) != test.ok {
				t.Errorf("%s = %s, %v, of encoding/xml %v, want none: %t", test.in, got, err, want, test.ok)
			}
		}
	}
	if _, err := rewrittenAs(anyForm, strings.NewReader(`<a`+strings.Repeat(` xmlns:x="urn:x"`, maxNamespaces+1)+`/>`)); err == nil {
		t.Errorf("%d namespaces, want an error", maxNamespaces+1)
	}
}
