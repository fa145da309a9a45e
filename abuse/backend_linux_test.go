package abuse

import (
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// A machine that is down, or behind a firewall that drops, answers no SYN. Here
// it is a listener whose queue is full: Linux answers nobody else then.
func TestBackendThatAnswersNoSYNFailsInTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 200*time.Millisecond)
		if full = err != nil; !full {
			defer conn.Close()
		}
	}
	healthy := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {})
	g := startGateway(t, testConfig("http://"+listener.Addr().String(), with("accounts.main.connect_timeout", "200ms"),
		with("accounts.healthy", map[string]any{"endpoint_url": healthy.URL, "access_key_id": "id", "secret_access_key": "secret", "buckets": []any{"healthy"}})))
	start := time.Now()
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		resp, body := g.do(method, "/photos/k", adminKey, "")
		wantError(t, resp, body, 504, "GatewayTimeout")
		if resp, _ := g.do("GET", "/healthy/k", adminKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET of another account = %d, want 200", resp.StatusCode)
		}
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %s, want about a second", took)
	}
}
