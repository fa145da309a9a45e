package main

// Small answers in one write. net/http buffers 4 KiB of an answer and writes the head and
// what fits when the buffer is full, then the rest: two system calls and two packets for
// an object of 4 KiB. So the client's connection can be told to keep what is written until
// the answer is complete. With one connection, a GET of 4 KiB then takes 4 to 9 % less
// CPU; with 32 connections the difference is within the noise.

// maxCorked is the largest body that is corked, in bytes.
const maxCorked = 32 << 10

// writeWhole writes the whole body of an answer, to be sent when the request ends. Nothing
// is corked over TLS, where a goroutine that reads may write as well.
func (a *answer) writeWhole(body []byte) error {
	if c, ok := a.to.Context().Value(connKey{}).(*corkConn); ok && len(body) <= maxCorked && a.out.unlimited() {
		a.corked = c
		a.corkBuffer = borrow(roomForHead + int64(len(body)))
		c.cork(a.corkBuffer)
	}
	_, err := a.Write(body)
	return err
}

// uncork sends what writeWhole kept. net/http believes that it was sent already, so after
// an error nothing may follow on the connection.
func (a *answer) uncork() error {
	err := a.corked.uncork()
	giveBack(a.corkBuffer)
	a.corked, a.corkBuffer = nil, nil
	return err
}
