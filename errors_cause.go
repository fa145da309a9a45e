package main

// What the log says of an error. A peer can send anything. If the log repeated what could
// not be parsed, a backend that echoes the request in a malformed head would put its
// signature and session token there. So the log has the gateway's own words and fixed texts
// of the standard library, and nothing that a peer sent unless a rule allows it. Three rules:
//
//   - Every cause goes through causeAttr. Of an error of another package it keeps the text
//     if that is known to be fixed, and otherwise only the type.
//   - Where the standard library quotes a head or a certificate, the error is replaced when
//     it is received: headError, handshakeError.
//   - A request id or an error code of a backend is repeated only if it looks like one, and
//     does not repeat a secret of the request: see backendCall.repeats. The message of an
//     error is the one text of a peer in the log, as far as backendCall.quotable lets it.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// withheld replaces a credential in the log.
const withheld = "(withheld)"

// causeAttr returns the attribute of a log line for an error that involves a peer. For nil
// it is the empty attribute, which a handler leaves out.
func causeAttr(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.String("cause", causeText(err))
}

// causeText returns what causeAttr says of an error.
func causeText(err error) string { return shortened(ownWords(err), maxCause) }

// localCauseAttr returns the attribute for an error with a file of this machine, whose text
// the operator has to see. Errors about configurations quote no secrets.
func localCauseAttr(err error) slog.Attr { return slog.String("cause", err.Error()) }

var ownPackage = reflect.TypeFor[apiError]().PkgPath()

// ownWords returns the text of an error without what a peer sent. An error that wraps
// others includes their texts, which are replaced.
func ownWords(err error) string {
	text := err.Error()
	switch t := typeOf(err); t.PkgPath() {
	case ownPackage, "errors", "fmt":
	default:
		if fixed, ok := foreignWords(err); ok {
			text = fixed
		} else {
			return "an error of the type " + t.String()
		}
	}
	for _, inner := range unwrapped(err) {
		if before := inner.Error(); before != "" {
			text = strings.ReplaceAll(text, before, ownWords(inner))
		}
	}
	return text
}

func typeOf(v any) reflect.Type {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func unwrapped(err error) []error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return []error{inner}
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// foreignWords returns the text of an error of another package, if that is known to be
// fixed, or to name only addresses and files of the configuration.
func foreignWords(err error) (string, bool) {
	switch err.(type) {
	case *net.OpError, *net.DNSError, *os.SyscallError, *fs.PathError, syscall.Errno, tls.AlertError:
		return err.Error(), true
	case tls.RecordHeaderError:
		return "the peer does not speak TLS", true
	case textproto.ProtocolError:
		return "malformed header", true
	//lint:ignore SA1019 net/http still returns it
	case *http.ProtocolError:
		return "malformed HTTP", true
	case *strconv.NumError:
		return "malformed number", true
	case url.EscapeError:
		return "malformed percent-encoding", true
	}
	switch t := typeOf(err); {
	case t.PkgPath() == "internal/poll", t.PkgPath() == "context", t.String() == "tls.alert", t.String() == "net.timeoutError":
		return err.Error(), true
	}
	return "", false
}

// panicWords returns what the log says of a panic: the text of a runtime error or of an
// error. The stack tells the rest.
func panicWords(p any) string {
	switch p := p.(type) {
	case runtime.Error:
		return shortened(p.Error(), maxCause)
	case error:
		return causeText(p)
	}
	return fmt.Sprintf("a value of the type %T", p)
}

var errHeadTooLarge = errors.New("the head of the answer is too large")

// headError returns an error of http.ReadResponse in fixed words, because its own quotes
// the malformed line. An error of the connection stays as it is.
func headError(err error) error {
	var header textproto.ProtocolError
	switch text := err.Error(); {
	case isTransport(err), errors.Is(err, errHeadTooLarge):
		return err
	case strings.HasPrefix(text, "malformed HTTP"):
		return errors.New("malformed status line")
	case strings.Contains(text, "Content-Length"):
		return errors.New("malformed Content-Length")
	case strings.Contains(text, "transfer encoding"), strings.Contains(text, "Transfer-Encoding"):
		return errors.New("unsupported Transfer-Encoding")
	case errors.As(err, &header):
		return errors.New("malformed header")
	}
	return errors.New("malformed head of the answer")
}

// isTransport reports whether an error is about the connection, not about the bytes on it.
func isTransport(err error) bool {
	var network net.Error
	var number syscall.Errno
	return errors.As(err, &network) || errors.As(err, &number) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.Canceled)
}

// A handshakeFailure is an error of a TLS handshake in fixed words. The cause quotes the
// certificate, which the peer wrote, so it is for a diagnosis and not for a log.
type handshakeFailure struct {
	words string
	cause error
}

func (e *handshakeFailure) Error() string { return e.words }

// Unwrap is for errors.As and errors.Is.
func (e *handshakeFailure) Unwrap() error { return e.cause }

var errHandshake = errors.New("the TLS handshake failed")

// handshakeError returns an error of a TLS handshake in fixed words, because those of
// crypto/x509 quote the certificate, which the peer wrote.
func handshakeError(err error) error {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return &handshakeFailure{"the certificate is for another host", err}
	case errors.As(err, &authority):
		return &handshakeFailure{"the certificate is signed by an authority that is not trusted here", err}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &handshakeFailure{"the certificate has expired, or is not valid yet", err}
	case errors.As(err, &certificate):
		return &handshakeFailure{"the certificate is not valid", err}
	case errors.As(err, &record):
		return &handshakeFailure{"the peer does not speak TLS", err}
	case isTransport(err):
		return err
	}
	return errHandshake
}

// A serverLog receives what net/http logs about clients. Those lines quote bytes of the
// client, which may hold a key or a signature, so only the text before the quotes is kept.
type serverLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (w serverLog) Write(line []byte) (int, error) {
	text, _, _ := strings.Cut(string(line), `"`)
	w.log.Warn(strings.TrimSpace(text))
	return len(line), nil
}

// maxCause bounds the text of a cause in the log, in bytes.
const maxCause = 1024

// maxForeign bounds a text of a peer that is shown to the operator, in bytes.
const maxForeign = 240

// isShowable reports whether a text of a peer is short, and printable ASCII.
func isShowable(text string) bool {
	return len(text) <= maxForeign && !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' })
}
