//go:build !unix

package main

// Systems that can't show whether an idle connection is silent. See upstream_conn_unix.go.

import (
	"net"
	"os"
)

// silent can't look into a connection on this system. If the backend has closed it, the next
// request fails: a read is sent again, and a write is answered with an error.
func silent(net.Conn) bool { return true }

// stillOpen can't tell, and nothing is spliced on this system.
func stillOpen(net.Conn) bool { return false }

// receive can't read without waiting.
func receive(net.Conn, []byte) (int, error) { return 0, os.ErrDeadlineExceeded }
