package main

// A strict decoder for JSON that people write. encoding/json keeps the last of two equal
// keys, accepts "API_KEY" for "api_key", ignores null and stops at the first wrong type.
// decodeStrict reports each of these, all at once, with the path of the value in the
// document. A type with a method fromString may also be written as a string. It knows
// nothing of the settings.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A duration is written as a string that time.ParseDuration reads: "60s".
type duration time.Duration

// decodeStrict reads one JSON document into the struct that v points to. Every
// string value first goes through expand, with its path. The error joins all errors, each
// of which begins with its path.
func decodeStrict(data []byte, v any, expand func(path, value string) (string, error)) error {
	var raw json.RawMessage
	if err := encodingError(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return positioned(data, err)
	}
	// The document is well-formed from here on: Token can't fail.
	d := strictDecoder{json: json.NewDecoder(bytes.NewReader(data)), expand: expand, root: reflect.TypeOf(v).Elem()}
	d.json.UseNumber()
	d.value("", reflect.ValueOf(v).Elem())
	return errors.Join(d.errs...)
}

// positioned adds line and column to a syntax error.
func positioned(data []byte, err error) error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	before := data[:min(int(syntax.Offset), len(data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1)
	return fmt.Errorf("line %d, column %d: %w%s", line, column, err, syntaxHint(data, len(before)-1))
}

type strictDecoder struct {
	json   *json.Decoder
	expand func(path, value string) (string, error)
	root   reflect.Type // of the document, to say where an unknown field belongs
	errs   []error
}

func (d *strictDecoder) errorf(path, format string, args ...any) {
	if path == "" {
		path = wholeDocument
	}
	d.errs = append(d.errs, configError{path, fmt.Sprintf(format, args...)})
}

const wholeDocument = "the document"

// A configError says what is wrong with the value at a path of a document.
type configError struct{ path, problem string }

// Error implements error.
func (f configError) Error() string { return f.path + ": " + f.problem }

// value reads the next value into v, or reports why not and skips it.
func (d *strictDecoder) value(path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	token, _ := d.json.Token()
	switch t := token.(type) {
	case json.Delim:
		d.composite(path, t, v)
	case string:
		d.str(path, t, v)
	case json.Number:
		d.number(path, t, v)
	case bool:
		if v.Kind() != reflect.Bool {
			d.errorf(path, "must be %s, not %t", jsonTypeName(v.Type()), t)
			return
		}
		v.SetBool(t)
	case nil:
		d.errorf(path, "null is not a value; leave the field out")
	}
}

// composite reads an object or an array, of which the opening token was read, into v.
func (d *strictDecoder) composite(path string, opening json.Delim, v reflect.Value) {
	switch {
	case opening == '{' && v.Kind() == reflect.Struct:
		d.object(path, func(key string) (reflect.Value, bool) { return fieldByTag(v, key) }, nil, v.Type())
	case opening == '{' && v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		d.object(path,
			func(string) (reflect.Value, bool) { return reflect.New(v.Type().Elem()).Elem(), true },
			func(key string, elem reflect.Value) { v.SetMapIndex(reflect.ValueOf(key), elem) }, v.Type())
	case opening == '[' && v.Kind() == reflect.Slice:
		d.array(path, v)
	default:
		d.errorf(path, "must be %s", jsonTypeName(v.Type()))
		d.skip()
	}
}

// number stores a number in v. The error does not quote a number where another type
// belongs: it may be a secret without its quotes.
func (d *strictDecoder) number(path string, t json.Number, v reflect.Value) {
	if !isInt(v.Type()) {
		d.errorf(path, "must be %s, not a number", jsonTypeName(v.Type()))
		return
	}
	n, err := strconv.ParseInt(t.String(), 10, 64)
	if err != nil || v.OverflowInt(n) {
		d.errorf(path, "must be %s, not %s", jsonTypeName(v.Type()), t)
		return
	}
	v.SetInt(n)
}

// object reads the members of an object whose opening brace was read. member returns the
// place for the value of a key. done, if not nil, is called when the value was read. t is
// the type of the object.
func (d *strictDecoder) object(path string, memberOf func(string) (reflect.Value, bool), done func(string, reflect.Value), t reflect.Type) {
	seen := map[string]bool{}
	for d.json.More() {
		token, _ := d.json.Token()
		key := token.(string)
		at := strings.TrimPrefix(path+"."+key, ".")
		if seen[key] {
			d.errorf(at, "is given twice")
		}
		seen[key] = true
		v, ok := memberOf(key)
		if !ok {
			d.errorf(at, "unknown field%s", unknownHint(d.root, t, key))
			d.skipValue()
			continue
		}
		d.value(at, v)
		if done != nil {
			done(key, v)
		}
	}
	d.json.Token() // the closing brace
}

func (d *strictDecoder) array(path string, v reflect.Value) {
	v.Set(reflect.MakeSlice(v.Type(), 0, 4))
	for i := 0; d.json.More(); i++ {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(fmt.Sprintf("%s[%d]", path, i), elem)
		v.Set(reflect.Append(v, elem))
	}
	d.json.Token() // the closing bracket
}

// str never quotes the value: it may be a secret.
func (d *strictDecoder) str(path, s string, v reflect.Value) {
	parsed, isPlain := v.Addr().Interface().(interface{ fromString(string) })
	if !isPlain && v.Kind() != reflect.String && v.Type() != reflect.TypeFor[duration]() {
		d.errorf(path, "must be %s, not a string%s", jsonTypeName(v.Type()), numberHint(path, s, v.Type()))
		return
	}
	s, err := d.expand(path, s)
	if err != nil {
		d.errorf(path, "%v", err)
		return
	}
	switch {
	case isPlain:
		parsed.fromString(s)
		return
	case v.Kind() == reflect.String:
		v.SetString(s)
		return
	}
	t, err := time.ParseDuration(s)
	if err != nil || t <= 0 {
		d.errorf(path, "must be %s", jsonTypeName(v.Type()))
		return
	}
	v.SetInt(int64(t))
}

// skipValue skips the next value, and skip the rest of one whose opening brace or bracket
// was read.
func (d *strictDecoder) skipValue() {
	if token, _ := d.json.Token(); token == json.Delim('{') || token == json.Delim('[') {
		d.skip()
	}
}

func (d *strictDecoder) skip() {
	for depth := 1; depth > 0; {
		switch token, _ := d.json.Token(); token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

func fieldByTag(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if key != "" && v.Type().Field(i).Tag.Get("json") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func isInt(t reflect.Type) bool {
	return t != reflect.TypeFor[duration]() && (t.Kind() == reflect.Int || t.Kind() == reflect.Int64)
}

func jsonTypeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[duration]():
		return `a duration above zero, as a string like "60s"`
	case isInt(t):
		return "a whole number"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "an array"
	case t.Kind() == reflect.String:
		return "a string"
	}
	return "an object"
}
