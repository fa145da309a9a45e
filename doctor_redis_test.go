package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const redisPassword = "redis-password-canary"

// storeOf returns a fake store that tells the time, some time off, and answers the script.
func storeOf(ahead time.Duration, script string) func(string, []string) string {
	return func(_ string, command []string) string {
		switch command[0] {
		case "AUTH":
			return "+OK\r\n"
		case "TIME":
			seconds := strconv.FormatInt(time.Now().Add(ahead).Unix(), 10)
			return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$1\r\n0\r\n", len(seconds), seconds)
		}
		return script
	}
}

// admitted is the script's answer to the first request of a window of one second.
const admitted = "*4\r\n:1\r\n:0\r\n:1000000\r\n:0\r\n"

func testDoctorRedis(t *testing.T, e *everyVerdict) {
	demo := startDemoBackend(t)
	at := func(addr string) map[string]any {
		return testConfig(demo.URL, with("rate_limit.redis_url", "redis://:"+redisPassword+"@"+addr))
	}
	fake := func(answer func(string, []string) string) map[string]any {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		redisOn(t, listener, &fakeRedis{t: t, answer: answer})
		return at(listener.Addr().String())
	}
	refusesLogin := func(_ string, command []string) string {
		if command[0] == "AUTH" {
			return "-ERR AUTH " + command[1] + " called without any password configured\r\n"
		}
		return "+OK\r\n"
	}
	asksForOne := func(_ string, command []string) string {
		if command[0] == "AUTH" {
			return "+OK\r\n"
		}
		return "-NOAUTH Authentication required.\r\n"
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	hasty := startRawBackend(t, func(_ int, _ net.Conn, r *bufio.Reader) { r.ReadByte() })
	patients := []patient{
		{name: "", config: fake(storeOf(0, admitted)), verdict: "redis_ok"},
		{name: "wrong", config: fake(always("-WRONGPASS invalid username-password pair " + redisPassword + "\r\n")), verdict: "redis_password", text: []string{"refuses"}},
		{name: "not configured there", config: fake(refusesLogin), verdict: "redis_password"},
		{name: "missing", config: fake(asksForOne), verdict: "redis_password", text: []string{"asks for a password"}},
		{name: "of the script", config: fake(storeOf(0, "-NOPERM User x has no permissions\r\n")), verdict: "redis_right", text: []string{"~s3proxy:limit:*", "+evalsha"}},
		{name: "a replica", config: fake(storeOf(0, "-READONLY You can't write against "+redisPassword+"\r\n")), verdict: "redis_refuses", text: []string{"replica"}},
		{name: "off by ten minutes", config: fake(storeOf(10*time.Minute, admitted)), verdict: "redis_clock", text: []string{"10m"}},
		{name: "an S3 server", config: at(demo.Listener.Addr().String()), verdict: "not_redis"},
		{name: "who hangs up", config: at(strings.TrimPrefix(hasty, "http://")), verdict: "not_redis"},
		{name: "another script", config: fake(storeOf(0, "*1\r\n:1\r\n")), verdict: "not_redis"},
		{name: "the store", config: at(closed.Listener.Addr().String()), verdict: "connection_refused"},
	}
	for i := range patients {
		patients[i].subject = redisSetting
	}
	for _, p := range patients {
		t.Run(p.verdict+" "+p.name, func(t *testing.T) {
			r := e.examine(t, p)
			r.want(t, p.subject, p.verdict, p.text...)
			if text := renderings(t, r); strings.Contains(text, redisPassword) {
				t.Errorf("the report has the password:\n%s", text)
			}
		})
	}
	t.Run("late", func(t *testing.T) { testDoctorLateRedis(t, e) })
}

// A store that answers late is told from one that does not answer, in bounded time.
func testDoctorLateRedis(t *testing.T, e *everyVerdict) {
	for _, test := range []struct{ silentAt, verdict string }{{"EVALSHA", "redis_slow"}, {"TIME", "no_answer"}} {
		synctest.Test(t, func(t *testing.T) {
			hold := make(chan struct{})
			fake, store := newFakeRedis(t, nil)
			usual := storeOf(0, admitted)
			fake.set(func(addr string, command []string) string {
				if command[0] == test.silentAt {
					<-hold
				}
				return usual(addr, command)
			})
			r := &report{secrets: func() []string { return nil }}
			start := time.Now()
			(&redisDoctor{r.chapter("Redis"), store}).examine(t.Context())
			if took := time.Since(start); took > 2*redisWait {
				t.Errorf("the store took %s, want at most %s", took, 2*redisWait)
			}
			close(hold)
			e.note(r)
			r.want(t, redisSetting, test.verdict)
			synctest.Wait()
		})
	}
}

// What the doctor asks the store is no user's window.
func TestDoctorTouchesNoWindow(t *testing.T) {
	var keys []string
	usual := storeOf(0, admitted)
	_, store := newFakeRedis(t, func(addr string, command []string) string {
		if command[0] == "EVALSHA" {
			keys = append(keys, command[3])
		}
		return usual(addr, command)
	})
	(&redisDoctor{(&report{}).chapter("Redis"), store}).examine(t.Context())
	if len(keys) != 1 {
		t.Fatalf("keys = %q, want one", keys)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(keys[0], windowKey("")[:len(windowKey(""))-1]), "}")
	if validIdentifier.MatchString(name) {
		t.Errorf("the window %q may be a user's", name)
	}
}
