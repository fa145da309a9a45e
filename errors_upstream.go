package main

// What an error of a backend becomes for the client: an error with the same status and
// code, or a 502 if the backend blames the gateway. It knows codes and documents, not
// requests.

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
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
	"XAdminUserNotFound": blamesKeyID, // versitygw, with 404
	"AuthFailure":        blamesSignature, "InvalidSecurity": blamesSignature, "SignatureDoesNotMatch": blamesSignature,
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
//
// S3 explains its errors in a document, except to a HEAD. Who sends a page instead is a web server, or
// a TLS server that was asked in plain HTTP: the cause is a pageError then.
func upstreamError(status int, header http.Header, body io.Reader) *apiError {
	text := bufio.NewReader(io.LimitReader(body, maxErrorDocument))
	_, none := text.Peek(1)
	doc, err := parseDocument(text, "Error")
	if err != nil {
		doc = element{}
	}
	e := errorOfBackend(status, header, &doc)
	if err != nil && none == nil && status < 500 && e.reason != reasonBackendBusy && e.cause == nil {
		e.cause = &pageError{status}
		if !refusesSize(status) {
			e.reason = reasonBackendProtocol
		}
	}
	return e
}

// A pageError is the cause of an error that came without an error document of S3.
type pageError struct{ status int }

func (e *pageError) Error() string {
	return fmt.Sprintf("the backend answered %d with something that is no error document of S3", e.status)
}

func isPageError(err error) bool {
	_, is := errors.AsType[*pageError](err)
	return is
}

// refusesSize reports whether a status says that the client's body, URL or header is too large. A
// web server before an S3 server says so with a page.
func refusesSize(status int) bool {
	switch status {
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// errorOfBackend is upstreamError for a document that was read already.
func errorOfBackend(status int, header http.Header, doc *element) *apiError {
	code, condition := errorCode(doc)
	why := reasonOfBackend(status, header, code)
	said := backendWords{code: code, message: doc.child("Message")}
	if why.blamesGateway() {
		if why == reasonBackendRegion {
			said.region = expectedRegion(header, doc)
		}
		e := newError(why, "BadGateway", "")
		e.upstream = said
		switch {
		case code != "":
			e.cause = fmt.Errorf("the backend answered %d %s", status, code)
		case status < 400:
			e.cause = fmt.Errorf("the backend answered %d, a redirection", status)
		default:
			e.cause = fmt.Errorf("the backend answered %d", status)
		}
		return e
	}
	e := &apiError{Status: status, Code: code, condition: condition, reason: why, upstream: said, header: header}
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

// reasonsOfBlame are the reasons for what a backend blames the gateway for.
var reasonsOfBlame = map[blame]refusalReason{
	blamesKeyID: reasonBackendCredentials, blamesSignature: reasonBackendCredentials, blamesNoSignature: reasonBackendCredentials,
	blamesTokenSupport: reasonBackendCredentials, blamesToken: reasonBackendToken, blamesPlace: reasonBackendRegion, blamesClock: reasonBackendClock,
}

// reasonOfBackend returns the reason for an answer of a backend: "" if it is one to the client's own
// request. A redirection is S3's if it has S3's header, and otherwise one of a web server.
func reasonOfBackend(status int, header http.Header, code string) refusalReason {
	if why := reasonsOfBlame[gatewayErrors[code]]; why != "" {
		return why
	}
	switch {
	case status < 400 && header.Get("X-Amz-Bucket-Region") != "":
		return reasonBackendRegion
	case status < 400, status > 599:
		return reasonBackendProtocol
	case status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired:
		return reasonBackendCredentials
	case code == "NoSuchBucket":
		return reasonBackendBucket
	case status == http.StatusForbidden && code != "InvalidObjectState":
		return reasonBackendDenied
	case status == http.StatusTooManyRequests, code == "SlowDown":
		return reasonBackendBusy
	case status >= 500 && status != http.StatusNotImplemented:
		return reasonBackendError
	}
	return ""
}

// codeForStatus returns the code of an error that came without a document, as in the
// answer to a HEAD. It is never empty: Cloudflare's 520, or nginx's 444, has no name to make a
// code of.
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
	code := strings.ReplaceAll(http.StatusText(status), " ", "")
	switch {
	case code != "" && looksLikeCode(code):
		return code
	case status >= 500:
		return "InternalError"
	}
	return "InvalidRequest"
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

// badGateway returns the error for an answer that the gateway can't use, or that did not come. Only
// the log has the cause.
func badGateway(cause error) *apiError {
	e := newError(troubleOf(cause), "BadGateway", "")
	e.cause = cause
	return e
}

// troubleOf returns the reason for an error of a request to a backend.
func troubleOf(err error) refusalReason {
	var failure *apiError
	var name *net.DNSError
	var handshake *handshakeFailure
	var alert tls.AlertError
	var timeout net.Error
	var dial *net.OpError
	switch {
	case errors.As(err, &failure):
		return failure.reason
	case errors.As(err, &name):
		return reasonBackendDNS
	case errors.As(err, &handshake), errors.As(err, &alert), errors.Is(err, errHandshake):
		return reasonBackendTLS
	case errors.Is(err, errNoProgress), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return reasonBackendTimeout
	case errors.As(err, &dial) && dial.Op == "dial":
		return reasonBackendConnect
	case isTransport(err):
		return reasonBackendBroken
	}
	return reasonBackendProtocol
}

// errorInDocument returns the error that an element Error describes under a status of
// success. Its status is the one that S3 gives to the code. With a code that is not known here it is a
// 500, which clients send again, but nobody knows that the backend has failed.
func errorInDocument(e *element) *apiError {
	known, isKnown := s3Errors[e.child("Code")]
	if !isKnown {
		known.status = http.StatusInternalServerError
	}
	failure := errorOfBackend(known.status, nil, e)
	if !isKnown && failure.upstream.code != "" && failure.reason == reasonBackendError {
		failure.reason = ""
	}
	return failure
}
