package main

// The choice of an operation: by the parameters and headers of a request, from the rows of
// its method and level. The rows are in operations.go.

import (
	"net/http"
	"strings"
)

// An operation is a row of the table: what selects it, what it requires, and the function
// that runs it.
type operation struct {
	name     string
	method   string
	level    pathLevel
	selector string // the query parameter that tells it from its siblings, or ""
	header   string // the header that does, or ""
	action   action
	params   string // its other query parameters, separated by spaces; "(name)" is not forwarded
	run      func(*gateway, *exchange) *apiError
}

// classify returns the row for a request. A parameter that the row does not list
// is refused, not dropped: without it the request might do something else
// ("?append" is a write in the middle, not a replacement).
func classify(rows []*operation, h http.Header, query []parameter) (*operation, *apiError) {
	var op *operation
	for _, row := range rows {
		if row.selectedBy(h, query) {
			op = row
			break
		}
	}
	if op == nil && len(query) == 0 {
		return nil, newError(reasonMethod, "MethodNotAllowed", "")
	}
	for _, p := range query {
		if op == nil || !op.takes(p.name) {
			return nil, newNameError(reasonParameter, "NotImplemented", "the query parameter %q is not supported here", p.name)
		}
	}
	for _, p := range query {
		if err := checkParameter(p); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(op.name, "UploadPart") && !hasParameter(query, "partNumber") {
		return nil, newError(reasonParameter, "InvalidArgument", "the query parameter partNumber is missing")
	}
	if _, hasCopySource := h[copySource]; hasCopySource && op.header == "" {
		return nil, newError(reasonHeader, "InvalidRequest", "x-amz-copy-source goes with CopyObject and UploadPartCopy only")
	}
	return op, nil
}

func (op *operation) selectedBy(h http.Header, query []parameter) bool {
	_, hasHeader := h[op.header]
	return (op.header == "" || hasHeader) && (op.selector == "" || hasParameter(query, op.selector))
}

// takes reports whether a parameter is one of the operation's. A parameter without a name
// never is, although an operation without a selector has the selector "".
func (op *operation) takes(name string) bool {
	if name == op.selector {
		return name != ""
	}
	for param := range strings.FieldsSeq(op.params) {
		if param == name || isDroppedAs(param, name) {
			return true
		}
	}
	return false
}

// drops reports whether a parameter is accepted and not forwarded: without it the
// operation does the same.
func (op *operation) drops(name string) bool {
	for param := range strings.FieldsSeq(op.params) {
		if isDroppedAs(param, name) {
			return true
		}
	}
	return false
}

func isDroppedAs(param, name string) bool {
	return param[0] == '(' && param[1:len(param)-1] == name
}
