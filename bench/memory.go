//go:build linux

package main

// The gateway's memory: its largest resident set, each time in a process that was
// started for it.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	slowClients = 64                     // that read, and as many that write
	slowPiece   = 16 << 10               // bytes that each moves
	slowPause   = 250 * time.Millisecond // after each piece
	slowTime    = 10 * time.Second
	settleTime  = time.Second
	idleClients = 2000
)

// A memoryRow is what one kind of use took.
type memoryRow struct {
	Use     string  `json:"use"`
	PeakRSS float64 `json:"peak_rss_mib"`
	Want    float64 `json:"want_below_mib"` // 0 if there is no target
	Note    string  `json:"note,omitempty"`
}

func measureMemory(s *site) ([]*memoryRow, error) {
	if err := checkFiles(idleClients + 100); err != nil {
		return nil, err
	}
	uses := []struct {
		name string
		want float64
		use  func(addr string) (note string, err error)
	}{
		{"idle", 20, func(addr string) (string, error) { return "", pause(s.ctx, settleTime) }},
		{"64 slow readers and 64 slow writers, 256 MiB each", 64, func(addr string) (string, error) { return beSlow(s.ctx, addr, "256m") }},
		{"64 slow readers and 64 slow writers, 1 GiB each", 64, func(addr string) (string, error) { return beSlow(s.ctx, addr, "1g") }},
		{"2,000 idle keep-alive clients", 80, func(addr string) (string, error) { return keepAlive(s.ctx, addr, false) }},
		{"the same, and they all ask at once", 0, func(addr string) (string, error) { return keepAlive(s.ctx, addr, true) }},
		{"4 × GET 256 MiB", 0, func(addr string) (string, error) {
			return transfer(addr, newRequest("GET", "/photos/256m", benchKey, 0, 256<<20))
		}},
		{"4 × PUT 256 MiB", 0, func(addr string) (string, error) {
			return transfer(addr, newRequest("PUT", "/uploads/256m", benchKey, 256<<20, 0))
		}},
		{"list 1,000,000 keys", 0, listMillion},
	}
	var rows []*memoryRow
	for _, u := range uses {
		fmt.Fprintln(os.Stderr, u.name)
		p, err := s.launchGateway(0)
		if err != nil {
			return nil, err
		}
		note, err := u.use(p.addr)
		if err = errors.Join(err, s.ctx.Err()); err != nil {
			return nil, fmt.Errorf("%s: %w", u.name, err)
		}
		peak, err := peakRSS(p.pid)
		if err != nil {
			return nil, err
		}
		s.kill(p)
		rows = append(rows, &memoryRow{Use: u.name, PeakRSS: peak, Want: u.want, Note: note})
	}
	return rows, nil
}

// checkFiles returns an error if a process may not have so many open files.
func checkFiles(needed uint64) error {
	var limit syscall.Rlimit // Go has raised it as far as it may
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < needed {
		return fmt.Errorf("%d files may be open, and %d are needed: raise it with ulimit -Hn (%v)", limit.Cur, needed, err)
	}
	return nil
}

// keepAlive has clients that ask for something, one after the other, and keep their
// connections; then, if atOnce, they all ask again.
func keepAlive(ctx context.Context, addr string, atOnce bool) (string, error) {
	l, err := newLoad(addr, []request{newRequest("GET", "/photos/4k", benchKey, 0, 4<<10)}, idleClients)
	if err != nil {
		return "", err
	}
	defer l.close()
	if atOnce {
		if _, err := l.run(0); err != nil {
			return "", err
		}
	}
	return "after a GET of 4 KiB each", pause(ctx, settleTime)
}

// transfer moves a large object over four connections at once, as fast as it goes.
func transfer(addr string, r request) (string, error) {
	l, err := newLoad(addr, []request{r}, 4)
	if err != nil {
		return "", err
	}
	defer l.close()
	started := time.Now()
	if _, err := l.run(0); err != nil {
		return "", err
	}
	return fmt.Sprintf("in %.2f s", time.Since(started).Seconds()), nil
}

// beSlow has clients that read an object, and clients that write one of its size, a
// little at a time. It ends long before any of them is through.
func beSlow(ctx context.Context, addr, object string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, slowTime, nil)
	defer cancel()
	var mu sync.Mutex // guards failure
	var failure error
	var clients sync.WaitGroup
	start := func(r request) {
		clients.Go(func() {
			if err := slowly(ctx, addr, r); err != nil {
				mu.Lock()
				failure = fmt.Errorf("%s: %w", r.name, err)
				mu.Unlock()
				cancel()
			}
		})
	}
	for range slowClients {
		start(newRequest("GET", "/photos/"+object, benchKey, 0, objects[object]))
		start(newRequest("PUT", "/uploads/"+object, benchKey, objects[object], 0))
	}
	clients.Wait()
	return fmt.Sprintf("%d KiB/s each, for %s", slowPiece/1024*time.Second/slowPause, slowTime), failure
}

// slowly is one slow client. That ctx is done is no error.
func slowly(ctx context.Context, addr string, r request) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(slowTime + patience))
	conn.(*net.TCPConn).SetReadBuffer(4 * slowPiece) // the kernel would take megabytes for it
	if _, err := conn.Write(r.start); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(conn, slowPiece)
	if r.rest == 0 {
		if a, err := readHead(reader); err != nil || a.status != 200 || a.length != r.want {
			return fmt.Errorf("answer %d of %d bytes: %v", a.status, a.length, err)
		}
	}
	piece := make([]byte, slowPiece)
	for pause(ctx, slowPause) == nil {
		if r.rest > 0 {
			_, err = conn.Write(piece)
		} else {
			_, err = io.ReadFull(reader, piece)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listMillion asks for everything in a bucket at once, which the gateway has to ask
// for page by page. The backend holds back the second page: if the first byte is
// here long before, nobody waited for it.
func listMillion(addr string) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * patience))
	started := time.Now()
	if _, err := conn.Write(newRequest("GET", "/million", benchKey, 0, -1).start); err != nil {
		return "", err
	}
	reader := bufio.NewReaderSize(conn, 64<<10)
	a, err := readHead(reader)
	if err != nil || a.status != 200 || a.length >= 0 {
		return "", fmt.Errorf("answer %d of %d bytes, want 200 and chunks: %v", a.status, a.length, err)
	}
	if _, err := reader.Peek(1); err != nil {
		return "", err
	}
	first := time.Since(started)
	keys, secondPage := 0, time.Duration(0)
	lines := bufio.NewScanner(httputil.NewChunkedReader(reader))
	lines.Split(splitAt("<Key>"))
	for lines.Scan() {
		keys++
		if keys == pageKeys+2 { // what comes before the first key is a part, too
			secondPage = time.Since(started)
		}
	}
	keys--
	if err := lines.Err(); err != nil || keys != pageKeys*allPages {
		return "", fmt.Errorf("%d keys, want %d: %v", keys, pageKeys*allPages, err)
	}
	return fmt.Sprintf("first byte after %.1f ms; second page, held back for %s, after %.0f ms; all after %.1f s",
		first.Seconds()*1000, heldBack, secondPage.Seconds()*1000, time.Since(started).Seconds()), nil
}

// splitAt splits a text into the parts between marks.
func splitAt(mark string) bufio.SplitFunc {
	return func(data []byte, atEOF bool) (advance int, token []byte, err error) {
		if i := bytes.Index(data, []byte(mark)); i >= 0 {
			return i + len(mark), data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	}
}

// pause returns early, with an error, when ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
