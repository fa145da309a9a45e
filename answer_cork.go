package main

import _ "embed"

// Small answers in one write. net/http keeps 4 KiB of an answer back and writes
// the head and what fits when that is full, then the rest: two system calls, and
// two packets, for an object of 4 KiB. So the client's connection can be told to
// keep what is written until the answer is complete.

// maxCorked is the size of a body, in bytes, up to which it is worth it.
const maxCorked = 32 << 10

// writeWhole writes an answer's body, of which nothing was written yet, to be sent
// when the request ends. Through TLS nothing is corked: there the goroutine that
// reads may write as well.
func (a *answer) writeWhole(body []byte) error {
	if c, ok := a.to.Context().Value(connKey{}).(*corkConn); ok && len(body) <= maxCorked && a.out.unlimited() {
		a.corked = c
		a.corkBuffer = borrow(roomForHead + int64(len(body)))
		c.cork(a.corkBuffer)
	}
	_, err := a.Write(body)
	return err
}

// uncork sends what writeWhole kept. net/http believes that all of it was sent; after
// an error nothing may follow on the connection.
func (a *answer) uncork() error {
	err := a.corked.uncork()
	giveBack(a.corkBuffer)
	a.corked, a.corkBuffer = nil, nil
	return err
}
