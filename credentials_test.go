package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What must never be seen in an error or a log: the secrets of the examples, and
// whatever the stand-ins say.
var credentialSecrets = []string{
	"wJalrXUtnFEMI", "AQoDYXdzEE0a8ANXXXXXXXXNO1ewxE5TijQyp", "CANARY", "Atza", "uuid-as-good-as-a-password", "metadata-session",
}

func checkNoCredential(t *testing.T, text string) {
	t.Helper()
	for _, secret := range credentialSecrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret (%s) is shown in %s", secret, text)
		}
	}
}

// testSource makes a source and watches its log for secrets.
func testSource(t *testing.T, spec string, env map[string]string) (*credentialSource, *lockedBuffer, error) {
	t.Helper()
	log := &lockedBuffer{}
	t.Cleanup(func() { checkNoCredential(t, log.String()) })
	lookup := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	s, err := newCredentialSource(spec, "minio", lookup, slog.New(slog.NewTextHandler(log, nil)))
	return s, log, err
}

func mustSource(t *testing.T, spec string, env map[string]string) *credentialSource {
	t.Helper()
	s, _, err := testSource(t, spec, env)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentialSpecification(t *testing.T) {
	type env = map[string]string
	web := func(more env) env {
		e := env{"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_REGION": "eu-west-1"}
		for name, value := range more {
			e[name] = value
		}
		return e
	}
	full := func(uri string) env { return env{"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri} }
	for _, test := range []struct {
		spec string
		env  env
		want string // in the error; "" is none
	}{
		{"", nil, `must be "env"`},
		{"vault", nil, `"vault"`},
		{"ENV", nil, `"ENV"`},
		{"env:x", nil, `"env:x"`},
		{"imds:", nil, `"imds:"`},
		{"profile:", nil, `"profile:"`},

		{"env", nil, "AWS_ACCESS_KEY_ID"},
		{"env", env{"AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_SECRET_ACCESS_KEY"},
		{"env", env{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY"},
		{"env", env{"AWS_ACCESS_KEY_ID": "A/B", "AWS_SECRET_ACCESS_KEY": "CANARY"}, "access key id"},
		{"env", env{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "CANARY\n"}, "session token"},

		{"profile", nil, "HOME"},
		{"profile", env{"HOME": "/home/x"}, ""},

		{"web-identity", nil, "AWS_ROLE_ARN"},
		{"web-identity", web(env{"AWS_ROLE_ARN": ""}), "AWS_ROLE_ARN"},
		{"web-identity", web(env{"AWS_WEB_IDENTITY_TOKEN_FILE": ""}), "AWS_WEB_IDENTITY_TOKEN_FILE"},
		{"web-identity", web(env{"AWS_REGION": ""}), "AWS_REGION"},
		{"web-identity", web(env{"AWS_REGION": "evil.example/x"}), "AWS_REGION"},
		{"web-identity", web(env{"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"}), ""},
		{"web-identity", web(env{"AWS_ENDPOINT_URL_STS": "ftp://CANARY"}), "AWS_ENDPOINT_URL_STS"},
		{"web-identity", web(nil), ""},

		{"ecs", nil, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"},
		{"ecs", env{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "@evil.example/"}, "slash"},
		{"ecs", env{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/id"}, ""},
		{"ecs", full("/only/a/path/CANARY"), "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
		{"ecs", full("file:///CANARY"), "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
		{"ecs", full("http://192.168.1.1/CANARY"), "plain http"},
		{"ecs", full("http://169.254.169.254/CANARY"), "plain http"},
		{"ecs", full("http://127.0.0.1.evil.example/CANARY"), "plain http"},
		{"ecs", full("http://169.254.170.2@evil.example/CANARY"), "plain http"},
		{"ecs", full("https://anywhere.example/"), ""},
		{"ecs", full("http://localhost:8080/x?id=1"), ""},
		{"ecs", full("http://127.1.2.3/"), ""},
		{"ecs", full("http://[::1]:80/"), ""},
		{"ecs", full("http://169.254.170.2/v2"), ""},
		{"ecs", full("http://169.254.170.23/v1/credentials"), ""},
		{"ecs", full("http://[fd00:ec2::23]/v1/credentials"), ""},

		{"imds", env{"AWS_EC2_METADATA_DISABLED": "True"}, "AWS_EC2_METADATA_DISABLED"},
		{"imds", env{"AWS_EC2_METADATA_SERVICE_ENDPOINT": "169.254.169.254"}, "AWS_EC2_METADATA_SERVICE_ENDPOINT"},
		{"imds", env{"AWS_EC2_METADATA_DISABLED": "false"}, ""},
		{"imds", nil, ""},
	} {
		_, _, err := testSource(t, test.spec, test.env)
		if got := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && !strings.Contains(got, test.want) {
			t.Errorf("newCredentialSource(%q, %v): %v, want %q in the error", test.spec, test.env, err, test.want)
		}
		if err != nil {
			checkNoCredential(t, err.Error())
		}
	}
}

func TestCredentialsThatNeverChange(t *testing.T) {
	want := credentials{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "token"}
	static := staticCredentials(want)
	fromEnv := mustSource(t, "env", map[string]string{"AWS_ACCESS_KEY_ID": want.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": want.SecretAccessKey, "AWS_SESSION_TOKEN": want.SessionToken})
	for _, s := range []*credentialSource{static, fromEnv} {
		if err := s.start(t.Context()); err != nil || *s.get() != want || s.expires() != 0 {
			t.Errorf("start: %v, get = %v, expires = %d", err, *s.get(), s.expires())
		}
		if n := testing.AllocsPerRun(100, func() { s.get() }); n != 0 {
			t.Errorf("get allocates %v times", n)
		}
	}
}

// Nobody listens, or somebody does and says nothing, or says it too slowly: start
// gives up in time, and tells nothing that is secret.
func TestStartIsBounded(t *testing.T) {
	drip := func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
		for {
			if _, err := io.WriteString(conn, " "); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	for _, test := range []struct {
		name  string
		serve func(net.Conn) // nil: nobody listens
		want  time.Duration  // at least
		err   string
	}{
		{"refused", nil, time.Second, "connection refused"},
		{"silent", func(net.Conn) {}, fetchTimeout, "no answer in time"},
		{"drip", drip, fetchTimeout, "no answer in time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := mustSource(t, "ecs", map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/uuid-as-good-as-a-password"})
				var servers sync.WaitGroup
				s.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
					if test.serve == nil {
						return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
					}
					near, far := net.Pipe()
					servers.Go(func() {
						http.ReadRequest(bufio.NewReader(far))
						test.serve(far)
						io.Copy(io.Discard, far) // until the gateway hangs up
						far.Close()
					})
					return near, nil
				}
				began := time.Now()
				err := s.start(t.Context())
				if took := time.Since(began); err == nil || took < test.want || took > startTimeout {
					t.Errorf("start: %v after %v, want an error after %v to %v", err, took, test.want, startTimeout)
				}
				if !strings.Contains(fmt.Sprint(err), test.err) {
					t.Errorf("start: %v, want %q in the error", err, test.err)
				}
				checkNoCredential(t, fmt.Sprint(err))
				if s.get() == nil {
					t.Error("get = nil")
				}
				servers.Wait()
			})
		})
	}
}

// A script is a list of fetches: each is good for so long, or fails if that is 0.
// The last one repeats.
type script struct {
	goodFor []time.Duration

	mu    sync.Mutex // guards times
	times []time.Time
}

func (s *script) fetch(context.Context) (expiringCredentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	goodFor := s.goodFor[min(len(s.times), len(s.goodFor)-1)]
	s.times = append(s.times, time.Now())
	if goodFor == 0 {
		return expiringCredentials{}, errors.New("down")
	}
	id := fmt.Sprintf("KEY%d", len(s.times))
	return expiringCredentials{credentials{id, "wJalrXUtnFEMI-" + id, "session"}, time.Now().Add(goodFor)}, nil
}

// fetched is when the fetches were, once all that is due has been done.
func (s *script) fetched() []time.Time {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.times)
}

func scripted(s *credentialSource, goodFor ...time.Duration) *script {
	script := &script{goodFor: goodFor}
	s.fetch = script.fetch
	return script
}

func scriptedSource(t *testing.T) (*credentialSource, *lockedBuffer) {
	t.Helper()
	s, log, err := testSource(t, "imds", nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s, log := scriptedSource(t)
		script := scripted(s, time.Hour, 0, 0, 0, time.Hour, 0)
		if err := s.start(ctx); err != nil || s.get().AccessKeyID != "KEY1" || s.expires() != time.Now().Add(time.Hour).Unix() {
			t.Fatalf("start: %v, %s, expires %d", err, s.get().AccessKeyID, s.expires())
		}
		// At half of the hour, less an eighth at most, and sooner after each failure.
		for times := script.fetched(); len(times) < 4; times = script.fetched() {
			if s.get().AccessKeyID != "KEY1" || s.failures.Load() != int64(len(times)-1) {
				t.Fatalf("after %d fetches: %s, %d failures", len(times), s.get().AccessKeyID, s.failures.Load())
			}
			time.Sleep(time.Second / 4)
		}
		times := script.fetched()
		for i, bounds := range [][2]time.Duration{{26 * time.Minute, 30 * time.Minute}, {time.Second / 2, time.Second}, {time.Second, 2 * time.Second}} {
			if wait := times[i+1].Sub(times[i]); wait < bounds[0] || wait > bounds[1] {
				t.Errorf("fetch %d after %v, want %v to %v", i+2, wait, bounds[0], bounds[1])
			}
		}
		if text := log.String(); strings.Count(text, "level=WARN") != 3 || !strings.Contains(text, "account=minio source=imds expires=2000-01-01T01:00:00.000Z cause=down") {
			t.Errorf("log of three failures:\n%s", text)
		}
		time.Sleep(4 * time.Second)
		if synctest.Wait(); s.get().AccessKeyID != "KEY5" || !strings.Contains(log.String(), "level=INFO") {
			t.Errorf("recovered: %s, log:\n%s", s.get().AccessKeyID, log)
		}
		// From now on it is down. A day later the last ones are there, and it is
		// asked once or twice a minute.
		last := s.expires()
		time.Sleep(24 * time.Hour)
		times = script.fetched()
		n := len(times)
		if wait := times[6].Sub(times[5]); wait > time.Second {
			t.Errorf("the first failure after a success is tried again after %v, want 1s at most", wait)
		}
		if s.get().AccessKeyID != "KEY5" || s.expires() != last {
			t.Errorf("past their time: %s, want KEY5", s.get().AccessKeyID)
		}
		if n < 23*60 || n > 48*60 || s.failures.Load() != int64(n-2) {
			t.Errorf("%d fetches in a day, %d failures", n, s.failures.Load())
		}
		stop()
		time.Sleep(time.Hour)
		if more := len(script.fetched()) - n; more != 0 {
			t.Errorf("%d fetches after the end", more)
		}
	})
}

// The end of a source during a fetch is not a failure.
func TestRefreshEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s, log := scriptedSource(t)
		s.fetch = func(ctx context.Context) (expiringCredentials, error) {
			if s.get().AccessKeyID != "" { // not the first time
				<-ctx.Done()
			}
			return expiringCredentials{credentials{"KEY", "CANARY", "CANARY"}, time.Now().Add(time.Minute)}, ctx.Err()
		}
		if err := s.start(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		stop()
		synctest.Wait()
		if log.String() != "" {
			t.Errorf("log: %s", log)
		}
	})
}

// Expired ones are used only if there are no others.
func TestExpiredCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := scriptedSource(t)
		scripted(s, -time.Hour, time.Hour, -time.Minute, time.Minute)
		for i, want := range []struct {
			id     string
			failed bool
		}{{"KEY1", false}, {"KEY2", false}, {"KEY2", true}, {"KEY4", false}} {
			err := s.refresh(t.Context())
			if s.get().AccessKeyID != want.id || (err != nil) != want.failed {
				t.Errorf("fetch %d: %v, %s, want %s", i+1, err, s.get().AccessKeyID, want.id)
			}
		}
		if strings.Count(log.String(), "is the clock right") != 1 {
			t.Errorf("log: %s", log)
		}
	})
}

func TestRefreshDelay(t *testing.T) {
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct{ left, want time.Duration }{
		{12 * time.Hour, time.Hour},
		{time.Hour, 30 * time.Minute},
		{10 * time.Minute, 5 * time.Minute},
		{12 * time.Second, 10 * time.Second},
		{0, 10 * time.Second},
		{-24 * time.Hour, 10 * time.Second},
		{1 << 62, time.Hour},
	} {
		for range 100 {
			if got := refreshDelay(now.Add(test.left), now); got > test.want || got < test.want*7/8 {
				t.Fatalf("refreshDelay(%v) = %v, want %v, or up to an eighth less", test.left, got, test.want)
			}
		}
	}
	if got := refreshDelay(time.Time{}, now); got > time.Minute || got < 52*time.Second {
		t.Errorf("refreshDelay(never) = %v", got)
	}
	for failed, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 100: time.Minute, 1 << 40: time.Minute} {
		if got := fetchBackoff(failed); got > want || got < want/2 {
			t.Errorf("fetchBackoff(%d) = %v, want %v, or up to half less", failed, got, want)
		}
	}
}

// Many requests while the credentials change: each sees an id and a secret that
// belong together.
func TestConcurrentGet(t *testing.T) {
	s, _ := scriptedSource(t)
	scripted(s, time.Hour)
	if err := s.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !done.Load() {
				if c := s.get(); c.SecretAccessKey != "wJalrXUtnFEMI-"+c.AccessKeyID {
					t.Errorf("%s with the secret of another", c.AccessKeyID)
					return
				}
			}
		})
	}
	for range 2000 {
		if err := s.refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	readers.Wait()
}
