package main

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Each connection is closed when it was idle for idleConnTimeout, whatever the others do.
func TestIdleConnectionsCloseInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(&account{scheme: "http", connectTimeout: time.Second}, newMetrics().account("main"))
		var peers sync.WaitGroup
		for i := range 5 {
			ours, backend := net.Pipe()
			p.put(&backendConn{Conn: ours, raw: ours, host: "h"})
			peers.Go(func() {
				start := time.Now()
				if _, err := backend.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("connection %d ended with %v, want EOF", i, err)
				}
				if idle := time.Since(start); idle != idleConnTimeout {
					t.Errorf("connection %d was closed after %s, want %s", i, idle, idleConnTimeout)
				}
			})
			time.Sleep(7 * time.Second)
		}
		peers.Wait()
	})
}
