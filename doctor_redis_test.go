package main

import (
	"fmt"
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
	refusesLogin := func(_ string, command []string) string {
		return "-ERR AUTH " + command[1] + " called without any password configured\r\n"
	}
	asksForOne := func(_ string, command []string) string {
		if command[0] == "AUTH" {
			return "+OK\r\n"
		}
		return "-NOAUTH Authentication required.\r\n"
	}
	wrong := always("-WRONGPASS invalid username-password pair " + redisPassword + "\r\n")
	for _, test := range []struct {
		name    string
		answer  func(string, []string) string
		verdict string
		text    []string
	}{
		{"healthy", storeOf(0, admitted), "redis_ok", nil},
		{"wrong", wrong, "redis_password", []string{"refuses"}},
		{"not configured there", refusesLogin, "redis_password", nil},
		{"missing", asksForOne, "redis_password", []string{"asks for a password"}},
		{"of the script", storeOf(0, "-NOPERM User x has no permissions\r\n"), "redis_right", []string{"~s3proxy:limit:*", "+evalsha"}},
		{"a replica", storeOf(0, "-READONLY You can't write against "+redisPassword+"\r\n"), "redis_refuses", []string{"replica"}},
		{"off by ten minutes", storeOf(10*time.Minute, admitted), "redis_clock", []string{"10m"}},
		{"another script", storeOf(0, "*1\r\n:1\r\n"), "not_redis", nil},
		{"HTTP", always("HTTP/1.1 400 Bad Request\r\n" + hangUp), "not_redis", nil},
		{"who hangs up", always(hangUp), "not_redis", nil},
	} {
		t.Run(test.verdict+" "+test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, store := newFakeRedis(t, test.answer)
				store.server.password = redisPassword
				r := &report{secrets: func() []string { return nil }}
				(&redisDoctor{r.chapter("Redis"), store}).examine(t.Context())
				e.note(r)
				r.want(t, redisSetting, test.verdict, test.text...)
				if text := renderings(t, r); strings.Contains(text, redisPassword) {
					t.Errorf("the report has the password:\n%s", text)
				}
				synctest.Wait()
			})
		})
	}
	t.Run("late", func(t *testing.T) { testDoctorLateRedis(t, e) })
	testDoctorRedisPort(t, e)
}

// Each right that the script needs is missed, whatever the state of the windows is.
func TestDoctorMissesEveryRightOfTheLimiter(t *testing.T) {
	for right := range strings.FieldsSeq(limiterRights) {
		name := strings.ToUpper(right[1:])
		if name == "SELECT" { // sent at the start of a connection, if the URL names a database
			continue
		}
		usual := storeOf(0, admitted)
		_, store := newFakeRedis(t, func(addr string, command []string) string {
			if command[0] == name {
				return "-NOPERM this user has no permissions to run the '" + strings.ToLower(name) + "' command\r\n"
			}
			return usual(addr, command)
		})
		r := &report{secrets: func() []string { return nil }}
		(&redisDoctor{r.chapter("Redis"), store}).examine(t.Context())
		r.want(t, redisSetting, "redis_right", right)
	}
}

// The store of a configuration is examined with its accounts.
func testDoctorRedisPort(t *testing.T, e *everyVerdict) {
	demo := startDemoBackend(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	at := func(server *httptest.Server) map[string]any {
		return testConfig(demo.URL, with("rate_limit.redis_url", "redis://:"+redisPassword+"@"+server.Listener.Addr().String()))
	}
	e.diagnose(t, []patient{
		{name: "an S3 server", config: at(demo), subject: redisSetting, verdict: "not_redis"},
		{name: "by the store", config: at(closed), subject: redisSetting, verdict: "connection_refused"},
	})
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
		switch command[0] {
		case "EVALSHA", "EVAL":
			keys = append(keys, command[3])
		case "AUTH", "TIME":
		default:
			keys = append(keys, command[1])
		}
		return usual(addr, command)
	})
	(&redisDoctor{(&report{}).chapter("Redis"), store}).examine(t.Context())
	if len(keys) == 0 {
		t.Fatal("the store was asked for no key")
	}
	for _, key := range keys {
		name, isWindow := strings.CutPrefix(strings.TrimSuffix(key, "}"), windowKey("")[:len(windowKey(""))-1])
		if !isWindow || validIdentifier.MatchString(name) {
			t.Errorf("the key %q may be a user's, or is one that the user may not use", key)
		}
	}
}
