package main

// Documents of requests: read, checked against a form, and written anew. It knows forms,
// not the operations that have them.
//
// A backend gets only what the gateway has understood: the names, the texts and
// xsi:type, in UTF-8, in S3's namespace if the client's document has a namespace. What
// two parsers may read differently (comments and sections inside a text, references,
// prefixes, attributes given twice, instructions) is resolved once, here. So the bytes
// that are checked are the bytes that are sent, for every document, and no document
// needs a proof that two parsers agree on it.
//
// The new document is written while the old one arrives. Neither is ever a tree, and
// only one token of the old one is in memory: see scanner.transient.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

const maxSchemaType = 64 // bytes; AmazonCustomerByEmail has 21

// A requestForm says what a document must be.
type requestForm struct {
	root    string
	depth   int               // of elements within elements, at most; the root alone is 1
	members map[string]member // by their path below the root, "TagSet/Tag/Key"; nil: any
	refused map[string]bool   // paths that are not implemented
	visit   visit             // nil: only the form is checked
}

// A member is an element that a document may have.
type member struct {
	repeats bool // its parent may have several
	parent  bool // it has elements and no text
}

// members returns the members of a form, given by their paths. A path that ends in "+"
// may repeat. One that ends in "*" stands for every name that begins with it, because
// there is no closed list of checksums.
func members(paths ...string) map[string]member {
	m := map[string]member{}
	for _, path := range paths {
		name, repeats := strings.CutSuffix(path, "+")
		m[name] = member{repeats: repeats}
	}
	for path := range m {
		for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path[:i], '/') {
			above := m[path[:i]]
			above.parent = true
			m[path[:i]] = above
		}
	}
	return m
}

// A visit is called for each element when it has ended: children before their parent,
// and the root, whose path is "", last. Text is nil for an element with children, and
// valid only during the call. An element without children is written to the new document
// only if keep is true.
type visit func(path string, text []byte) (keep bool, err error)

// An openElement is an element whose end tag was not read yet.
type openElement struct {
	name, path string
	typed      string   // xsi:type
	around     int      // namespaces in scope around it
	begun      bool     // its start tag is written
	seen       []string // its children so far that may not repeat
}

// A rewriter reads a document and writes it anew.
type rewriter struct {
	*scanner
	form    *requestForm
	out     *heldDocument
	open    []openElement
	scope   namespaceScope
	content []byte // text of the innermost open element
	piece   []byte // memory for writeText
	spaced  bool   // the root is in a namespace
}

// rewrite reads a document of the given form and writes it to out. The memory that it
// needs meanwhile is charged to the share of out. An error is one of three kinds: that
// of source or of visit, as it is; an *apiError, for what is not implemented or for want
// of memory; and any other, for a document that is not of the form, with a text that the
// client may see.
func rewrite(f *requestForm, source io.Reader, out *heldDocument) error {
	held := holding{share: out.memory.share}
	defer held.free()
	s := newScanner(source)
	s.maxDepth, s.transient, s.memory = f.depth, true, &held
	r := &rewriter{scanner: s, form: f, out: out}
	if _, err := io.WriteString(out, xmlHeader); err != nil {
		return err
	}
	for first := true; s.members == 0 || len(r.open) > 0; first = false {
		t, err := s.next()
		if err != nil {
			return fmt.Errorf("the document must be %s: %w", f.root, noEOF(err))
		}
		if err := r.take(t, first); err != nil {
			return err
		}
	}
	return s.ends()
}

// take handles the token that was read last. It is told whether that is the first one.
func (r *rewriter) take(t tokenKind, first bool) error {
	switch outside := len(r.open) == 0; {
	case t == startToken:
		return r.begin()
	case t == endToken && outside:
		return errors.New("the end of an element that has no start")
	case t == endToken:
		return r.end(r.name.whole)
	case t == textToken && outside:
		if first {
			r.text = bytes.TrimPrefix(r.text, []byte("\ufeff")) // a byte order mark
		}
		if !blank(r.text) {
			return fmt.Errorf("the document must be %s, not text", r.form.root)
		}
	case t == textToken:
		return r.addText()
	}
	return nil
}

// begin opens the element whose start tag was read last.
func (r *rewriter) begin() error {
	e := openElement{name: r.name.local, around: len(r.scope)}
	if err := r.enter(len(r.open) + 1); err != nil {
		return err
	}
	typed, err := r.scope.enter(r.scanner)
	if err != nil {
		return err
	}
	switch parent := r.top(); {
	case !r.scope.allows(r.name.prefix):
		return errNamespace
	case parent == nil && e.name != r.form.root:
		return fmt.Errorf("the document must be %s, not another", r.form.root)
	case parent == nil:
		r.spaced = r.scope.uri(r.name.prefix) != ""
	default:
		e.path = strings.TrimPrefix(parent.path+"/"+e.name, "/")
		if err := r.admit(parent, &e); err != nil {
			return err
		}
	}
	if e.name == "Grantee" { // no other element of S3 has an attribute that means something
		if e.typed = r.scope.schemaType(typed); len(e.typed) > maxSchemaType || !isWord(e.typed) {
			return errors.New("a Grantee with an xsi:type that is not a word")
		}
	}
	if r.empty {
		r.open = append(r.open, e)
		return r.end(r.name.whole)
	}
	e.name = r.name.whole // which the end tag must repeat
	r.open = append(r.open, e)
	return nil
}

// admit checks that an element may be in its parent. The parent is now known to have
// elements, so its start tag is written.
func (r *rewriter) admit(parent, e *openElement) error {
	if r.form.refused[e.path] {
		return newError(reasonDocument, "NotImplemented", fmt.Sprintf("%s with %s is not supported", r.form.root, e.path))
	}
	if r.form.members != nil {
		m, ok := r.form.member(e.path)
		if !ok || !m.repeats && slices.Contains(parent.seen, e.name) {
			return fmt.Errorf("an element that %s does not have, or has only once", r.place(parent))
		}
		if !m.repeats {
			parent.seen = append(parent.seen, e.name)
		}
	}
	if !blank(r.content) {
		return fmt.Errorf("text between the elements of %s", r.place(parent))
	}
	r.content = r.content[:0]
	if parent.begun {
		return nil
	}
	parent.begun = true
	return r.writeStart(parent)
}

// member returns the member at a path. It reports false if the form has none.
func (f *requestForm) member(path string) (member, bool) {
	if m, ok := f.members[path]; ok {
		return m, true
	}
	i := strings.LastIndex(path, "/Checksum")
	if i < 0 {
		return member{}, false
	}
	name := path[i+1:]
	m, ok := f.members[path[:i]+"/Checksum*"]
	return m, ok && len(name) <= maxChecksumName && isWord(name)
}

// end closes the innermost element, whose end tag has the given name.
func (r *rewriter) end(name string) error {
	e := r.top()
	if !r.empty && e.name != name {
		return errors.New("an element that is ended by the end tag of another")
	}
	if m, ok := r.form.member(e.path); (e.begun || ok && m.parent) && !blank(r.content) {
		return fmt.Errorf("text in %s, which has elements", r.place(e))
	}
	keep := true
	if r.form.visit != nil {
		text := r.content
		if e.begun {
			text = nil
		}
		var err error
		if keep, err = r.form.visit(e.path, text); err != nil {
			return err
		}
	}
	if keep || e.begun {
		if err := r.write(e); err != nil {
			return err
		}
	}
	r.scope = r.scope[:e.around]
	r.open, r.content, r.empty = r.open[:len(r.open)-1], r.content[:0], false
	return nil
}

func (r *rewriter) top() *openElement {
	if len(r.open) == 0 {
		return nil
	}
	return &r.open[len(r.open)-1]
}

// place returns the path of an element, for an error. It quotes only names that the
// form has.
func (r *rewriter) place(e *openElement) string {
	if r.form.members == nil || e.path == "" {
		return r.form.root
	}
	return r.form.root + "/" + e.path
}

// addText appends to the text of the innermost element, which comes in parts if it has
// comments or sections.
func (r *rewriter) addText() (err error) {
	if len(r.content)+len(r.text) > maxToken {
		return errTooLarge
	}
	r.content, err = r.memory.append(r.content, r.text)
	return err
}

// write writes an element that has ended: all of it, or only the end tag if it has
// children.
func (r *rewriter) write(e *openElement) error {
	if !e.begun {
		if err := r.writeStart(e); err != nil {
			return err
		}
		if err := r.writeText(r.content); err != nil {
			return err
		}
	}
	_, err := io.WriteString(r.out, "</"+bare(e.name)+">")
	return err
}

func (r *rewriter) writeStart(e *openElement) error {
	tag := "<" + bare(e.name)
	if len(r.open) == 1 && r.spaced {
		tag += ` xmlns="` + s3Namespace + `"`
	}
	if e.typed != "" {
		tag += ` xmlns:xsi="` + schemaNamespace + `" xsi:type="` + e.typed + `"`
	}
	_, err := io.WriteString(r.out, tag+">")
	return err
}

// writeText writes text in pieces, so that it takes little memory even where each
// character is escaped.
func (r *rewriter) writeText(text []byte) error {
	for len(text) > 0 {
		n := min(len(text), 512)
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n++
		}
		r.piece = appendText(r.piece[:0], text[:n])
		if _, err := r.out.Write(r.piece); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// bare returns a name without its prefix.
func bare(name string) string {
	if i := strings.IndexByte(name, ':'); i > 0 && i < len(name)-1 {
		return name[i+1:]
	}
	return name
}
