package main

// The operation table: every request that is answered is one row of it, by its
// AWS name. What is not in the table is refused with 501 and never forwarded:
// a sub-resource that nobody thought of ("PUT /bucket?policy") would be run
// with the rights of the backend's owner.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// An operation is a row: what selects it, what it takes to be allowed, and the
// function that runs it.
type operation struct {
	name     string
	method   string
	level    level
	selector string // the query parameter that tells it from its siblings, or ""
	header   string // the header that does, or ""
	action   action
	params   string // query parameters it takes besides, separated by spaces
	run      func(*gateway, *exchange) *apiError
}

const (
	overrides = "response-cache-control response-content-disposition response-content-encoding " +
		"response-content-language response-content-type response-expires"
	listParams = "prefix delimiter max-keys encoding-type"
)

// operations in the order of the levels. Of the rows of one method and level,
// the first whose selector or header is in the request is the one; the row
// without either comes last.
var operations = []operation{
	{"ListBuckets", "GET", serviceLevel, "", "", actionRead, "prefix max-buckets continuation-token", (*gateway).listBuckets},

	{"HeadBucket", "HEAD", bucketLevel, "", "", actionRead, "", (*gateway).headBucket},
	{"ListObjectsV2", "GET", bucketLevel, "list-type", "", actionRead, listParams + " start-after continuation-token fetch-owner", (*gateway).listObjectsV2},
	{"ListObjects", "GET", bucketLevel, "", "", actionRead, listParams + " marker continuation-token start-after fetch-owner", (*gateway).listObjects},
	{"CreateBucket", "PUT", bucketLevel, "", "", actionAdmin, "", (*gateway).bucketsAreDeclared},
	{"DeleteBucket", "DELETE", bucketLevel, "", "", actionAdmin, "", (*gateway).bucketsAreDeclared},

	{"GetObject", "GET", objectLevel, "", "", actionRead, "versionId partNumber " + overrides, (*gateway).getObject},
	{"HeadObject", "HEAD", objectLevel, "", "", actionRead, "versionId partNumber " + overrides, (*gateway).headObject},
	{"CopyObject", "PUT", objectLevel, "", "X-Amz-Copy-Source", actionWrite, "", (*gateway).notImplemented},
	{"PutObject", "PUT", objectLevel, "", "", actionWrite, "", (*gateway).putObject},
	{"DeleteObjectVersion", "DELETE", objectLevel, "versionId", "", actionAdmin, "", (*gateway).deleteObject},
	{"DeleteObject", "DELETE", objectLevel, "", "", actionWrite, "", (*gateway).deleteObject},
}

// patterns of the levels for ServeMux, to which the gateway hands a path of the
// same shape.
var patterns = map[level]string{
	serviceLevel: "/{$}",
	bucketLevel:  "/{bucket}",
	objectLevel:  "/{bucket}/{key}",
}

// newMux routes by method and level; what is left is chosen by classify.
func newMux(g *gateway) *http.ServeMux {
	mux := http.NewServeMux()
	for level, pattern := range patterns {
		for _, method := range methodsOf(level) {
			rows := rowsOf(level, method)
			mux.HandleFunc(method+" "+pattern, func(w http.ResponseWriter, _ *http.Request) {
				g.serve(w.(*exchange), rows)
			})
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			g.serve(w.(*exchange), nil)
		})
	}
	return mux
}

func rowsOf(level level, method string) []*operation {
	var rows []*operation
	for i := range operations {
		if op := &operations[i]; op.level == level && op.method == method {
			rows = append(rows, op)
		}
	}
	return rows
}

// methodsOf returns the methods that a level's Allow header names, sorted.
func methodsOf(level level) []string {
	var methods []string
	for _, op := range operations {
		if op.level == level && !slices.Contains(methods, op.method) {
			methods = append(methods, op.method)
		}
	}
	slices.Sort(methods)
	return methods
}

// classify returns the row for a request, and the query its backend gets. A
// parameter that the row does not list is refused, not dropped: without it the
// request might do something else ("?append" is a write in the middle, not a
// replacement).
func classify(rows []*operation, r *http.Request, level level, query []parameter) (*operation, []parameter, *apiError) {
	var op *operation
	for _, row := range rows {
		if row.selectedBy(r.Header, query) {
			op = row
			break
		}
	}
	query = withoutAuthentication(query)
	if op == nil && len(query) == 0 {
		return nil, nil, methodNotAllowed(level)
	}
	for _, p := range query {
		if op == nil || !op.takes(p.name) {
			return nil, nil, newError("NotImplemented", fmt.Sprintf("the query parameter %q is not supported here", shortened(p.name, 64)))
		}
		if strings.HasPrefix(p.name, "response-") && strings.ContainsFunc(p.value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return nil, nil, newError("InvalidArgument", fmt.Sprintf("%s holds a control character", p.name))
		}
	}
	return op, query, nil
}

func (op *operation) selectedBy(h http.Header, query []parameter) bool {
	if op.header != "" {
		_, ok := h[op.header]
		return ok
	}
	return op.selector == "" || has(query, op.selector)
}

func (op *operation) takes(name string) bool {
	return name == op.selector || slices.Contains(strings.Fields(op.params), name)
}

func methodNotAllowed(level level) *apiError {
	e := newError("MethodNotAllowed", "")
	e.header = http.Header{"Allow": {strings.Join(methodsOf(level), ", ")}}
	return e
}

// withoutAuthentication drops the parameters of a presigned URL, which are the
// client's credentials, and x-id, with which SDKs name the operation for logs.
func withoutAuthentication(query []parameter) []parameter {
	return slices.DeleteFunc(query, func(p parameter) bool {
		switch p.name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
			"X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token", "x-id":
			return true
		}
		return false
	})
}

func has(query []parameter, name string) bool {
	return slices.ContainsFunc(query, func(p parameter) bool { return p.name == name })
}

// get returns the value of a parameter, or "".
func get(query []parameter, name string) string {
	for _, p := range query {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

func shortened(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
