package main

// Small answers in one write. net/http keeps 4 KiB of an answer back and writes
// the head and what fits when that is full, then the rest: two system calls, and
// two packets, for an object of 4 KiB. So the client's connection can be told to
// keep what is written until the answer is complete.

// maxCorked is the size of a body, in bytes, up to which it is worth it.
const maxCorked = 32 << 10

// writeWhole writes an answer's body, of which nothing was written yet, to be sent
// when the request ends. Through TLS nothing is corked: there the goroutine that
// reads may write as well.
func (x *exchange) writeWhole(body []byte) error {
	if c, ok := x.r.Context().Value(connKey{}).(*corkConn); ok && len(body) <= maxCorked && x.out.unlimited() {
		x.corked = c
		x.corkBuffer = borrow(roomForHead + int64(len(body)))
		c.cork(x.corkBuffer)
	}
	_, err := x.Write(body)
	return err
}

// uncork sends what writeWhole kept. net/http believes that all of it was sent; after
// an error nothing may follow on the connection.
func (x *exchange) uncork() error {
	err := x.corked.uncork()
	giveBack(x.corkBuffer)
	x.corked, x.corkBuffer = nil, nil
	return err
}
