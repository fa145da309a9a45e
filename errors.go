package main

// The errors that clients see: S3's codes, with their statuses and messages. Nothing here
// knows of requests or backends.

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// An apiError is an answer that is not a success. Code is S3's where S3 has one, and
// Message is for the client. What begins with a small letter is for the log, except condition
// and header.
type apiError struct {
	Status  int
	Code    string
	Message string

	condition string      // the header of the precondition that failed; "" if it is not known
	header    http.Header // of the backend's answer, if it was one

	reason   refusalReason
	logged   string // Message as the log may have it; "": as it is
	cause    error
	upstream backendWords // what the backend said, if it was one
}

// backendWords are what a backend says of an error, for the log. Each is "" if the backend says
// nothing of the kind, or nothing that looks like it.
type backendWords struct {
	code    string
	message string // as it came, and so only for backendCall.quotable
	region  string // that it expects
}

func (e *apiError) Error() string {
	if e.cause != nil {
		return e.Code + ": " + ownWords(e.cause)
	}
	return e.Code + ": " + e.Message
}

// newError returns an error with a code of s3Errors. An empty message means the table's.
func newError(why refusalReason, code, message string) *apiError {
	known := s3Errors[code]
	if message == "" {
		message = known.message
	}
	return &apiError{Status: known.status, Code: code, Message: message, reason: why}
}

// newNameError is newError for a message about a name that the client made up. The log has the name
// only if it looks like one: a client may put anything there.
func newNameError(why refusalReason, code, format, name string) *apiError {
	e := newError(why, code, fmt.Sprintf(format, shortened(name, 64)))
	if !plainName.MatchString(name) {
		e.logged = fmt.Sprintf(format, withheld)
	}
	return e
}

// plainName matches what S3 calls headers and parameters, and no key or digest.
var plainName = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)

// s3Errors are the codes that the gateway itself answers with, and those of a backend that
// need a message. All but the last five are S3's.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
var s3Errors = map[string]struct {
	status  int
	message string
}{
	"AccessDenied":                      {403, "access denied"},
	"AccessForbidden":                   {403, "CORS is not enabled for this origin, method or header: see server.cors"},
	"AuthorizationHeaderMalformed":      {400, "the Authorization header is malformed"},
	"AuthorizationQueryParametersError": {400, "the authentication parameters of the query are malformed"},
	"BadDigest":                         {400, "the digest given does not match the body received"},
	"BucketAlreadyOwnedByYou":           {409, "the bucket is there already, and you may use it"},
	"BucketNotEmpty":                    {409, "the bucket is not empty"},
	"ConditionalRequestConflict":        {409, "a conflicting request is in flight; try again"},
	"EntityTooLarge":                    {413, "the body is larger than allowed"},
	"EntityTooSmall":                    {400, "the upload is smaller than the minimum"},
	"ExpiredToken":                      {400, "the token has expired"},
	"IncompleteBody":                    {400, "the body ended before the length given in Content-Length"},
	"InternalError":                     {500, "internal error; try again"},
	"InvalidAccessKeyId":                {403, "the access key id is not known: it is the name of a user of this gateway"},
	"InvalidArgument":                   {400, "invalid argument"},
	"InvalidBucketName":                 {400, "the name of the bucket is not valid"},
	"InvalidChunkSizeError":             {400, "only the last chunk may be smaller than 8192 bytes"},
	"InvalidDigest":                     {400, "the digest given is not a valid one"},
	"InvalidObjectState":                {403, "the object is archived; restore it first"},
	"InvalidPart":                       {400, "a part was not found, or its ETag does not match"},
	"InvalidPartOrder":                  {400, "the parts are not in ascending order"},
	"InvalidRange":                      {416, "the range can't be satisfied"},
	"InvalidRequest":                    {400, "invalid request"},
	"InvalidTag":                        {400, "a tag is not valid, or given twice, or there are too many"},
	"InvalidURI":                        {400, "the path can't be parsed"},
	"KeyTooLongError":                   {400, "the key is too long"},
	"MalformedPolicy":                   {400, "the policy in the body is not a JSON object, or not a valid one"},
	"MalformedXML":                      {400, "the XML in the body is not well-formed, or not what the operation takes"},
	"MetadataTooLarge":                  {400, "the metadata headers exceed the maximum"},
	"MethodNotAllowed":                  {405, "this method is not allowed here"},
	"MissingContentLength":              {411, "the request needs a Content-Length header"},
	"NoSuchBucket":                      {404, "the bucket does not exist"},
	"NoSuchKey":                         {404, "the object does not exist"},
	"NoSuchUpload":                      {404, "the multipart upload does not exist"},
	"NoSuchVersion":                     {404, "the version does not exist"},
	"NotImplemented":                    {501, "this operation is not implemented"},
	"OperationAborted":                  {409, "a conflicting operation is in flight; try again"},
	"PreconditionFailed":                {412, "a precondition given does not hold"},
	"QuotaExceeded":                     {403, "the storage quota is exceeded"},
	"RequestTimeTooSkewed":              {403, "the clocks of client and gateway differ by more than 15 minutes"},
	"RequestTimeout":                    {400, "the body did not arrive in time"},
	"ServiceUnavailable":                {503, "the storage service is unavailable; try again"},
	"SignatureDoesNotMatch":             {403, "the signature does not match the request: check the secret (the user's API key), and that nothing on the way changes the request"},
	"SlowDown":                          {503, "too many requests; slow down"},
	"XAmzContentSHA256Mismatch":         {400, "the x-amz-content-sha256 header does not match the body received"},

	"Unauthorized":            {401, "unauthorized"},
	"TooManyRequests":         {429, "too many requests"},
	"BadGateway":              {502, "the storage service did not give a valid answer; the gateway's log has the cause"},
	"HTTPVersionNotSupported": {505, "this answer needs HTTP/1.1"},
	"GatewayTimeout":          {504, "the storage service did not answer in time"},
}

// conditionHeaders are the headers with preconditions, as S3's error documents name them.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
var conditionHeaders = []string{
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
	"x-amz-copy-source-If-Match", "x-amz-copy-source-If-None-Match",
	"x-amz-copy-source-If-Modified-Since", "x-amz-copy-source-If-Unmodified-Since",
	"x-amz-if-match-last-modified-time", "x-amz-if-match-size",
}

// conditionOf returns the only header of a request that has a precondition, or "" if there
// is none or more than one.
func conditionOf(h http.Header) (only string) {
	for _, name := range conditionHeaders {
		if _, given := h[http.CanonicalHeaderKey(name)]; given {
			if only != "" {
				return ""
			}
			only = name
		}
	}
	return only
}

// slowDown returns the error that S3 clients retry, for one that must wait.
func slowDown(why refusalReason, message string, wait time.Duration) *apiError {
	return tryLater(why, "SlowDown", message, wait)
}

// tryLater returns an error for a client that must wait, in full seconds.
func tryLater(why refusalReason, code, message string, wait time.Duration) *apiError {
	e := newError(why, code, message)
	e.header = http.Header{"Retry-After": {strconv.Itoa(fullSeconds(wait))}}
	return e
}

// fullSeconds rounds up.
func fullSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
