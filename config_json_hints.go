package main

// Hints for mistakes in the JSON of a configuration: a line, a type, a name that was
// probably meant. It knows nothing of the settings.

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// encodingError returns an error for a document that is not plain UTF-8. Editors on Windows
// write other encodings, and a JSON parser would complain about an invisible character.
func encodingError(data []byte) error {
	switch {
	case len(data) == 0:
		return errors.New("line 1, column 0: the file is empty")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("line 1, column 1: the file begins with a byte order mark (BOM); save it as UTF-8 without one")
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")), bytes.HasPrefix(data, []byte("{\x00")):
		return errors.New("line 1, column 1: the file is UTF-16; save it as UTF-8")
	}
	return nil
}

// syntaxHint returns what to do about the character at which a document stops being JSON.
func syntaxHint(data []byte, at int) string {
	if at < 0 || at >= len(data) {
		return ""
	}
	before := bytes.TrimRight(data[:at], " \t\r\n")
	switch c := data[at]; {
	case (c == '}' || c == ']') && bytes.HasSuffix(before, []byte(",")):
		return "; remove the comma before it"
	case c == '/' || c == '#':
		return "; JSON has no comments, remove it"
	case c == '\'':
		return `; strings need double quotes`
	case c == '"' && len(before) > 0 && bytes.IndexByte([]byte(`"}]el0123456789`), before[len(before)-1]) >= 0:
		return "; a comma is missing before it"
	}
	return ""
}

var byteSize = regexp.MustCompile(`^(?i)([0-9]{1,9})(?:\.0+)? ?([kmgt]?)(i?)b?$`)

// numberHint returns what to write in place of a number in quotes. It quotes only sizes:
// another value may be a secret in the wrong place.
func numberHint(path, s string, t reflect.Type) string {
	if !isInt(t) {
		return ""
	}
	field := path[strings.LastIndexByte(path, '.')+1:]
	part := byteSize.FindStringSubmatch(s)
	if field != "max_file_size" && field != "bytes_per_second" {
		if part != nil && part[2] == "" {
			return "; write it without quotes"
		}
		return ""
	}
	if part == nil {
		return "; write the number of bytes, without quotes"
	}
	base := int64(1000)
	if part[3] != "" {
		base = 1024
	}
	n, _ := new(big.Int).SetString(part[1], 10)
	exponent := int64(1 + strings.Index("kmgt", strings.ToLower(part[2])))
	if part[2] == "" {
		exponent = 0
	}
	n.Mul(n, new(big.Int).Exp(big.NewInt(base), big.NewInt(exponent), nil))
	return fmt.Sprintf("; write the number of bytes, without quotes: %s is %s", s, n)
}

// unknownHint guesses which field was meant: one of the same object with a similar name, or
// one with this name elsewhere.
func unknownHint(root, t reflect.Type, key string) string {
	best, distance := "", 3
	for _, tag := range tagsOf(t) {
		d := editDistance(simplified(key), simplified(tag))
		if len(key) >= minStem && strings.HasPrefix(simplified(tag), simplified(key)) {
			d = 0
		}
		if d < distance && d <= len(tag)/2 {
			best, distance = tag, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	places := placesOf("", root, key)
	slices.SortFunc(places, func(a, b string) int { return len(a) - len(b) })
	if len(places) > 0 {
		return "; it belongs into " + strings.Join(places, " or ")
	}
	return ""
}

// minStem is how many letters at the beginning of a name identify it.
const minStem = 5

func simplified(key string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(key))
}

func tagsOf(t reflect.Type) []string {
	var tags []string
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("json"); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

// placesOf returns the paths of the objects that have a field.
func placesOf(path string, t reflect.Type, key string) []string {
	var places []string
	switch t.Kind() {
	case reflect.Pointer:
		return placesOf(path, t.Elem(), key)
	case reflect.Map:
		return placesOf(path+".NAME", t.Elem(), key)
	case reflect.Slice:
		return placesOf(path+"[]", t.Elem(), key)
	case reflect.Struct:
		for i := range t.NumField() {
			tag := t.Field(i).Tag.Get("json")
			if tag == key {
				where := strings.TrimPrefix(path, ".")
				if where == "" {
					where = "the top level of the file"
				}
				places = append(places, where)
			} else if tag != "" {
				places = append(places, placesOf(path+"."+tag, t.Field(i).Type, key)...)
			}
		}
	}
	return places
}

// editDistance returns how many letters must be changed, inserted or removed to turn one
// word into the other, or 9 if the words are too different.
func editDistance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return 9
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
