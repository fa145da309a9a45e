package main

// What an error of a backend becomes for the client: an error with the same status and
// code, or a 502 if the backend blames the gateway. It knows codes and documents, not
// requests.

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// A blame is what a backend finds wrong with the gateway's request: its credentials, clock or
// configuration. The client can do nothing about it. The zero value means that it finds nothing of
// the kind.
type blame uint8

const (
	blamesNothing      blame = iota
	blamesKeyID              // the access key id is not known, or not of this service
	blamesSignature          // the secret access key is another
	blamesNoSignature        // the request is not signed
	blamesToken              // the session token has expired, or belongs to another key
	blamesTokenSupport       // the service takes no session token
	blamesPlace              // the region or the address is another
	blamesClock
)

// gatewayErrors are the codes with which a backend blames the gateway.
var gatewayErrors = map[string]blame{
	"InvalidAccessKeyId": blamesKeyID, "InvalidClientTokenId": blamesKeyID, "NotSignedUp": blamesKeyID, "UnrecognizedClientException": blamesKeyID,
	"AuthFailure": blamesSignature, "InvalidSecurity": blamesSignature, "SignatureDoesNotMatch": blamesSignature,
	"MissingSecurityHeader": blamesNoSignature,
	"ExpiredToken":          blamesToken, "InvalidToken": blamesToken, "RequestExpired": blamesToken, "TokenRefreshRequired": blamesToken,
	"CredentialsNotSupported":      blamesTokenSupport,
	"AuthorizationHeaderMalformed": blamesPlace, "IllegalLocationConstraintException": blamesPlace,
	"PermanentRedirect": blamesPlace, "Redirect": blamesPlace, "TemporaryRedirect": blamesPlace,
	"RequestTimeTooSkewed": blamesClock,
}

// upstreamError returns the error for the client when a backend answers with one. Status
// and code are the backend's. The message is the gateway's, because that of the backend
// may have its host, an access key or the string to sign.
func upstreamError(status int, header http.Header, body io.Reader) *apiError {
	code, condition := parseError(body)
	return errorOfBackend(status, header, code, condition)
}

// errorOfBackend is upstreamError for a document that was read already.
func errorOfBackend(status int, header http.Header, code, condition string) *apiError {
	if status < 400 || status > 599 || status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired || gatewayErrors[code] != blamesNothing {
		e := newError("BadGateway", "")
		e.upstreamCode = code
		e.cause = fmt.Errorf("the backend answered %d %s", status, code)
		return e
	}
	e := &apiError{Status: status, Code: code, condition: condition, upstreamCode: code, header: header}
	if status == http.StatusTooManyRequests { // S3's SDKs retry a SlowDown, and not every one a 429
		e.Status, e.Code = http.StatusServiceUnavailable, "SlowDown"
	}
	if e.Code == "" {
		e.Code = codeForStatus(status)
	}
	if e.Message = s3Errors[e.Code].message; e.Message == "" {
		e.Message = "the storage service refused the request"
	}
	return e
}

// codeForStatus returns the code of an error that came without a document, as in the
// answer to a HEAD.
func codeForStatus(status int) string {
	switch status {
	case 400:
		return "InvalidRequest"
	case 403:
		return "AccessDenied"
	case 404:
		return "NoSuchKey"
	case 405:
		return "MethodNotAllowed"
	case 411:
		return "MissingContentLength"
	case 412:
		return "PreconditionFailed"
	case 416:
		return "InvalidRange"
	case 501:
		return "NotImplemented"
	case 503:
		return "ServiceUnavailable"
	case 500, 502, 504:
		return "InternalError"
	}
	return strings.ReplaceAll(http.StatusText(status), " ", "")
}

// parseError reads an error document. It returns "" for a code that does not look like
// one, and for a condition that is not given.
func parseError(body io.Reader) (code, condition string) {
	doc, err := parseDocument(io.LimitReader(body, maxErrorDocument), "Error")
	if err != nil {
		return "", ""
	}
	return errorCode(&doc)
}

// errorCode returns the code of an error document and the condition that did not hold.
// Each is "" if it is missing or unknown.
func errorCode(doc *element) (code, condition string) {
	for _, name := range conditionHeaders {
		if strings.EqualFold(name, doc.child("Condition")) {
			condition = name
		}
	}
	if code = doc.child("Code"); !looksLikeCode(code) {
		code = ""
	}
	return code, condition
}

// regionInMessage finds the region in the message of S3 and MinIO: "the region 'us-east-1' is
// wrong; expecting 'eu-west-1'".
var regionInMessage = regexp.MustCompile(`expecting '([^']*)'`)

// validRegion matches the names of regions, of AWS and of others.
var validRegion = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,31}$`)

// expectedRegion returns the region that a backend says a request should have been signed for,
// or that its bucket is in; "" if it says none. The text is a peer's, and looks like a
// region.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func expectedRegion(header http.Header, doc *element) string {
	candidates := []string{header.Get("X-Amz-Bucket-Region"), doc.child("Region"), ""}
	if m := regionInMessage.FindStringSubmatch(doc.child("Message")); m != nil {
		candidates[2] = m[1]
	}
	for _, region := range candidates {
		if validRegion.MatchString(region) {
			return region
		}
	}
	return ""
}

// looksLikeCode reports whether a text is made like S3's codes, or is empty.
func looksLikeCode(code string) bool {
	for i := range len(code) {
		if c := code[i] | 0x20; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return len(code) <= 64
}

// badGateway returns the error for an answer that the gateway can't use. Only the log has
// the cause.
func badGateway(cause error) *apiError {
	e := newError("BadGateway", "")
	e.cause = cause
	return e
}

// errorInDocument returns the error that an element Error describes under a status of
// success. Its status is the one that S3 gives to the code.
func errorInDocument(e *element) *apiError {
	status := s3Errors[e.child("Code")].status
	if status < 400 {
		status = 500
	}
	code, condition := errorCode(e)
	return errorOfBackend(status, nil, code, condition)
}
