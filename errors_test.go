package main

import (
	"errors"
	"fmt"
	"net/url"
	"testing"
	"unicode/utf8"
)

// Every code of the table has the status of an error.
func TestS3Errors(t *testing.T) {
	for code, known := range s3Errors {
		e := newError(reasonInternal, code, "")
		if e.Status < 400 || e.Status > 599 || e.Message != known.message || known.message == "" || e.Code != code {
			t.Errorf("newError(%s) = %+v", code, e)
		}
	}
	if e := newError(reasonInternal, "InvalidRequest", "why"); e.Message != "why" || e.Status != 400 {
		t.Errorf("newError = %+v, want status 400 and the message given", e)
	}
	if got := fmt.Sprint(badGateway(errors.New("x"))); got != "BadGateway: x" {
		t.Errorf("badGateway = %q, want BadGateway: x", got)
	}
	for _, key := range []string{"a b+c", "\x01"} {
		if got, err := url.QueryUnescape(uriEncode(key, false)); got != key || err != nil || !utf8.ValidString(got) {
			t.Errorf("uriEncode(%q) is undone to %q, %v", key, got, err)
		}
	}
}
