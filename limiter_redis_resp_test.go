package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

// The examples of https://redis.io/docs/latest/develop/reference/protocol-spec/.
func TestReadReply(t *testing.T) {
	bulk := func(s string) redisReply { return redisReply{kind: '$', text: s} }
	integer := func(n int64) redisReply { return redisReply{kind: ':', number: n} }
	array := func(list ...redisReply) redisReply { return redisReply{kind: '*', list: list} }
	null := redisReply{kind: '_'}
	for _, test := range []struct {
		text string
		want redisReply
	}{
		{"+OK\r\n", redisReply{kind: '+', text: "OK"}},
		{"-ERR unknown command 'asdf'\r\n", redisReply{kind: '-', text: "ERR unknown command 'asdf'"}},
		{":0\r\n", integer(0)},
		{":1000\r\n", integer(1000)},
		{":-9223372036854775808\r\n", integer(-1 << 63)},
		{"$5\r\nhello\r\n", bulk("hello")},
		{"$0\r\n\r\n", bulk("")},
		{"$4\r\n\r\n:1\r\n", bulk("\r\n:1")},
		{"$-1\r\n", null},
		{"*0\r\n", array()},
		{"*-1\r\n", null},
		{"*2\r\n$5\r\nhello\r\n$5\r\nworld\r\n", array(bulk("hello"), bulk("world"))},
		{"*5\r\n:1\r\n:2\r\n:3\r\n:4\r\n$5\r\nhello\r\n", array(integer(1), integer(2), integer(3), integer(4), bulk("hello"))},
		{"*2\r\n*3\r\n:1\r\n:2\r\n:3\r\n*2\r\n+Hello\r\n-World\r\n",
			array(array(integer(1), integer(2), integer(3)), array(redisReply{kind: '+', text: "Hello"}, redisReply{kind: '-', text: "World"}))},
		{"*3\r\n$5\r\nhello\r\n$-1\r\n$5\r\nworld\r\n", array(bulk("hello"), null, bulk("world"))},
	} {
		got, err := readReply(bufio.NewReader(strings.NewReader(test.text)), maxReplyDepth)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("readReply(%q) = %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
	for _, text := range []string{
		"\r\n", "\n", "OK\r\n", "+OK\n", "+O\rK\r\n", "HTTP/1.1 400 Bad Request\r\n", ":\r\n", ":1.5\r\n", ":9223372036854775808\r\n",
		"$-2\r\n", "$4097\r\n", "$99999999999999999999\r\n", "$5\r\nhelloworld\r\n", "$x\r\n", "*-2\r\n", "*2147483647\r\n",
		"%1\r\n+a\r\n:1\r\n", "_\r\n", strings.Repeat("*1\r\n", maxReplyDepth+1) + ":1\r\n",
	} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(text)), maxReplyDepth); !errors.Is(err, errRedisReply) {
			t.Errorf("readReply(%q) = %+v, %v, want %v", text, got, err, errRedisReply)
		}
	}
}

// The example of the same page, "Sending commands to a Redis server".
func TestAppendCommand(t *testing.T) {
	if got, want := string(appendCommand(nil, []string{"LLEN", "mylist"})), "*2\r\n$4\r\nLLEN\r\n$6\r\nmylist\r\n"; got != want {
		t.Errorf("appendCommand = %q, want %q", got, want)
	}
}

// encode writes a reply as a server would.
func (r redisReply) encode() string {
	switch r.kind {
	case ':':
		return fmt.Sprintf(":%d\r\n", r.number)
	case '$':
		return fmt.Sprintf("$%d\r\n%s\r\n", len(r.text), r.text)
	case '*':
		text := fmt.Sprintf("*%d\r\n", len(r.list))
		for _, element := range r.list {
			text += element.encode()
		}
		return text
	case '_':
		return "$-1\r\n"
	}
	return string(r.kind) + r.text + "\r\n"
}

// What is read and written again is read as the same, to its last byte, and no
// beginning of it is a reply.
func FuzzRESP(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-MOVED 3999 127.0.0.1:6381\r\n", ":1000\r\n", "$5\r\nhello\r\n", "$-1\r\n",
		"*4\r\n:1\r\n:99\r\n:60000000\r\n:0\r\n", "*2\r\n*3\r\n:1\r\n:2\r\n:3\r\n*2\r\n+Hello\r\n-World\r\n", "*4096\r\n", "$4096\r\nx"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		reply, err := readReply(bufio.NewReaderSize(bytes.NewReader(text[:min(len(text), maxReplySize)]), maxReplySize), maxReplyDepth)
		if err != nil {
			return
		}
		encoded := reply.encode()
		r := bufio.NewReader(strings.NewReader(encoded))
		if again, err := readReply(r, maxReplyDepth); err != nil || !reflect.DeepEqual(again, reply) {
			t.Fatalf("%q is read as %+v, written as %q and read as %+v, %v", text, reply, encoded, again, err)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Fatalf("of %q something is left over", encoded)
		}
		for i := range len(encoded) {
			if part, err := readReply(bufio.NewReader(strings.NewReader(encoded[:i])), maxReplyDepth); err != io.ErrUnexpectedEOF {
				t.Fatalf("%q, a part of %q, is read as %+v, %v", encoded[:i], encoded, part, err)
			}
		}
	})
}
