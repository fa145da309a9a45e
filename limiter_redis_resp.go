package main

// RESP2, the protocol of Redis: how commands are written, and replies read within bounds. It
// knows nothing of connections.
// https://redis.io/docs/latest/develop/reference/protocol-spec/

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
)

// appendCommand appends a command: an array of bulk strings.
func appendCommand(b []byte, args []string) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	for _, arg := range args {
		b = append(b, "\r\n$"...)
		b = strconv.AppendInt(b, int64(len(arg)), 10)
		b = append(b, "\r\n"...)
		b = append(b, arg...)
	}
	return append(b, "\r\n"...)
}

// A redisReply is a value of RESP2. A null string or array has the kind '_'.
type redisReply struct {
	kind   byte // '+' string, '-' error, ':' integer, '$' bulk string, '*' array
	text   string
	number int64
	list   []redisReply
}

// readReply reads
//
//	reply  = "+" text CRLF | "-" text CRLF | ":" int CRLF
//	       | "$" length CRLF bytes CRLF | "$-1" CRLF
//	       | "*" length CRLF reply…     | "*-1" CRLF
//
// with at most depth arrays within each other. Lengths are at most maxReplySize, and the caller
// bounds the whole. A reply that is cut is io.ErrUnexpectedEOF.
func readReply(r *bufio.Reader, depth int) (redisReply, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return redisReply{}, noEOF(err)
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok || text == "" || strings.Contains(text, "\r") {
		return redisReply{}, errRedisReply
	}
	kind, text := text[0], text[1:]
	if kind == '+' || kind == '-' {
		return redisReply{kind: kind, text: text}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return redisReply{}, errRedisReply
	case kind == ':':
		return redisReply{kind: kind, number: n}, nil
	case kind != '$' && kind != '*' || n < -1 || n > maxReplySize:
		return redisReply{}, errRedisReply
	case n == -1:
		return redisReply{kind: '_'}, nil
	case kind == '$':
		return readBulk(r, int(n))
	}
	return readArray(r, int(n), depth)
}

func readBulk(r *bufio.Reader, n int) (redisReply, error) {
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return redisReply{}, noEOF(err)
	}
	if string(b[n:]) != "\r\n" {
		return redisReply{}, errRedisReply
	}
	return redisReply{kind: '$', text: string(b[:n])}, nil
}

func readArray(r *bufio.Reader, n, depth int) (redisReply, error) {
	if depth == 0 {
		return redisReply{}, errRedisReply
	}
	reply := redisReply{kind: '*'}
	for range n { // memory is for what has arrived, not for what is announced
		item, err := readReply(r, depth-1)
		if err != nil {
			return redisReply{}, err
		}
		reply.list = append(reply.list, item)
	}
	return reply, nil
}

// A redisError is an error reply: a code in capitals, and a text.
type redisError struct{ code, text string }

func newRedisError(text string) redisError {
	code, _, _ := strings.Cut(text, " ")
	for i := range len(code) {
		if code[i] < 'A' || code[i] > 'Z' {
			code = "ERR"
			break
		}
	}
	return redisError{code, text}
}

// Error repeats nothing that the server sent but a known code: a broken server may repeat the
// commands that it got, and one of them has the password.
func (e redisError) Error() string {
	if meaning := redisCodes[e.code]; meaning != "" {
		return "the server answers " + e.code + ": " + meaning
	}
	return "the server answers with an error"
}

// redisCodes are the codes of error replies that may occur, and what to check.
var redisCodes = map[string]string{
	"ASK":         "the key is being moved to another node",
	"BUSY":        "it runs a script that does not end",
	"CLUSTERDOWN": "the cluster does not cover all keys",
	"CROSSSLOT":   "the keys are on more than one node",
	"DENIED":      "it is in protected mode, and accepts local connections only",
	"ERR":         "the command failed; perhaps it has too many clients, or does not know the command",
	"LOADING":     "it is loading its data",
	"MASTERDOWN":  "it is a replica without a master",
	"MISCONF":     "it cannot save to disk, and refuses writes",
	"MOVED":       "the key is on another node",
	"NOAUTH":      "a password is required",
	"NOPERM":      "the user lacks a right that the limiter needs",
	"NOREPLICAS":  "it has too few replicas, and refuses writes",
	"NOSCRIPT":    "it does not keep the script",
	"OOM":         "its memory is used up",
	"READONLY":    "it is a replica that accepts no writes",
	"TRYAGAIN":    "the key is being moved to another node",
	"UNKILLABLE":  "it runs a script that does not end",
	"WRONGPASS":   "the user or the password is wrong",
	"WRONGTYPE":   "the key holds a value of another type",
}

// A redirectError is a failure to connect to a node that another node has named. Its text does
// not have the name.
type redirectError struct{ error }

func (e redirectError) Error() string { return "a node that the store names cannot be reached" }

// Unwrap lets errors.As find a time-out.
func (e redirectError) Unwrap() error { return e.error }

func (e redisError) redirects() bool { return e.code == "MOVED" || e.code == "ASK" }

// target parses "MOVED 3999 127.0.0.1:6381". If there is no host, it is that of the node that
// was asked. An IPv6 host has no brackets.
func (e redisError) target(asked string) (string, error) {
	fields := strings.Fields(e.text)
	if len(fields) != 3 {
		return "", errRedisReply
	}
	colon := strings.LastIndexByte(fields[2], ':')
	if colon < 0 {
		return "", errRedisReply
	}
	host, port := strings.Trim(fields[2][:colon], "[]"), fields[2][colon+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errRedisReply
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, port), nil
}
