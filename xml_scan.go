package main

// XML, as far as S3's documents are made of it. A scanner reads elements with
// text; it checks attributes, comments and processing instructions, and skips
// them; a document type it refuses, and with it all entities but the five that
// XML has by itself. What it has read stays in memory as it came, and texts are
// slices of that: a list is read with few allocations. It is written by hand
// because encoding/xml takes fifteen times as long for a list of 1,000 keys.
//
//	document    = { space | comment | instruction } element
//	element     = "<" name { attribute } "/>" | "<" name { attribute } ">" content "</" name ">"
//	attribute   = name "=" ( "'" text "'" | '"' text '"' )
//	content     = { element | text | "<![CDATA[" text "]]>" | comment | instruction }
//	comment     = "<!--" text without "--" "-->"
//	instruction = "<?" name text "?>"
//
// It refuses what encoding/xml refuses, and a little more of what is not
// well-formed: text before the document, a reference to a surrogate, an XML
// declaration that is not just that. Names have to be ASCII, as all of S3's are.
// What both read, they read alike: FuzzScan.
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

const schemaNamespace = "http://www.w3.org/2001/XMLSchema-instance"

const (
	maxListDocument = 16 << 20 // bytes; 1,000 keys of 1,024 bytes, each byte as %XY, have 3 MiB
	maxToken        = 64 << 10 // bytes of a tag or a text
	maxListDepth    = 5        // ListBucketResult/Contents/Owner/ID is 4
	maxListMembers  = 10_000   // elements in one page; S3 sends at most 1,000 entries
	maxNamespaces   = 32       // declared at a time, where they are looked at

	minBlock = 4 << 10   // bytes of memory for what is read
	maxBlock = 1 << 20   // that is asked for at once, whatever the other side announces
	maxSlab  = 16 * 1024 // elements

	elementSize = 72 // bytes of memory
)

// An element of a document: one with text, or one with children.
type element struct {
	name     string // without its prefix
	text     []byte // a slice of what was read; nil if there is none
	plain    bool   // the text is known to be written as it is
	children []element
}

// setText gives the element another text.
func (e *element) setText(text string) { e.text, e.plain = []byte(text), false }

// child returns the text of the first child of a name, or "".
func (e element) child(name string) string {
	for _, c := range e.children {
		if c.name == name {
			return string(c.text)
		}
	}
	return ""
}

// first returns the first child of a name, or nil.
func (e *element) first(name string) *element {
	for i := range e.children {
		if e.children[i].name == name {
			return &e.children[i]
		}
	}
	return nil
}

// count returns the number of children of a name.
func (e *element) count(name string) int {
	n := 0
	for i := range e.children {
		if e.children[i].name == name {
			n++
		}
	}
	return n
}

// A tokenKind tells apart the parts of a document that are read at once.
type tokenKind int

const (
	startToken tokenKind = iota
	endToken
	textToken
	commentToken
	instructionToken
)

// A scanner reads one document. The memory it used may be used for another when
// the elements are not needed any more: see reset.
type scanner struct {
	source     io.Reader
	ended      bool     // source has
	read       int      // bytes, from source
	namespaces []string // that elements may have, "" if they may have none; nil: any
	maxDepth   int      // of elements within elements
	maxMembers int      // elements in the document
	transient  bool     // each text is used before the next token is read, so its memory is used again
	memory     *holding // counts the memory for data and elements; nil: not counted

	data []byte // from source; texts before pos are decoded in place
	pos  int    // where the next token begins

	name  *qualifiedName // of the last tag
	empty bool           // the last start tag is its own end
	typed xsiType        // of the last start tag, where namespaces are looked at
	text  []byte         // the last text, decoded

	members  int         // elements so far
	siblings []element   // of each element that is open, the children so far
	slab     []element   // where children come to lie when their element has ended
	declared []namespace // that are in scope, the innermost last; not kept if any may be used

	names [64]*qualifiedName // by a hash: they are few, and repeat
}

// A qualifiedName is a name as it is written, and its parts. A colon at an end is
// part of the local one, as encoding/xml has it.
type qualifiedName struct{ whole, prefix, local string }

// A namespace and the prefix declared for it; the default one has none.
type namespace struct{ prefix, name string }

// An xsiType is an attribute "type" and its prefix, which may or may not be that of
// XML Schema: see scanner.schemaType.
type xsiType struct{ prefix, value string }

func newScanner(r io.Reader) *scanner {
	return &scanner{source: r, maxDepth: maxListDepth, maxMembers: maxListMembers * 16}
}

// reset makes the scanner read another document, of a size that is known or -1,
// into the memory of the one before.
func (s *scanner) reset(r io.Reader, size int64) {
	data := slices.Grow(s.data[:0], int(min(max(size, 0), maxBlock))+bytes.MinRead)
	*s = scanner{source: r, maxDepth: maxListDepth, maxMembers: maxListMembers * 16, data: data, siblings: s.siblings[:0], slab: s.slab[:0], names: s.names}
}

// room is the memory that the scanner has for data and elements, in bytes.
func (s *scanner) room() int { return cap(s.data) + (cap(s.siblings)+cap(s.slab))*elementSize }

// reusable reports whether the scanner holds no more memory than lists need.
func (s *scanner) reusable() bool {
	s.source = nil
	return s.read <= maxBlock && cap(s.siblings) <= maxSlab
}

// document reads to the end of the root element, which has the given name, or
// any if that is empty.
func (s *scanner) document(root string) (element, error) {
	for start := true; ; start = false {
		t, err := s.next()
		if err != nil {
			return element{}, fmt.Errorf("want a document %s: %w", root, noEOF(err))
		}
		switch t {
		case startToken:
			if root != "" && s.name.local != root || !s.knows(s.name.prefix) {
				return element{}, fmt.Errorf("want a document %s, have %s", root, rootName(s.name.local))
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
				return element{}, fmt.Errorf("want a document %s, have text", root)
			}
		case endToken:
			return element{}, errors.New("the end of an element that has no start")
		}
	}
}

// ends returns an error if anything but white space and comments follows.
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

// element reads to the end of the element whose start tag was read, and puts it
// behind its siblings.
func (s *scanner) element(depth int) error {
	if err := s.enter(depth); err != nil {
		return err
	}
	if !s.knows(s.name.prefix) {
		return errors.New("an element of another namespace")
	}
	e := element{name: s.name.local}
	name, first, declared := s.name.whole, len(s.siblings), len(s.declared)
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
			s.declared = s.declared[:declared]
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

var errTooDeep = errors.New("a document with more elements, or more of them within each other, than it may have")

// enter counts an element at a depth, the root's being 1.
func (s *scanner) enter(depth int) error {
	if s.members++; depth > s.maxDepth || s.members > s.maxMembers {
		return errTooDeep
	}
	return nil
}

// closes skips the end tag of a name, if that is what comes next and is here whole.
func (s *scanner) closes(name string) bool {
	d := s.data[s.pos:]
	n := len("</") + len(name)
	if len(d) <= n || d[0] != '<' || d[1] != '/' || string(d[2:n]) != name || d[n] != '>' {
		return false
	}
	s.pos += n + 1
	return true
}

// plainText reads to the end of an element, if what comes next is a text of plain
// characters, its end tag, and nothing else: as with most elements of a list.
func (s *scanner) plainText(e *element, name string) bool {
	d, n := s.data[s.pos:], 0
	for n < len(d) && bytesAre[d[n]]&plain != 0 {
		n++
	}
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

// keep copies elements to where they can stay.
func (s *scanner) keep(children []element) ([]element, error) {
	if cap(s.slab)-len(s.slab) < len(children) { // the full one belongs to its elements now
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

// qualified returns a name, which it allocates once for many tags; nil if the
// bytes of it make none.
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

// knows reports whether an element with this prefix is in a namespace it may be in.
func (s *scanner) knows(prefix string) bool {
	switch {
	case s.namespaces == nil:
		return true
	case prefix == "xml", prefix == "xmlns": // not to be declared
		return false
	}
	return slices.Contains(s.namespaces, s.namespaceOf(prefix))
}

// namespaceOf returns the namespace that a prefix stands for. One that is not
// declared stands for itself, as encoding/xml has it.
func (s *scanner) namespaceOf(prefix string) string {
	for _, n := range slices.Backward(s.declared) {
		if n.prefix == prefix {
			return n.name
		}
	}
	return prefix
}

// schemaType returns the xsi:type of the start tag that was read last, or "".
func (s *scanner) schemaType() string {
	if s.typed.prefix == "" || s.namespaceOf(s.typed.prefix) != schemaNamespace {
		return ""
	}
	return s.typed.value
}

// declare notes the namespace that an attribute may declare.
func (s *scanner) declare(attribute *qualifiedName, value []byte) error {
	n := namespace{prefix: attribute.local}
	switch {
	case s.namespaces == nil:
		return nil
	case attribute.whole == "xmlns":
		n.prefix = ""
	case attribute.prefix != "" && attribute.prefix != "xmlns" && attribute.local == "type":
		if s.typed.prefix != "" {
			return errTag
		}
		s.typed = xsiType{attribute.prefix, string(decode(bytes.Clone(value), true))}
		return nil
	case attribute.prefix != "xmlns":
		return nil
	}
	if len(s.declared) == maxNamespaces {
		return errors.New("more namespaces than a document has")
	}
	n.name = string(decode(bytes.Clone(value), true))
	s.declared = append(s.declared, n)
	return nil
}

// next reads a token, of bounded size. It returns io.EOF between two tokens only.
func (s *scanner) next() (tokenKind, error) {
	declared := len(s.declared)
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
		case s.ended && d[0] != '<': // of no element: nothing follows
			s.text, s.pos = d, len(s.data)
			return textToken, nil
		case s.ended:
			return 0, io.ErrUnexpectedEOF
		}
		s.declared = s.declared[:declared]
		if err := s.fill(len(d)); err != nil {
			return 0, err
		}
	}
}

// rootName names the root of a document that may come in place of another; it is
// for errors, which have no words of a peer's.
func rootName(name string) string {
	switch name {
	case "Error", "html", "HTML", "ListBucketResult", "ListVersionsResult", "ListMultipartUploadsResult", "ListAllMyBucketsResult":
		return name
	}
	return "another"
}

var errTooLarge = errors.New("a document, or a part of one, that is larger than it may be")

// fill reads more. It reads as much again as a token has that is not there whole:
// then one that comes byte by byte is not looked at as often.
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

// makeRoom moves the bytes that are not read yet, of which there are pending, to
// where more can follow. Texts that stay keep the memory of before.
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

// scan reads the token that d begins with into s, and returns its length: 0 if d
// does not have its end.
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
	s.typed = xsiType{}
	if s.name, s.empty = s.qualified(d[1:i]), false; s.name == nil {
		return 0, errTag
	}
	for {
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
		n, err := s.attribute(d[i:])
		if err != nil || n == 0 {
			return 0, err
		}
		i += n
	}
}

// attribute reads the attribute that d begins with, and returns its length: 0 if
// d does not have its end.
func (s *scanner) attribute(d []byte) (int, error) {
	i := skipName(d, 0)
	if i == len(d) {
		return 0, nil
	}
	name := s.qualified(d[:i])
	if i = skipSpace(d, i); i == len(d) {
		return 0, nil
	}
	if name == nil || d[i] != '=' {
		return 0, errTag
	}
	if i = skipSpace(d, i+1); i == len(d) {
		return 0, nil
	}
	if d[i] != '"' && d[i] != '\'' {
		return 0, errTag
	}
	end, _, err := characters(d, i+1, d[i])
	if err != nil || end == len(d) {
		return 0, err
	}
	return end + 1, s.declare(name, d[i+1:end])
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

// xmlDeclaration is the one instruction that is not skipped unread.
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

// declaration reads what begins with "<!": a comment, or a section of characters.
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

// What bytes are: parts of names; and in text, those that need no second look when
// it is read or written.
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

// characters checks text from d[i] to the byte end, and returns where that is:
// len(d) if it isn't there. Text is decoded if decode has nothing to do.
//
//	text = { character | "&" ( "lt" | "gt" | "amp" | "quot" | "apos" | "#" digits | "#x" hex digits ) ";" }
//
// In a section of characters, where end is 0, an "&" and a "<" are themselves.
func characters(d []byte, i int, end byte) (n int, decoded bool, err error) {
	decoded = true
	for ; ; i++ {
		for i < len(d) && bytesAre[d[i]]&plain != 0 {
			i++
		}
		if i == len(d) {
			return i, decoded, nil
		}
		switch c := d[i]; {
		case c == end && end != 0:
			return i, decoded, nil
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(d[i:])
			if size == 1 && !utf8.FullRune(d[i:]) {
				return len(d), decoded, nil
			}
			if size == 1 || !isCharacter(r) {
				return 0, false, errors.New("text that is not valid UTF-8, or has what is no character")
			}
			i += size - 1
		case c == '&' && end != 0:
			size := bytes.IndexByte(d[i:], ';') + 1
			if size == 0 {
				return len(d), decoded, nil
			}
			if _, ok := dereference(d[i+1 : i+size-1]); !ok {
				return 0, false, errors.New("a reference that is to no character")
			}
			decoded = false
			i += size - 1
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

// decode replaces references, and line ends that are not "\n", in place: nothing
// is shorter than what it stands for. It returns what there is then.
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

// dereference returns the character that a reference, without its "&" and ";",
// is to; false if there is none.
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

// numbered returns the character that has a number, written in a base; false if there
// is none.
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

// isCharacter reports whether XML has the character: section 2.2.
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

func skipSpace(d []byte, i int) int {
	for i < len(d) && (d[i] == ' ' || d[i] == '\n' || d[i] == '\t' || d[i] == '\r') {
		i++
	}
	return i
}

func blank(t []byte) bool { return skipSpace(t, 0) == len(t) }

// validName reports whether the bytes of a name make one, with one prefix at most.
func validName(name []byte) bool {
	if len(name) == 0 || name[0] < 'A' && name[0] != ':' { // a digit, "-" or "."
		return false
	}
	return bytes.Count(name, []byte(":")) <= 1
}
