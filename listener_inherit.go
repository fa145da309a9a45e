package main

// Sockets that a service manager hands over (sd_listen_fds(3)). They stay open while the program
// restarts, so that connections wait in the accept queue and none is refused.
// https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// firstInherited is the number of the first descriptor that is handed over.
const firstInherited = 3

// inheritedSockets are listeners that were handed over and are not used yet.
type inheritedSockets []net.Listener

// inheritSockets returns the sockets that the environment announces to this process. Without
// LISTEN_PID and LISTEN_FDS there are none.
func inheritSockets(env func(string) string) (inheritedSockets, error) {
	if pid, err := strconv.Atoi(env("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return nil, nil
	}
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS must be a number of descriptors, not %q", env("LISTEN_FDS"))
	}
	var sockets inheritedSockets
	for fd := firstInherited; fd < firstInherited+n; fd++ {
		f := os.NewFile(uintptr(fd), "LISTEN_FDS")
		l, err := net.FileListener(f) // of a duplicate
		f.Close()
		if err != nil {
			sockets.close()
			return nil, fmt.Errorf("LISTEN_FDS: descriptor %d is not a listening socket: %w", fd, err)
		}
		if _, ok := l.(*net.TCPListener); !ok {
			l.Close()
			sockets.close()
			return nil, fmt.Errorf("LISTEN_FDS: descriptor %d is not a TCP socket; use ListenStream= with a port", fd)
		}
		sockets = append(sockets, l)
	}
	return sockets, nil
}

// listen returns the socket that was handed over with the port of addr, or opens one. The path is
// that of the setting, for errors.
func (s *inheritedSockets) listen(path, addr string) (net.Listener, error) {
	_, port, _ := net.SplitHostPort(addr)
	for i, l := range *s {
		if _, p, _ := net.SplitHostPort(l.Addr().String()); p == port {
			*s = slices.Delete(*s, i, i+1)
			return l, nil
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError(path, addr, err)
	}
	return l, nil
}

// finish returns an error if a socket was handed over that no setting has the port of: its
// connections would wait for ever.
func (s *inheritedSockets) finish() error {
	if len(*s) == 0 {
		return nil
	}
	var addresses []string
	for _, l := range *s {
		addresses = append(addresses, l.Addr().String())
	}
	return fmt.Errorf("the service manager hands over %s, which is the port of neither server.port nor server.admin.port", strings.Join(addresses, " and "))
}

func (s *inheritedSockets) close() {
	for _, l := range *s {
		l.Close()
	}
	*s = nil
}
