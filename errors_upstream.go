package main

// What an error of a backend becomes for the client: the same status and code, or a 502
// where the backend accuses the gateway itself.

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// ownFault are a backend's codes that accuse the gateway's credentials, clock
// or configuration, not the client, who can do nothing about them.
var ownFault = map[string]bool{
	"AuthorizationHeaderMalformed": true, "AuthFailure": true, "CredentialsNotSupported": true,
	"ExpiredToken": true, "IllegalLocationConstraintException": true, "InvalidAccessKeyId": true,
	"InvalidClientTokenId": true, "InvalidSecurity": true, "InvalidToken": true,
	"MissingSecurityHeader": true, "NotSignedUp": true, "PermanentRedirect": true, "Redirect": true,
	"RequestExpired": true, "RequestTimeTooSkewed": true, "SignatureDoesNotMatch": true,
	"TemporaryRedirect": true, "TokenRefreshRequired": true, "UnrecognizedClientException": true,
}

// upstreamError is a backend's error in the client's terms. Status and code
// stay; the message is ours, for a backend's may name its host, an access key
// or the string to sign.
func upstreamError(status int, header http.Header, body io.Reader) *apiError {
	code, condition := parseError(body)
	return errorOfBackend(status, header, code, condition)
}

// errorOfBackend is upstreamError for a document that was read.
func errorOfBackend(status int, header http.Header, code, condition string) *apiError {
	if status < 400 || status > 599 || status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired || ownFault[code] {
		e := newError("BadGateway", "")
		e.upstreamCode = code
		e.cause = fmt.Errorf("the backend answered %d %s", status, code)
		return e
	}
	e := &apiError{Status: status, Code: code, condition: condition, upstreamCode: code, header: header}
	if e.Code == "" {
		e.Code = codeForStatus(status)
	}
	if e.Message = s3Errors[e.Code].message; e.Message == "" {
		e.Message = "the storage service refused the request"
	}
	return e
}

// codeForStatus is the code for an error that came without a document, as the
// answer to a HEAD does.
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

// parseError returns the code of an error document, or "" if there is none that looks
// like one, and the condition that did not hold, or "".
func parseError(body io.Reader) (code, condition string) {
	doc, err := parseDocument(io.LimitReader(body, maxErrorDocument), "Error")
	if err != nil {
		return "", ""
	}
	return errorCode(&doc)
}

// errorCode returns the code and the condition of an error document.
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

func looksLikeCode(code string) bool {
	for i := range len(code) {
		if c := code[i] | 0x20; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return len(code) <= 64
}

func badGateway(cause error) *apiError {
	e := newError("BadGateway", "")
	e.cause = cause
	return e
}

// errorInDocument is the error that an element Error tells, which came under a status
// of success: its status is the one that S3 gives such an error.
func errorInDocument(e *element) *apiError {
	status := s3Errors[e.child("Code")].status
	if status < 400 {
		status = 500
	}
	code, condition := errorCode(e)
	return errorOfBackend(status, nil, code, condition)
}
