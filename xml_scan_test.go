package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// A reference reads documents with encoding/xml. A scanner must agree with it.
type reference struct {
	*xml.Decoder
	namespaces []string
	members    int
	stricter   bool // a scanner may refuse the document, by what its comment says
}

// surrogates matches references that encoding/xml replaces by U+FFFD.
var surrogates = regexp.MustCompile(`(?i)&#(x0*d[89a-f][0-9a-f]{2}|0*(5529[6-9]|55[3-9][0-9]{2}|56[0-9]{3}|57[0-2][0-9]{2}|573[0-3][0-9]|5734[0-3]));`)

func readReference(data []byte, namespaces []string) (e element, stricter bool, err error) {
	r := &reference{Decoder: xml.NewDecoder(bytes.NewReader(data)), namespaces: namespaces}
	r.stricter = surrogates.Match(data)
	e, err = r.document()
	return e, r.stricter, err
}

func (r *reference) document() (element, error) {
	for start := true; ; start = false {
		t, err := r.next()
		if err != nil {
			return element{}, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return r.element(t.Name, 1)
		case xml.CharData:
			if start {
				t = bytes.TrimPrefix(t, []byte("\ufeff"))
			}
			if strings.Trim(string(t), " \t\r\n") != "" {
				r.stricter = true
			}
		}
	}
}

// next returns the next token, and notes what a scanner may refuse.
func (r *reference) next() (xml.Token, error) {
	t, err := r.Token()
	ascii := func(s string) {
		for i := range len(s) {
			if s[i] >= utf8.RuneSelf {
				r.stricter = true
			}
		}
	}
	switch t := t.(type) {
	case xml.StartElement:
		ascii(t.Name.Local)
		ascii(t.Name.Space)
		for _, a := range t.Attr {
			ascii(a.Name.Local)
			ascii(a.Name.Space)
		}
		if len(t.Attr) > maxNamespaces/maxListDepth && r.namespaces != nil {
			r.stricter = true
		}
	case xml.ProcInst:
		ascii(t.Target)
		if t.Target == "xml" && !xmlDeclaration.MatchString("<?xml "+string(t.Inst)+"?>") || strings.Count(t.Target, ":") > 1 {
			r.stricter = true
		}
	case xml.Directive:
		return nil, errors.New("a document type")
	}
	return t, err
}

func (r *reference) element(name xml.Name, depth int) (element, error) {
	e := element{name: name.Local}
	if r.members++; depth > maxListDepth || r.members > maxListMembers*16 {
		return e, errors.New("too deep or long")
	}
	if r.namespaces != nil && !slices.Contains(r.namespaces, name.Space) {
		return e, errors.New("another namespace")
	}
	for {
		t, err := r.next()
		if err != nil {
			return e, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			child, err := r.element(t.Name, depth+1)
			if err != nil {
				return e, err
			}
			e.children = append(e.children, child)
		case xml.CharData:
			e.text = append(e.text, t...)
		case xml.EndElement:
			if len(e.children) > 0 {
				e.text = nil
			}
			return e, nil
		}
	}
}

// outline returns an element in one line.
func outline(e element) string {
	if len(e.children) == 0 {
		return fmt.Sprintf("%s=%q", e.name, e.text)
	}
	var b strings.Builder
	for _, c := range e.children {
		b.WriteString(" " + outline(c))
	}
	return e.name + "{" + b.String() + " }"
}

// wellFormed are documents that are read, some of them unusual. They are seeds, too.
var wellFormed = []struct{ in, want string }{
	{`<a/>`, `a=""`},
	{"<a\t\r\n/>", `a=""`},
	{`<a></a >`, `a=""`},
	{`<a>x</a>`, `a="x"`},
	{"\ufeff<a>x</a>", `a="x"`},
	{`<a>x<b>y</b>z</a>`, `a{ b="y" }`},
	{"<a>\n <b>y</b>\n <b/>\n</a>\n", `a{ b="y" b="" }`},
	{`<s3:Key xmlns:s3="urn:x">k</s3:Key>`, `Key="k"`},
	{`<s3:Key>k</s3:Key>`, `Key="k"`},
	{`<:a>k</:a>`, `:a="k"`},
	{`<a:>k</a:>`, `a:="k"`},
	{`<a b="1" c='2'>k</a>`, `a="k"`},
	{`<a b="1"c='"'d="'">k</a>`, `a="k"`},
	{`<a b = "1" b="2" >k</a>`, `a="k"`},
	{`<a b="> ]]> /> &lt;&#65;">k</a>`, `a="k"`},
	{"<a b=\"\r\n\t\">k</a>", `a="k"`},
	{"<a>1\r\n2\r3\n4\r\r\n5\r&#10;&#13;\n</a>", `a="1\n2\n3\n4\n\n5\n\n\r\n"`},
	{"<a><![CDATA[1\r\n2]]>\n</a>", `a="1\n2\n"`},
	{`<a>&lt;&gt;&amp;&quot;&apos;</a>`, `a="<>&\"'"`},
	{`<a>&#65;&#x41;&#x00000000041;&#x1F600;&#xa9;&#xfffd;&#9;</a>`, `a="AAA😀©�\t"`},
	{`<a>é日本😀` + "\x7f\u0085\u2028" + `</a>`, `a="é日本😀\x7f\u0085\u2028"`},
	{`<a>]] ]> ]]&gt; &#93;]> ></a>`, `a="]] ]> ]]> ]]> >"`},
	{`<a><![CDATA[<b>&lt;]]]]><![CDATA[>]]>c</a>`, `a="<b>&lt;]]>c"`},
	{`<a>x<!-- - <b> & ]]> -->y<?z <b> ?>z</a>`, `a="xyz"`},
	{`<a><!----><!--->--></a>`, `a=""`},
	{`<?xml version="1.0"?><a/>`, `a=""`},
	{`<?xml version='1.0' encoding='utf-8' standalone='yes' ?><a/>`, `a=""`},
	{` <?xml version="1.0" encoding="UTF-8"?> <!-- c --> <?p?> <a/>`, `a=""`},
	{"<a>\x09\x0a</a>", `a="\t\n"`},
	{`<_.-0>x</_.-0>`, `_.-0="x"`},
}

// malformed are documents that are refused, by encoding/xml too.
var malformed = []string{
	"", " ", "<", "<a", "<a ", "<a/", "<a>", "<a>x", "<a></", "<a></a", "<a></a ", "x", "<a b='1", "<a b=", "<a b",
	"< a/>", "<1a/>", "<-a/>", "<.a/>", "</a>", "<a></b>", "<a:b></b>", "<a:b></c:b>", "<a:b:c/>", "<a><b></a></b>", "<a><b></a>",
	"<a b/>", "<a b=1/>", "<a b='<'/>", "<a b='&'/>", "<a b='&nosuch;'/>", "<a b='\x01'/>", "<a 1='1'/>", "<a / >", "<a/ >", "<a></a b='1'>",
	"<a>]]></a>", "<a>x]]>y</a>", "<a>]]]]></a>", "<a>\r\n]]></a>", "<a>&lt;]]></a>", "<a>&</a>", "<a>&;</a>", "<a>& lt;</a>", "<a>&lt</a>", "<a>&LT;</a>",
	"<a>&#;</a>", "<a>&#x;</a>", "<a>&#X41;</a>", "<a>&#4a;</a>", "<a>&#x:;</a>", "<a>&#-1;</a>", "<a>&#0;</a>", "<a>&#1;</a>", "<a>&#x1f;</a>", "<a>&#xfffe;</a>", "<a>&#xffff;</a>",
	"<a>&#x110000;</a>", "<a>&#99999999999999999999;</a>", "<a>&#x100000041;</a>", "<a>&nbsp;</a>",
	"<a>\x00</a>", "<a>\x01</a>", "<a>\x1f</a>", "<a>\ufffe</a>", "<a>\uffff</a>",
	"<a>\xff</a>", "<a>\xc3</a>", "<a>\xc3\x28</a>", "<a>\xed\xa0\x80</a>", "<a>\xc0\x80</a>", "<a>\xf4\x90\x80\x80</a>", "<a>\xe6\x97</a>",
	"<a><![CDATA[\xc3]]></a>", "<a><![CDATA[\x01]]></a>", "<a><![CDATA[x]]</a>", "<a><![cdata[x]]></a>", "<a><![CDATA[", "<![", "<!-", "<!",
	"<a><!-- -- --></a>", "<a><!-- --->", "<a><!-x--></a>", "<a><!-- </a>", "<!DOCTYPE a><a/>", "<a><!ELEMENT></a>",
	"<?", "<?x\xae?><a/>", "<? x?><a/>", "<?x", "<?x?", "<?1?><a/>",
	`<?xml version="1.1"?><a/>`, `<?xml version="1.0" encoding="utf-16"?><a/>`, `<a><?xml version="1.0" encoding="latin1"?></a>`,
	"\xff\xfe<\x00a\x00/\x00>\x00", "<a><b><c><d><e><f/></e></d></c></b></a>",
}

// stricter are documents that encoding/xml reads and a scanner refuses.
var stricter = []string{
	"x<a/>", "&lt;<a/>", "\ufeff\ufeff<a/>", " \ufeff<a/>", "<![CDATA[x]]><a/>", "<!-- --> x <a/>",
	"<a>&#xd800;</a>", "<a>&#55357;&#56832;</a>", "<a b='&#xDFFF;'/>", "<é/>", "<a é='1'/>", "<a><?é?></a>",
	"<?xml?><a/>", `<?xml encoding="utf-8"?><a/>`, `<?xml version="1.0" standalone="maybe"?><a/>`,
}

func TestScan(t *testing.T) {
	for _, test := range wellFormed {
		want, _, err := readReference([]byte(test.in), nil)
		if err != nil || outline(want) != test.want {
			t.Errorf("encoding/xml of %q = %s, %v, want %s", test.in, outline(want), err, test.want)
		}
		got, err := parseDocument(strings.NewReader(test.in), "")
		if err != nil || outline(got) != test.want {
			t.Errorf("parseDocument(%q) = %s, %v, want %s", test.in, outline(got), err, test.want)
		}
		got, err = parseDocument(iotest.OneByteReader(strings.NewReader(test.in)), "")
		if err != nil || outline(got) != test.want {
			t.Errorf("parseDocument(%q), byte by byte = %s, %v, want %s", test.in, outline(got), err, test.want)
		}
	}
	for _, in := range malformed {
		if got, _, err := readReference([]byte(in), nil); err == nil {
			t.Errorf("encoding/xml of %q = %s, want an error", in, outline(got))
		}
	}
	for _, in := range stricter {
		if _, stricter, err := readReference([]byte(in), nil); err != nil || !stricter {
			t.Errorf("encoding/xml of %q: %v, stricter %t, want none, true", in, err, stricter)
		}
	}
	for _, in := range append(stricter, malformed...) {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			if got, err := parseDocument(r, ""); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("parseDocument(%q) = %s, %v, want an error other than io.EOF", in, outline(got), err)
			}
		}
	}
}

// Only white space and comments may follow a document.
func TestScanEnds(t *testing.T) {
	for _, test := range []struct {
		after string
		ok    bool
	}{
		{"", true}, {"\n", true}, {" \t\r\n ", true}, {"<!-- c -->\n<!-- d -->", true},
		{"x", false}, {"\n x", false}, {"\u00a0", false}, {"\x00", false}, {"<a/>", false}, {"</a>", false}, {"<?p?>", false}, {"<!DOCTYPE a>", false},
		{"<![CDATA[x]]>", false}, {"<", false}, {"<!-", false}, {"<!-- ", false}, {"<b", false}, {"&lt;", false},
	} {
		for _, r := range []io.Reader{strings.NewReader("<a/>" + test.after), iotest.OneByteReader(strings.NewReader("<a/>" + test.after))} {
			s := newScanner(r)
			if _, err := s.document("a"); err != nil {
				t.Fatalf("<a/>%s: %v", test.after, err)
			}
			if err := s.ends(); (err == nil) != test.ok {
				t.Errorf("<a/>%q: ends() = %v, want none: %t", test.after, err, test.ok)
			}
		}
	}
	// An answer that breaks off after its document was cut off, whatever the document is.
	broken := errors.New("broken")
	s := newScanner(io.MultiReader(strings.NewReader("<a/>\n"), iotest.ErrReader(broken)))
	if _, err := s.document("a"); err != nil {
		t.Fatal(err)
	}
	if err := s.ends(); err != broken {
		t.Errorf("ends() = %v, want the error of the reader", err)
	}
}

// Bounds hold to the byte, however a document arrives in pieces.
func TestScanBounds(t *testing.T) {
	text := func(n int) string { return "<a>" + strings.Repeat("x", n) + "</a>" }
	attribute := func(n int) string { return `<a b="` + strings.Repeat("x", n-len(`<a b=""/>`)) + `"/>` }
	comment := func(n int) string { return "<a><!--" + strings.Repeat("x", n-len("<!---->")) + "--></a>" }
	for name, token := range map[string]func(n int) string{"text": text, "attribute": attribute, "comment": comment} {
		for _, reader := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader,
		} {
			if _, err := parseDocument(reader(strings.NewReader(token(maxToken))), "a"); err != nil {
				t.Errorf("a %s of %d bytes: %v", name, maxToken, err)
			}
			if _, err := parseDocument(reader(strings.NewReader(token(maxToken+1))), "a"); err == nil {
				t.Errorf("a %s of %d bytes, want an error", name, maxToken+1)
			}
		}
	}
}

// A scanner that is used again reads a document like a new one, whatever it read before
// and however that ended.
func TestScanReset(t *testing.T) {
	var s scanner
	for range 2 {
		for _, test := range wellFormed {
			for _, size := range []int64{-1, 0, int64(len(test.in)), 1 << 40} {
				s.reset(strings.NewReader(test.in), size)
				if got, err := s.document(""); err != nil || outline(got) != test.want {
					t.Errorf("%q = %s, %v, want %s", test.in, outline(got), err, test.want)
				}
			}
			s.reset(strings.NewReader(malformed[len(test.in)%len(malformed)]), -1)
			s.document("")
		}
	}
	if cap(s.data) > 2*maxBlock {
		t.Errorf("%d bytes for a size that was announced, want at most %d", cap(s.data), 2*maxBlock)
	}
}

// A page costs few allocations, and no key costs one.
func TestScanAllocations(t *testing.T) {
	doc := aPage()
	reader := strings.NewReader(doc)
	p := new(listedPage)
	got := testing.AllocsPerRun(10, func() {
		reader.Reset(doc)
		if err := p.read(reader, int64(len(doc)), answerSpecs["ListObjectsV2"], nil); err != nil {
			t.Fatal(err)
		}
	})
	if got > 20 {
		t.Errorf("a page of 1,000 keys costs %.0f allocations, want at most 20", got)
	}
}

// A scanner and encoding/xml accept the same documents, except for those that the opening
// comment of xml_scan.go names, and read the same from them. It makes no difference how a
// document arrives in pieces.
func FuzzScan(f *testing.F) {
	for _, test := range wellFormed {
		f.Add([]byte(test.in))
	}
	for _, in := range append(stricter, malformed...) {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxToken {
			return
		}
		want, stricter, wantErr := readReference(data, nil)
		var last error
		for i, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data))} {
			s := newScanner(r)
			got, err := s.document("")
			switch {
			case err == nil && wantErr != nil:
				t.Fatalf("%q = %s, want an error as of encoding/xml: %v", data, outline(got), wantErr)
			case err != nil && wantErr == nil && !stricter:
				t.Fatalf("%q: %v, want %s", data, err, outline(want))
			case err == nil && outline(got) != outline(want):
				t.Fatalf("%q = %s, want %s", data, outline(got), outline(want))
			case i > 0 && (err == nil) != (last == nil):
				t.Fatalf("%q in pieces: %v, whole: %v", data, err, last)
			}
			last = err
		}
	})
}

// The same holds for documents larger than a block that arrive in pieces, in memory that
// is too small, or large enough, or held a document that broke off.
func TestScanResetLong(t *testing.T) {
	entry := func(i int) string {
		return fmt.Sprintf("<Contents><Key>k%d&amp;%s</Key><!--c-->t&quot;\r\n<ETag>&quot;<![CDATA[%d]]>&quot;</ETag><p:Size x='&lt;1'/></Contents>\r\n", i, strings.Repeat("é", i%300), i)
	}
	readers := map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "bytes": iotest.OneByteReader, "end with data": iotest.DataErrReader,
	}
	var s scanner
	for _, entries := range []int{1, 150, 30, 0, 60} {
		doc := "<R>"
		for i := range entries {
			doc += entry(i)
		}
		doc += "<Long>" + strings.Repeat("x&gt;", 3*entries) + "</Long></R>"
		root, _, err := readReference([]byte(doc), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := outline(root)
		for name, reader := range readers {
			for _, size := range []int64{-1, int64(len(doc)), int64(len(doc)) / 2, 2 * int64(len(doc))} {
				s.reset(reader(strings.NewReader(doc)), size)
				if got, err := s.document("R"); err != nil || outline(got) != want {
					t.Errorf("%d entries, %s, announced as %d bytes: %v, or not as encoding/xml reads it", entries, name, size, err)
				}
				s.reset(strings.NewReader(doc[:len(doc)*2/3]), size)
				if _, err := s.document("R"); err == nil {
					t.Errorf("two thirds of %d entries are read without an error", entries)
				}
			}
		}
	}
}

func TestParseDocument(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     element
	}{
		{"an empty list", `<ListBucketResult/>`, element{name: "ListBucketResult"}},
		{"declaration, namespace, comments and white space", "\n" + `<?xml version="1.0" encoding="UTF-8"?><!-- a -->
			<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
			  <Name>b</Name><!-- c -->
			  <Contents><Key>k</Key><Owner><ID>1</ID></Owner></Contents>
			</ListBucketResult>`,
			branch("ListBucketResult", leaf("Name", "b"), branch("Contents", leaf("Key", "k"), branch("Owner", leaf("ID", "1"))))},
		{"references and sections of characters", `<ListBucketResult><Key>&lt;&amp;&gt;&quot;&apos;&#65;&#x42;<![CDATA[<&]]>c<!-- d -->e</Key></ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", `<&>"'AB<&ce`))},
		{"white space in a key", `<ListBucketResult><Key> a b </Key><Key>&#13;&#10;&#9;</Key></ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", " a b "), leaf("Key", "\r\n\t"))},
		{"another namespace and a prefix", `<x:ListBucketResult xmlns:x="urn:x"><x:Key a="1">k</x:Key></x:ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", "k"))},
		{"what comes after the document", `<ListBucketResult><Key>k</Key></ListBucketResult><ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", "k"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseDocument(strings.NewReader(test.in), "ListBucketResult")
			if err != nil || !reflect.DeepEqual(unmarked(got), test.want) {
				t.Errorf("parseDocument = %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestParseDocumentErrors(t *testing.T) {
	for _, test := range []struct{ name, in string }{
		{"nothing", ""},
		{"white space", " \n"},
		{"a declaration alone", xmlHeader},
		{"text", "hello"},
		{"JSON", `{"ListBucketResult":{}}`},
		{"another root", `<Error><Code>AccessDenied</Code></Error>`},
		{"HTML", `<!DOCTYPE html><html><body>it works<br></body></html>`},
		{"a root that is not closed", `<ListBucketResult><Name>b</Name>`},
		{"an element that is not closed", `<ListBucketResult><Name>b</ListBucketResult>`},
		{"elements that cross", `<ListBucketResult><a><b></a></b></ListBucketResult>`},
		{"a control character", "<ListBucketResult><Key>a\x01b</Key></ListBucketResult>"},
		{"a reference to a control character", `<ListBucketResult><Key>a&#1;b</Key></ListBucketResult>`},
		{"invalid UTF-8", "<ListBucketResult><Key>a\xffb</Key></ListBucketResult>"},
		{"another encoding", `<?xml version="1.0" encoding="utf-16"?><ListBucketResult/>`},
		{"an entity of its own", `<!DOCTYPE l [<!ENTITY e "eee">]><ListBucketResult><Key>&e;</Key></ListBucketResult>`},
		{"an entity of a file", `<!DOCTYPE l [<!ENTITY e SYSTEM "file:///etc/passwd">]><ListBucketResult><Key>&e;</Key></ListBucketResult>`},
		{"too deep", `<ListBucketResult><a><b><c><d><e/></d></c></b></a></ListBucketResult>`},
		{"too many elements", `<ListBucketResult>` + strings.Repeat("<a/>", 16*maxListMembers) + `</ListBucketResult>`},
		{"too many bytes", `<ListBucketResult>` + strings.Repeat(" ", maxListDocument) + `</ListBucketResult>`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseDocument(strings.NewReader(test.in), "ListBucketResult")
			if err == nil {
				t.Errorf("parseDocument = %.100v, want an error", got)
			}
			if err == io.EOF || errors.Is(err, io.EOF) {
				t.Errorf("parseDocument: %v, want no io.EOF: it would be taken for an end", err)
			}
		})
	}
}

// A list that arrives in pieces is the same list. If it is cut off before the end of its
// root element, it is an error.
func TestParseDocumentCut(t *testing.T) {
	const doc = xmlHeader + `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a&amp;b</Key></Contents></ListBucketResult>`
	if _, err := parseDocument(io.MultiReader(strings.NewReader(doc[:30]), strings.NewReader(doc[30:])), "ListBucketResult"); err != nil {
		t.Errorf("parseDocument of two pieces: %v", err)
	}
	for n := range len(doc) {
		if got, err := parseDocument(strings.NewReader(doc[:n]), "ListBucketResult"); err == nil {
			t.Errorf("parseDocument of %d of %d bytes = %+v, want an error", n, len(doc), got)
		}
	}
}

// allocated returns how many bytes f allocates. Nothing else may run at the same time.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A malicious backend can't make a document cost more memory than its size allows.
// encoding/xml alone takes 185 MB for a million nested tags, and copies all previous text
// for each piece of a text, which has 8 bytes here.
func TestParseDocumentCost(t *testing.T) {
	if !alone(t) {
		return
	}
	const tags = 1_000_000
	for _, test := range []struct {
		name string
		in   string
		max  uint64 // bytes
	}{
		{"nested tags", strings.Repeat("<a>", tags), 1 << 20},
		{"nested tags in the root", "<ListBucketResult>" + strings.Repeat("<a>", tags), 1 << 20},
		{"text in pieces", "<ListBucketResult><Key>" + strings.Repeat("x<!---->", 100_000) + "</Key></ListBucketResult>", 64 << 20},
		{"attributes", "<ListBucketResult " + strings.Repeat(`a="" `, tags) + "/>", 64 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := allocated(func() { parseDocument(strings.NewReader(test.in), "ListBucketResult") })
			t.Logf("%d bytes of input, %d MB allocated", len(test.in), got>>20)
			if got > test.max {
				t.Errorf("parseDocument of %d bytes allocates %d MB, want at most %d MB", len(test.in), got>>20, test.max>>20)
			}
		})
	}
}

// Whatever a backend sends, a document is read or refused, and is not larger than what was
// sent.
func FuzzParseDocument(f *testing.F) {
	for _, doc := range []string{
		"", "<", "<ListBucketResult/>", "<ListBucketResult><Key>a</Key></ListBucketResult>", "<a><b></a></b>",
		"<ListBucketResult><a><b><c><d><e></e></d></c></b></a></ListBucketResult>",
		xmlHeader + "<!-- c --><ListBucketResult a='1'><![CDATA[x]]>&lt;&#65;</ListBucketResult>",
		"<ListBucketResult>&nosuch;</ListBucketResult>", "<!DOCTYPE a [<!ENTITY e 'e'>]><ListBucketResult>&e;</ListBucketResult>",
		"<ListBucketResult><Key>%zz</Key></ListBucketResult>", "\xef\xbb\xbf<ListBucketResult/>", "\x00\x01",
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseDocument(strings.NewReader(string(data)), "ListBucketResult")
		if err != nil {
			return
		}
		elements, size, depth := measure(doc)
		if elements > len(data)/4 || depth > maxListDepth {
			t.Errorf("%d elements, %d deep, from %d bytes: %q", elements, depth, len(data), data)
		}
		if size > 3*len(data) { // a "\xff" is refused; nothing grows but by a character in place of an invalid one
			t.Errorf("%d bytes of text from %d bytes: %q", size, len(data), data)
		}
		if doc.decodeKeys() != nil {
			return
		}
		// What was read can be written, and read again.
		again, err := parseDocument(strings.NewReader(string(appendTree(nil, &doc))), "ListBucketResult")
		if err != nil {
			t.Fatalf("%q: written and read again: %v", data, err)
		}
		if n, _, _ := measure(again); n != elements {
			t.Errorf("%q: %d elements, written and read again %d", data, elements, n)
		}
	})
}

// appendTree appends an element and everything below it. Keys are encoded, because XML
// can't hold all of them.
func appendTree(b []byte, e *element) []byte {
	b = append(b, "<"+e.name+">"...)
	for i := range e.children {
		b = appendTree(b, &e.children[i])
	}
	switch {
	case len(e.children) > 0:
	case urlEncoded(e.name):
		b = appendURIEncoded(b, e.text, false)
	default:
		b = appendText(b, e.text)
	}
	return append(b, "</"+e.name+">"...)
}

func measure(e element) (elements, size, depth int) {
	elements, size = 1, len(e.name)+len(e.text)
	for _, c := range e.children {
		n, s, d := measure(c)
		elements, size, depth = elements+n, size+s, max(depth, d)
	}
	return elements, size, depth + 1
}

// leaf returns an element with text.
func leaf(name, text string) element {
	if text == "" {
		return element{name: name}
	}
	return element{name: name, text: []byte(text)}
}

// branch returns an element with children.
func branch(name string, children ...element) element {
	return element{name: name, children: children}
}

// unmarked returns an element without the marks of the scanner.
func unmarked(e element) element {
	e.plain = false
	e.children = slices.Clone(e.children)
	for i := range e.children {
		e.children[i] = unmarked(e.children[i])
	}
	return e
}
