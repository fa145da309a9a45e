package main

// The reader of XML documents. It knows the syntax of XML, not the documents of S3.
//
// A scanner reads elements with text. It checks attributes, comments and processing
// instructions, and skips them. It refuses a document type, and so every entity except
// the five that XML predefines. It keeps what it reads as it came, and texts are slices
// of that, so a list costs few allocations. It is written by hand because encoding/xml
// takes fifteen times as long for a list of 1,000 keys.
//
//	document    = { space | comment | instruction } element
//	element     = "<" name { attribute } "/>" | "<" name { attribute } ">" content "</" name ">"
//	attribute   = name "=" ( "'" text "'" | '"' text '"' )
//	content     = { element | text | "<![CDATA[" text "]]>" | comment | instruction }
//	comment     = "<!--" text without "--" "-->"
//	instruction = "<?" name text "?>"
//
// It refuses what encoding/xml refuses, and more of what is not well-formed: text before
// the document, a reference to a surrogate, an incomplete XML declaration. Names must be
// ASCII, as all names of S3 are. FuzzScan checks that both read the same from a document
// that both accept.
//
// Namespaces mean nothing here: of a name, what counts is the part after its prefix.
// Servers use several namespaces, or none, for the same documents. For a document of a
// client they matter: see xml_namespaces.go.
// https://www.w3.org/TR/xml/

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxListDocument  = 16 << 20 // bytes; 1,000 keys of 1,024 bytes, each byte as %XY, have 3 MiB
	maxErrorDocument = 64 << 10 // bytes; S3's errors have less than 2 KiB
	maxToken         = 64 << 10 // bytes of a tag or a text
	maxListDepth     = 5        // ListBucketResult/Contents/Owner/ID is 4
	maxListMembers   = 10_000   // elements in one page; S3 sends at most 1,000 entries

	minBlock = 4 << 10   // bytes of memory for input, at least
	maxBlock = 1 << 20   // bytes allocated at once for input, whatever length it declares
	maxSlab  = 16 * 1024 // elements allocated at once

	elementSize = 72 // bytes of memory
)

// An element of a document: one with text, or one with children.
type element struct {
	name     string // without its prefix
	text     []byte // a slice of the input; nil if there is none
	plain    bool   // the text is known to need no escaping
	children []element
}

// setText replaces the text of the element.
func (e *element) setText(text string) { e.text, e.plain = []byte(text), false }

// child returns the text of the first child with the given name, or "".
func (e element) child(name string) string {
	for _, c := range e.children {
		if c.name == name {
			return string(c.text)
		}
	}
	return ""
}

// first returns the first child with the given name, or nil.
func (e *element) first(name string) *element {
	for i := range e.children {
		if e.children[i].name == name {
			return &e.children[i]
		}
	}
	return nil
}

// count returns the number of children with the given name.
func (e *element) count(name string) int {
	n := 0
	for i := range e.children {
		if e.children[i].name == name {
			n++
		}
	}
	return n
}

// A tokenKind is the kind of a token: a part of a document that is read at once.
type tokenKind int

const (
	startToken tokenKind = iota
	endToken
	textToken
	commentToken
	instructionToken
)

// A scanner reads one document. Once its elements are not needed any more, reset makes
// it read another into the same memory. A scanner is not safe for concurrent use.
type scanner struct {
	source     io.Reader
	ended      bool     // source returned io.EOF
	read       int      // bytes read from source
	maxDepth   int      // of elements within elements
	maxMembers int      // elements in the document
	transient  bool     // a text is not needed once the next token is read: its memory is reused
	memory     *holding // counts the memory for data and elements; nil: not counted

	data []byte // from source; texts before pos are decoded in place
	pos  int    // where the next token begins

	name       *qualifiedName // of the last tag
	attributes []byte         // of the last start tag, as written: each was read by attribute
	empty      bool           // the last start tag is its own end
	text       []byte         // the last text, decoded

	members  int       // elements so far
	siblings []element // the children so far of each open element, the innermost last
	slab     []element // the children of elements that have ended

	names [64]*qualifiedName // by a hash: a document has few names, which repeat
}

// A qualifiedName is a name as written, and its parts. A leading or trailing colon
// belongs to the local part, as in encoding/xml.
type qualifiedName struct{ whole, prefix, local string }

// parseDocument reads a document with the given root element, or with any if that is
// empty. An answer that is cut off, is not XML, or is larger or deeper than a list needs
// is an error. What follows the document is not read.
func parseDocument(r io.Reader, root string) (element, error) {
	return newScanner(r).document(root)
}

func newScanner(r io.Reader) *scanner {
	return &scanner{source: r, maxDepth: maxListDepth, maxMembers: maxListMembers * 16}
}

// reset makes the scanner read another document into the memory of the previous one.
// The size is in bytes; -1 means that it is not known.
func (s *scanner) reset(r io.Reader, size int64) {
	data := slices.Grow(s.data[:0], int(min(max(size, 0), maxBlock))+bytes.MinRead)
	*s = scanner{source: r, maxDepth: maxListDepth, maxMembers: maxListMembers * 16, data: data, siblings: s.siblings[:0], slab: s.slab[:0], names: s.names}
}

// room returns the size of the memory for data and elements, in bytes.
func (s *scanner) room() int { return cap(s.data) + (cap(s.siblings)+cap(s.slab))*elementSize }

// reusable reports whether the scanner holds no more memory than lists need.
func (s *scanner) reusable() bool {
	s.source = nil
	return s.read <= maxBlock && cap(s.siblings) <= maxSlab
}

// document reads to the end of the root element and returns it. The root must have the
// given name, unless that is empty.
func (s *scanner) document(root string) (element, error) {
	for start := true; ; start = false {
		t, err := s.next()
		if err != nil {
			return element{}, fmt.Errorf("the document must be %s: %w", root, noEOF(err))
		}
		switch t {
		case startToken:
			if root != "" && s.name.local != root {
				return element{}, fmt.Errorf("the document must be %s, not %s", root, rootName(s.name.local))
			}
			if err := s.element(1); err != nil {
				return element{}, err
			}
			return s.siblings[0], nil
		case textToken:
			if start {
				s.text = bytes.TrimPrefix(s.text, []byte("\ufeff")) // a byte order mark
			}
			if !blank(s.text) {
				return element{}, fmt.Errorf("the document must be %s, not text", root)
			}
		case endToken:
			return element{}, errors.New("the end of an element that has no start")
		}
	}
}

// ends returns an error if anything but white space and comments follows the document.
func (s *scanner) ends() error {
	for {
		t, err := s.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case t == textToken && !blank(s.text):
			return errors.New("text after the document")
		case t != textToken && t != commentToken:
			return errors.New("something after the document")
		}
	}
}

// element reads to the end of the element whose start tag was read last, and appends
// it to its siblings.
func (s *scanner) element(depth int) error {
	if err := s.enter(depth); err != nil {
		return err
	}
	e := element{name: s.name.local}
	name, first := s.name.whole, len(s.siblings)
	for closed := s.empty || s.plainText(&e, name); !closed && !s.closes(name); {
		t, err := s.next()
		if err != nil {
			return noEOF(err)
		}
		switch t {
		case startToken:
			if err := s.element(depth + 1); err != nil {
				return err
			}
		case textToken:
			if e.text == nil {
				e.text = s.text
			} else { // after a comment or the like
				e.text = append(e.text, s.text...) // a copy: a slice of data has no room
			}
		case endToken:
			if s.name.whole != name {
				return errors.New("an element that is ended by another name")
			}
			closed = true
		}
	}
	return s.put(e, first)
}

// put appends an element that has ended to its siblings. Its children are the siblings
// from first on.
func (s *scanner) put(e element, first int) error {
	if len(s.siblings) > first { // text between elements is layout
		children, err := s.keep(s.siblings[first:])
		if err != nil {
			return err
		}
		e.text, e.children = nil, children
	}
	room := cap(s.siblings)
	s.siblings = append(s.siblings[:first], e)
	return s.memory.reserve((cap(s.siblings) - room) * elementSize)
}

var errTooDeep = errors.New("a document with too many elements, or nested too deeply")

// enter counts an element at the given depth. The root has depth 1.
func (s *scanner) enter(depth int) error {
	if s.members++; depth > s.maxDepth || s.members > s.maxMembers {
		return errTooDeep
	}
	return nil
}

// closes skips the end tag with the given name. It reports false if that is not what
// comes next, or if not all of it was read from source.
func (s *scanner) closes(name string) bool {
	d := s.data[s.pos:]
	n := len("</") + len(name)
	if len(d) <= n || d[0] != '<' || d[1] != '/' || string(d[2:n]) != name || d[n] != '>' {
		return false
	}
	s.pos += n + 1
	return true
}

// plainText reads to the end of an element whose content is a text of plain characters,
// as that of most elements of a list. It reports false for any other content.
func (s *scanner) plainText(e *element, name string) bool {
	d := s.data[s.pos:]
	n := skipPlain(d, 0)
	if n == 0 || n > maxToken {
		return false
	}
	s.pos += n
	if !s.closes(name) {
		s.pos -= n
		return false
	}
	e.text, e.plain = d[:n:n], true
	return true
}

// keep copies elements into the slab, where they stay.
func (s *scanner) keep(children []element) ([]element, error) {
	if cap(s.slab)-len(s.slab) < len(children) { // the full slab stays alive with its elements
		size := max(min(2*cap(s.slab), maxSlab), len(children), 16)
		if err := s.memory.reserve(size * elementSize); err != nil {
			return nil, err
		}
		s.slab = make([]element, 0, size)
	}
	start := len(s.slab)
	s.slab = append(s.slab, children...)
	return s.slab[start:len(s.slab):len(s.slab)], nil
}

// qualified returns the name that the bytes spell, or nil if they are not a name. A
// name that repeats is allocated once.
func (s *scanner) qualified(name []byte) *qualifiedName {
	if len(name) == 0 {
		return nil
	}
	known := &s.names[(int(name[0])*5+len(name)*7)%len(s.names)]
	if *known != nil && (*known).whole == string(name) {
		return *known
	}
	if !validName(name) {
		return nil
	}
	q := &qualifiedName{whole: string(name), local: string(name)}
	if i := strings.IndexByte(q.whole, ':'); i > 0 && i < len(name)-1 {
		q.prefix, q.local = q.whole[:i], q.whole[i+1:]
	}
	if len(name) <= 32 {
		*known = q
	}
	return q
}

// next reads a token of at most maxToken bytes. It returns io.EOF only between two
// tokens.
func (s *scanner) next() (tokenKind, error) {
	for {
		d := s.data[s.pos:]
		t, n, err := s.scan(d)
		switch {
		case err != nil:
			return 0, err
		case n > maxToken:
			return 0, errTooLarge
		case n > 0:
			s.pos += n
			return t, nil
		case s.ended && len(d) == 0:
			return 0, io.EOF
		case s.ended && d[0] != '<': // text outside all elements: nothing follows
			s.text, s.pos = d, len(s.data)
			return textToken, nil
		case s.ended:
			return 0, io.ErrUnexpectedEOF
		}
		if err := s.fill(len(d)); err != nil {
			return 0, err
		}
	}
}

// rootName returns a name of a root element if it is one that is known to come in place
// of another document. It is for errors, which must not quote the backend.
func rootName(name string) string {
	switch name {
	case "Error", "html", "HTML", "ListBucketResult", "ListVersionsResult", "ListMultipartUploadsResult", "ListAllMyBucketsResult":
		return name
	}
	return "another"
}

var errTooLarge = errors.New("a document that is too large, or has a part that is")

// fill reads more input. The pending bytes are the beginning of a token; fill reads at
// least as many again, so that a token that arrives byte by byte is not scanned anew
// for each of them.
func (s *scanner) fill(pending int) error {
	if pending > maxToken || s.read > maxListDocument {
		return errTooLarge
	}
	if len(s.data) == cap(s.data) {
		if err := s.makeRoom(pending); err != nil {
			return err
		}
	}
	room := s.data[len(s.data):cap(s.data)]
	for read := 0; read < min(max(pending, 1), len(room)) && !s.ended; {
		n, err := s.source.Read(room[read:])
		read, s.read = read+n, s.read+n
		s.data = s.data[:len(s.data)+n]
		if s.ended = err == io.EOF; err != nil && !s.ended {
			return err
		}
	}
	return nil
}

// makeRoom moves the pending bytes, which are not part of a token yet, to where more
// can follow. Texts that are kept stay in the previous memory.
func (s *scanner) makeRoom(pending int) error {
	if s.transient && len(s.data) > 0 && pending <= cap(s.data)/2 {
		s.data, s.pos = s.data[:copy(s.data, s.data[s.pos:])], 0
		return nil
	}
	size := max(minBlock, min(2*cap(s.data), maxBlock))
	if err := s.memory.reserve(size); err != nil {
		return err
	}
	grown := make([]byte, pending, size)
	copy(grown, s.data[s.pos:])
	if s.transient {
		s.memory.release(cap(s.data))
	}
	s.data, s.pos = grown, 0
	return nil
}

// scan reads the token at the start of d into s and returns its length, or 0 if d ends
// before the token does.
func (s *scanner) scan(d []byte) (tokenKind, int, error) {
	switch {
	case len(d) < 2:
		return 0, 0, nil
	case d[0] != '<':
		n, decoded, err := characters(d, 0, '<')
		if err != nil || n == len(d) {
			return 0, 0, err
		}
		if s.text = d[:n:n]; !decoded {
			s.text = decode(s.text, true)
		}
		return textToken, n, nil
	case d[1] == '/':
		n, err := s.endTag(d)
		return endToken, n, err
	case d[1] == '?':
		n, err := skipInstruction(d)
		return instructionToken, n, err
	case d[1] == '!':
		return s.declaration(d)
	}
	n, err := s.startTag(d)
	return startToken, n, err
}

var errTag = errors.New("a tag that is not well-formed")

func (s *scanner) startTag(d []byte) (int, error) {
	i := skipName(d, 1)
	if i == len(d) {
		return 0, nil
	}
	if s.name, s.empty, s.attributes = s.qualified(d[1:i]), false, nil; s.name == nil {
		return 0, errTag
	}
	for start := i; ; {
		i = skipSpace(d, i)
		switch {
		case i == len(d):
			return 0, nil
		case d[i] == '>':
			return i + 1, nil
		case d[i] == '/' && i+1 == len(d):
			return 0, nil
		case d[i] == '/' && d[i+1] == '>':
			s.empty = true
			return i + 2, nil
		}
		_, _, n, err := s.attribute(d[i:])
		if err != nil || n == 0 {
			return 0, err
		}
		i += n
		s.attributes = d[start:i]
	}
}

// attribute reads the attribute at the start of d. It returns its name, its value, which
// is not decoded, and its length, or 0 if d ends before the attribute does.
func (s *scanner) attribute(d []byte) (name *qualifiedName, value []byte, n int, err error) {
	i := skipName(d, 0)
	if i == len(d) {
		return nil, nil, 0, nil
	}
	name = s.qualified(d[:i])
	if i = skipSpace(d, i); i == len(d) {
		return nil, nil, 0, nil
	}
	if name == nil || d[i] != '=' {
		return nil, nil, 0, errTag
	}
	if i = skipSpace(d, i+1); i == len(d) {
		return nil, nil, 0, nil
	}
	if d[i] != '"' && d[i] != '\'' {
		return nil, nil, 0, errTag
	}
	end, _, err := characters(d, i+1, d[i])
	if err != nil || end == len(d) {
		return nil, nil, 0, err
	}
	return name, d[i+1 : end], end + 1, nil
}

func (s *scanner) endTag(d []byte) (int, error) {
	i := skipName(d, 2)
	end := skipSpace(d, i)
	if end == len(d) {
		return 0, nil
	}
	if s.name = s.qualified(d[2:i]); s.name == nil || d[end] != '>' {
		return 0, errTag
	}
	return end + 1, nil
}

// xmlDeclaration matches the one instruction that is not skipped unread.
var xmlDeclaration = regexp.MustCompile(`^<\?xml\s+version\s*=\s*("1\.0"|'1\.0')` +
	`(\s+encoding\s*=\s*(?i:"utf-8"|'utf-8'))?(\s+standalone\s*=\s*("yes"|"no"|'yes'|'no'))?\s*\?>$`)

func skipInstruction(d []byte) (int, error) {
	i := skipName(d, 2)
	n := bytes.Index(d[i:], []byte("?>"))
	switch {
	case i < len(d) && (!validName(d[2:i]) || d[i] >= utf8.RuneSelf):
		return 0, errors.New("a processing instruction without a name")
	case n < 0:
		return 0, nil
	}
	n += i + len("?>")
	if string(d[2:i]) == "xml" && !xmlDeclaration.Match(d[:n]) {
		return 0, errors.New("not a declaration of XML 1.0 in UTF-8")
	}
	return n, nil
}

// declaration reads what begins with "<!": a comment or a CDATA section.
func (s *scanner) declaration(d []byte) (tokenKind, int, error) {
	const comment, section = "<!--", "<![CDATA["
	hasPrefix := func(with string) bool { n := min(len(with), len(d)); return string(d[:n]) == with[:n] }
	switch {
	case hasPrefix(comment):
		n := bytes.Index(d[min(len(comment), len(d)):], []byte("--")) + len(comment)
		if n < len(comment) || n+2 == len(d) {
			return 0, 0, nil
		}
		if d[n+2] != '>' {
			return 0, 0, errors.New(`a comment with "--"`)
		}
		return commentToken, n + len("-->"), nil
	case hasPrefix(section):
		n := bytes.Index(d[min(len(section), len(d)):], []byte("]]>")) + len(section)
		if n < len(section) {
			return 0, 0, nil
		}
		if _, _, err := characters(d[:n+1], len(section), 0); err != nil {
			return 0, 0, err
		}
		s.text = decode(d[len(section):n:n], false)
		return textToken, n + len("]]>"), nil
	}
	return 0, 0, errors.New("a document type is not allowed")
}

// The classes of bytes: those of names; and those that stand for themselves in text,
// so that they need no decoding when read and no escaping when written.
const (
	ofName = 1 << iota
	plain
)

var bytesAre = func() (is [256]byte) {
	for c := range is {
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '_' || c == ':' || c == '.' || c == '-' {
			is[c] |= ofName
		}
		if c >= ' ' && c < 0x7f && c != '<' && c != '&' && c != '>' && c != '"' && c != '\'' {
			is[c] |= plain
		}
	}
	return is
}()

// characters checks the text from d[i] to the byte end, and returns the index of that,
// or len(d) if d does not have it. It reports whether the text is decoded already, so
// that decode would not change it.
//
//	text = { character | "&" ( "lt" | "gt" | "amp" | "quot" | "apos" | "#" digits | "#x" hex digits ) ";" }
//
// In a CDATA section, for which end is 0, "&" and "<" stand for themselves. The loop has
// one case for each byte that is special, and so a complexity above 15.
func characters(d []byte, i int, end byte) (n int, decoded bool, err error) {
	decoded = true
	for ; ; i++ {
		if i = skipPlain(d, i); i == len(d) {
			return i, decoded, nil
		}
		switch c := d[i]; {
		case c == end && end != 0:
			return i, decoded, nil
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(d[i:])
			switch {
			case size == 1 && !utf8.FullRune(d[i:]):
				return len(d), decoded, nil
			case size == 1 || !isCharacter(r):
				return 0, false, errors.New("text that is not valid UTF-8, or has a character that XML does not allow")
			}
			i += size - 1
		case c == '&' && end != 0:
			size := bytes.IndexByte(d[i:], ';')
			if size < 0 {
				return len(d), decoded, nil
			}
			if _, ok := dereference(d[i+1 : i+size]); !ok {
				return 0, false, errors.New("a reference to no character of XML")
			}
			decoded = false
			i += size
		case c == '\r':
			decoded = false
		case c == '<' && end != 0:
			return 0, false, errors.New(`a "<" in an attribute`)
		case c == '>' && end == '<' && i >= 2 && d[i-1] == ']' && d[i-2] == ']':
			return 0, false, errors.New(`a "]]>" in text`)
		case c < ' ' && c != '\t' && c != '\n':
			return 0, false, errors.New("text with a control character")
		}
	}
}

// decode replaces references, and line ends other than "\n", in place, and returns the
// text. No character is longer than what stands for it.
func decode(t []byte, references bool) []byte {
	n := 0
	for i := 0; i < len(t); i++ {
		switch c := t[i]; {
		case c == '&' && references:
			size := bytes.IndexByte(t[i:], ';')
			r, _ := dereference(t[i+1 : i+size])
			n += utf8.EncodeRune(t[n:], r)
			i += size
		case c == '\r':
			t[n] = '\n'
			n++
			if i+1 < len(t) && t[i+1] == '\n' {
				i++
			}
		default:
			clean := 1
			for i+clean < len(t) && t[i+clean] != '&' && t[i+clean] != '\r' {
				clean++
			}
			n += copy(t[n:], t[i:i+clean])
			i += clean - 1
		}
	}
	return t[:n:n]
}

// dereference returns the character that a reference stands for. The reference comes
// without its "&" and ";". It reports false if there is no such character.
func dereference(reference []byte) (rune, bool) {
	switch string(reference) {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, ok := bytes.CutPrefix(reference, []byte("#"))
	if !ok {
		return 0, false
	}
	if hex, ok := bytes.CutPrefix(digits, []byte("x")); ok {
		return numbered(hex, 16)
	}
	return numbered(digits, 10)
}

// numbered returns the character with the number that the digits of a base spell. It
// reports false if they spell none.
func numbered(digits []byte, base rune) (rune, bool) {
	r := rune(0)
	for _, c := range digits {
		digit := base
		switch lower := c | 0x20; {
		case '0' <= c && c <= '9':
			digit = rune(c - '0')
		case 'a' <= lower && lower <= 'f':
			digit = rune(lower-'a') + 10
		}
		if r = r*base + digit; digit >= base || r > utf8.MaxRune {
			return 0, false
		}
	}
	return r, len(digits) > 0 && isCharacter(r)
}

// isCharacter reports whether XML 1.0 allows a character (section 2.2).
func isCharacter(r rune) bool {
	return r >= ' ' && r < 0xd800 || r > 0xdfff && r < 0xfffe || r > 0xffff && r <= utf8.MaxRune ||
		r == '\t' || r == '\n' || r == '\r'
}

func skipName(d []byte, i int) int {
	for i < len(d) && bytesAre[d[i]]&ofName != 0 {
		i++
	}
	return i
}

func skipPlain(d []byte, i int) int {
	for i < len(d) && bytesAre[d[i]]&plain != 0 {
		i++
	}
	return i
}

func skipSpace(d []byte, i int) int {
	for i < len(d) && (d[i] == ' ' || d[i] == '\n' || d[i] == '\t' || d[i] == '\r') {
		i++
	}
	return i
}

func blank(t []byte) bool { return skipSpace(t, 0) == len(t) }

// validName reports whether bytes of the class ofName are a name, with one prefix at
// most.
func validName(name []byte) bool {
	if len(name) == 0 || name[0] < 'A' && name[0] != ':' { // a digit, "-" or "."
		return false
	}
	return bytes.Count(name, []byte(":")) <= 1
}
