package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// rewrittenAs returns a document of a form, written anew.
func rewrittenAs(f requestForm, in io.Reader) (string, error) {
	var out heldDocument
	err := rewrite(&f, in, &out)
	text, _ := io.ReadAll(&out)
	return strings.TrimPrefix(string(text), xmlHeader), err
}

var anyForm = requestForm{root: "a", depth: 4}

func TestRewrite(t *testing.T) {
	s3 := ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
	xsi := ` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`
	for _, test := range []struct{ in, want string }{
		{"<a/>", "<a></a>"},
		{"<a> x </a>", "<a> x </a>"},
		{"\ufeff<?xml version=\"1.0\" encoding='utf-8'?>\n<!-- c --><a>\n <b>1</b>\n <c/>\n</a>\n<!-- d -->\n", "<a><b>1</b><c></c></a>"},
		{"<a><b>1<!-- x -->2<?y z?><![CDATA[<&]]>3</b></a>", "<a><b>12&lt;&amp;3</b></a>"},
		{"<a>&#65;&lt;&quot;\r\n&#13;</a>", "<a>A&lt;&#34;&#xa;&#xd;</a>"},
		{"<a>é日本" + strings.Repeat("😀", 1000) + "</a>", "<a>é日本" + strings.Repeat("😀", 1000) + "</a>"},
		{"<a" + s3 + "><b>1</b></a>", "<a" + s3 + "><b>1</b></a>"},
		{`<s:a xmlns:s="http://s3.amazonaws.com/doc/2006-03-01/"><s:b>1</s:b></s:a>`, "<a" + s3 + "><b>1</b></a>"},
		{`<a xmlns="http://doc.s3.amazonaws.com/2006-03-01"/>`, "<a" + s3 + "></a>"},
		{`<a><b c="d" xml:space="preserve"> </b></a>`, "<a><b> </b></a>"},
		{"<a><Grantee" + xsi + ` xsi:type="CanonicalUser"><ID>x</ID></Grantee></a>`, "<a><Grantee" + xsi + ` xsi:type="CanonicalUser"><ID>x</ID></Grantee></a>`},
		{`<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><Grantee i:type="Group"/></a>`, "<a><Grantee" + xsi + ` xsi:type="Group"></Grantee></a>`},
		{`<a xmlns:i="urn:other"><Grantee i:type="Group"/></a>`, "<a><Grantee></Grantee></a>"},
	} {
		if got, err := rewrittenAs(anyForm, strings.NewReader(test.in)); err != nil || got != test.want {
			t.Errorf("rewrite(%q) = %q, %v, want %q", shortened(test.in, 200), shortened(got, 200), err, shortened(test.want, 200))
		}
		if got, err := rewrittenAs(anyForm, iotest.OneByteReader(strings.NewReader(test.in))); err != nil || got != test.want {
			t.Errorf("rewrite(%q), byte by byte = %q, %v, want %q", shortened(test.in, 200), shortened(got, 200), err, shortened(test.want, 200))
		}
	}
}

func TestRewriteRefuses(t *testing.T) {
	known := requestForm{root: "a", depth: 4, members: members("b", "c+", "c/d", "c/Checksum*"), refused: setOf("z")}
	for _, in := range []string{
		"", " ", "x", "<a>", "<a></b>", "<b/>", "</a>", "<a/><a/>", "<a/>x", "<a/>\x00", "<a/><?p?>", "x<a/>", "<a b=1/>", "\ufeff\ufeff<a/>", " \ufeff<a/>",
		`<!DOCTYPE a><a/>`, `<a>&x;</a>`, "<a>\x01</a>", "<a>\xff</a>", `<?xml version="1.0" encoding="UTF-16"?><a/>`, `<?xml version="1.1"?><a/>`,
		`<a xmlns="urn:x"/>`, `<x:a/>`, `<a><x:b/></a>`, `<a xmlns:x="urn:x"><x:b/></a>`, `<a><b xmlns="urn:x"/></a>`,
		"<a>text<b/></a>", "<a><b/>text</a>", "<a><b/></b></a>", "<a><b></a></b>",
		"<a><b/><b/></a>", "<a><c><d/><d/></c></a>", "<a><e/></a>", "<a><b><c/></b></a>", "<a><d/></a>", "<a><z/></a>", "<a><z><y/></z></a>", "<a><c>text</c></a>",
		"<a><c><Checksum-1/></c></a>", "<a><c><Check/></c></a>", "<a><c><ChecksumSHA512/><ChecksumSHA512/></c></a>", "<a><c><Checksum" + strings.Repeat("x", 99) + "/></c></a>",
		`<a><b>` + strings.Repeat("x", maxToken+1) + `</b></a>`, `<a><b>` + strings.Repeat("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx<!---->", maxToken/32+1) + `</b></a>`,
	} {
		if got, err := rewrittenAs(known, strings.NewReader(in)); err == nil {
			t.Errorf("rewrite(%q) = %q, want an error", shortened(in, 99), shortened(got, 99))
		}
	}
	for _, in := range []string{"<a><b><c><d><e/></d></c></b></a>", strings.Repeat("<a>", 500_000),
		`<a xmlns:x="http://www.w3.org/2001/XMLSchema-instance"><Grantee x:type="a" x:type="b"/></a>`,
		`<a xmlns:x="http://www.w3.org/2001/XMLSchema-instance"><Grantee x:type="a&quot; b"/></a>`} {
		if got, err := rewrittenAs(anyForm, strings.NewReader(in)); err == nil {
			t.Errorf("rewrite(%q) = %q, want an error", shortened(in, 99), shortened(got, 99))
		}
	}
	for _, in := range []string{"<a/>", "<a><b/><c><d/><ChecksumA/><ChecksumB2/></c><c/></a>"} {
		if _, err := rewrittenAs(known, strings.NewReader(in)); err != nil {
			t.Errorf("rewrite(%q): %v", in, err)
		}
	}
}

// While a document arrives, little of it is in memory besides what is written.
func TestRewriteHoldsAToken(t *testing.T) {
	m := &memory{limit: 1 << 30}
	share := memoryShare{of: m}
	out := &heldDocument{memory: holding{share: &share}}
	rows := 0
	f := requestForm{root: "a", depth: 3, visit: func(path string, _ []byte) (bool, error) {
		if rows++; m.used > out.size+largeBuffer+4*minBlock {
			t.Fatalf("%d bytes are used when %d are written", m.used, out.size)
		}
		return true, nil
	}}
	if err := rewrite(&f, strings.NewReader("<a>"+strings.Repeat("<b><c>some text</c></b>", 50_000)+"</a>"), out); err != nil || rows != 100_001 {
		t.Fatalf("%d elements, %v", rows, err)
	}
	if out.free(); m.used != 0 {
		t.Errorf("%d bytes are used at the end", m.used)
	}
}

// The new document has exactly what encoding/xml reads from the old one. Writing it anew
// once more changes nothing.
func FuzzRewrite(f *testing.F) {
	for _, test := range wellFormed {
		f.Add([]byte(test.in))
	}
	for _, in := range malformed {
		f.Add([]byte(in))
	}
	f.Add([]byte(`<a xmlns="` + s3Namespace + `" xmlns:x="urn:x"><b xmlns=""><x:c xmlns:x=''/></b></a>`))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := rewrittenAs(requestForm{root: "a", depth: maxListDepth}, bytes.NewReader(in))
		want, _, wantErr := readReference(in, requestNamespaces)
		if err == errNamespace && wantErr == nil {
			t.Fatalf("rewrite refused %q for a namespace, encoding/xml did not", in)
		}
		if err != nil {
			return
		}
		if wantErr != nil {
			t.Fatalf("rewrite accepted %q, encoding/xml: %v", in, wantErr)
		}
		read, _, err := readReference([]byte(got), requestNamespaces)
		if err != nil || outline(read) != outline(want) {
			t.Fatalf("rewrite(%q) = %q, which is %s, %v, want %s", in, got, outline(read), err, outline(want))
		}
		again, err := rewrittenAs(requestForm{root: "a", depth: maxListDepth}, strings.NewReader(got))
		if err != nil || again != got {
			t.Fatalf("rewrite(%q) = %q, %v, want no change", got, again, err)
		}
		if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
	})
}
