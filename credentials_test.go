package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
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

func TestSTSEndpoint(t *testing.T) {
	// https://docs.aws.amazon.com/general/latest/gr/sts.html
	// https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Ningxia.html
	for _, test := range []struct{ variable, value, want string }{
		{"AWS_REGION", "eu-west-1", "https://sts.eu-west-1.amazonaws.com/"},
		{"AWS_DEFAULT_REGION", "us-gov-west-1", "https://sts.us-gov-west-1.amazonaws.com/"},
		{"AWS_REGION", "cn-northwest-1", "https://sts.cn-northwest-1.amazonaws.com.cn/"},
		{"AWS_ENDPOINT_URL_STS", "https://minio.example:9000", "https://minio.example:9000"},
	} {
		env := map[string]string{test.variable: test.value}
		got, err := stsEndpoint(func(name string) string { return env[name] })
		if got != test.want || err != nil {
			t.Errorf("stsEndpoint(%s=%s) = %s, %v, want %s", test.variable, test.value, got, err, test.want)
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

func TestParseProfile(t *testing.T) {
	// The keys are those of the page of useProfile.
	const file = "; of the agent\n" +
		"[default]\r\n" +
		"aws_access_key_id=AKIAIOSFODNN7EXAMPLE\r\n" +
		"aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\r\n" +
		"\n" +
		"[ user1 ]   # spaces\n" +
		"  AWS_Access_Key_ID = AKIAI44QH8DHBEXAMPLE ; after a space\n" +
		"\taws_secret_access_key =\tje7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY\t# a tab\n" +
		"aws_session_token = a#b;c==\n" +
		"region = us-west-2\n" +
		"#[hidden]\n" +
		"[User1]\n" +
		"aws_access_key_id = OTHER\naws_secret_access_key = other\n" +
		"[role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = default\n" +
		"[process]\naws_access_key_id = OLD\naws_secret_access_key = CANARY\ncredential_process = /bin/CANARY\n" +
		"[sso]\nsso_account_id = 1\n" +
		"[half]\naws_access_key_id = HALF\n" +
		"[default]\naws_session_token = of the second section\n" // no line break at the end: see below
	for _, test := range []struct {
		profile string
		want    credentials
		err     string
	}{
		{"default", credentials{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "of the second section"}, ""},
		{"user1", credentials{"AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY", "a#b;c=="}, ""},
		{"User1", credentials{"OTHER", "other", ""}, ""},
		{"half", credentials{"HALF", "", ""}, ""}, // for check to refuse
		{"hidden", credentials{}, "does not exist"},
		{"nobody", credentials{}, "does not exist"},
		{"role", credentials{}, "has role_arn, which is not supported"},
		{"process", credentials{}, "has credential_process, which"},
		{"sso", credentials{}, "has sso_account_id, which"},
	} {
		got, err := parseProfile(strings.TrimSuffix(file, "\n"), test.profile)
		if test.err == "" && (err != nil || got != test.want) || test.err != "" && !strings.Contains(fmt.Sprint(err), test.err) {
			t.Errorf("parseProfile(%q) = %v, %v, want %v, %q", test.profile, got, err, test.want, test.err)
		}
		if err != nil {
			checkNoCredential(t, err.Error())
		}
	}
}

// The file is read by the name the SDKs have for it, and again when it changes.
func TestProfileRotation(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(home, ".aws", "credentials")
	os.Mkdir(filepath.Dir(path), 0o700)
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := func(id string) string {
		return "[prod]\naws_access_key_id = " + id + "\naws_secret_access_key = CANARY-" + id + "\n"
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		s, log, err := testSource(t, "profile", map[string]string{"HOME": home, "AWS_PROFILE": "prod"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.start(ctx); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"minio" (profile)`) {
			t.Fatalf("start without a file: %v", err)
		}
		write(key("FIRST"))
		if err := s.start(ctx); err != nil {
			t.Fatal(err)
		}
		first := s.get()
		time.Sleep(10 * pollFile)
		if s.get() != first || *first != (credentials{"FIRST", "CANARY-FIRST", ""}) {
			t.Errorf("after minutes without a change: %v, want the same pointer to FIRST", s.get().AccessKeyID)
		}
		write("[prod]\naws_access_key_id = SECOND\n") // caught while it is written
		time.Sleep(pollFile)
		if id := s.get().AccessKeyID; id != "FIRST" || !strings.Contains(log.String(), "secret access key is missing") {
			t.Errorf("of half a file: %s, log %s", id, log)
		}
		write(key("SECOND"))
		time.Sleep(pollFile)
		if *s.get() != (credentials{"SECOND", "CANARY-SECOND", ""}) || s.expires() != 0 {
			t.Errorf("after the change: %s, expires %d", s.get().AccessKeyID, s.expires())
		}
		stop()
		synctest.Wait()
	})
	elsewhere := writeFile(t, key("FOURTH")+key("FIFTH"))
	s := mustSource(t, "profile:prod", map[string]string{"HOME": home, "AWS_PROFILE": "dev", "AWS_SHARED_CREDENTIALS_FILE": elsewhere})
	if c, err := s.fetch(t.Context()); err != nil || c.AccessKeyID != "FIFTH" {
		t.Errorf("of %s: %s, %v", elsewhere, c.AccessKeyID, err)
	}
}

// A standIn answers as an endpoint would, and counts what it was asked.
type standIn struct {
	*httptest.Server
	requests atomic.Int64
}

func newStandIn(t *testing.T, handler http.HandlerFunc) *standIn {
	s := &standIn{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// checkRequest reports what differs from the request that the documentation wants.
func checkRequest(t *testing.T, r *http.Request, method, target string, header map[string]string) {
	t.Helper()
	if r.Method != method || r.RequestURI != target {
		t.Errorf("asked %s %s, want %s %s", r.Method, r.RequestURI, method, target)
	}
	for name, want := range header {
		if got := r.Header.Values(name); strings.Join(got, "|") != want {
			t.Errorf("%s %s: %s = %q, want %q", method, target, name, got, want)
		}
	}
}

// The sample answer of the STS API reference, whose time has passed.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
const (
	stsSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"
	stsToken  = "AQoDYXdzEE0a8ANXXXXXXXXNO1ewxE5TijQyp+IEXAMPLE"
	stsAnswer = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>amzn1.account.AF6RHO7KZU5XRVQJGXK6HB56KR2A</SubjectFromWebIdentityToken>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/FederatedWebIdentityRole/app1</Arn></AssumedRoleUser>
    <Credentials>
      <SessionToken>` + stsToken + `</SessionToken>
      <SecretAccessKey>` + stsSecret + `</SecretAccessKey>
      <Expiration>2014-10-24T23:00:23Z</Expiration>
      <AccessKeyId>ASgeIAIOSFODNN7EXAMPLE</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>`
	// As in the pages of useContainer and useInstance.
	jsonAnswer = `{"Code":"Success","LastUpdated":"2014-10-24T17:00:23Z","Type":"AWS-HMAC","AccessKeyId":"ASgeIAIOSFODNN7EXAMPLE",` +
		`"SecretAccessKey":"` + stsSecret + `","Token":"` + stsToken + `","Expiration":"2014-10-24T23:00:23Z"}`
)

var sampleCredentials = expiringCredentials{credentials{"ASgeIAIOSFODNN7EXAMPLE", stsSecret, stsToken}, time.Date(2014, 10, 24, 23, 0, 23, 0, time.UTC)}

func checkFetch(t *testing.T, s *credentialSource) {
	t.Helper()
	if got, err := s.fetch(t.Context()); err != nil || got != sampleCredentials {
		t.Errorf("fetch = %v, %v", got, err)
	}
}

func TestWebIdentity(t *testing.T) {
	var session string
	var identities []string
	sts := newStandIn(t, func(w http.ResponseWriter, r *http.Request) {
		checkRequest(t, r, "POST", "/", map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Authorization": ""})
		r.ParseForm()
		for name, want := range map[string]string{"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15",
			"RoleArn": "arn:aws:iam::123456789012:role/FederatedWebIdentityRole", "RoleSessionName": session} {
			if got := r.PostForm.Get(name); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
		identities = append(identities, r.PostForm.Get("WebIdentityToken"))
		io.WriteString(w, stsAnswer)
	})
	file := writeFile(t, "Atza|IQEBLjAsAhRFiX+1\n")
	env := map[string]string{"AWS_ENDPOINT_URL_STS": sts.URL, "AWS_WEB_IDENTITY_TOKEN_FILE": file,
		"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/FederatedWebIdentityRole", "AWS_ROLE_SESSION_NAME": "app1"}
	session = "app1"
	s := mustSource(t, "web-identity", env)
	checkFetch(t, s)
	os.WriteFile(file, []byte("Atza|second"), 0o600)
	checkFetch(t, s)
	if got := strings.Join(identities, " "); got != "Atza|IQEBLjAsAhRFiX+1 Atza|second" {
		t.Errorf("tokens sent: %s; the file is to be read each time", got)
	}

	delete(env, "AWS_ROLE_SESSION_NAME")
	session = "s3-proxy-minio"
	checkFetch(t, mustSource(t, "web-identity", env))
	session = "s3-proxy-" + strings.Repeat("a", 55)
	s, err := newCredentialSource("web-identity", strings.Repeat("a", 64), func(name string) (string, bool) { return env[name], true }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	checkFetch(t, s)

	os.Remove(file)
	before := sts.requests.Load()
	if _, err := s.fetch(t.Context()); !errors.Is(err, os.ErrNotExist) || sts.requests.Load() != before {
		t.Errorf("without the file: %v", err)
	}
}

func TestContainerCredentials(t *testing.T) {
	const relative = "/v2/credentials/uuid-as-good-as-a-password?x=1"
	token := writeFile(t, "CANARY-of-the-file")
	for _, test := range []struct {
		name          string
		env           map[string]string
		dials         string // "" is the stand-in
		target        string
		authorization string
	}{
		{"full", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "STANDIN/get?a=b"}, "", "/get?a=b", ""},
		{"token", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "STANDIN/get", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic CANARY"}, "", "/get", "Basic CANARY"},
		{"the file counts", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "STANDIN/get", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic CANARY",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}, "", "/get", "CANARY-of-the-file"},
		{"relative counts", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "STANDIN/get", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": relative},
			"169.254.170.2:80", relative, ""},
		{"EKS Pod Identity", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}, "169.254.170.23:80", "/v1/credentials", "CANARY-of-the-file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoint := newStandIn(t, func(w http.ResponseWriter, r *http.Request) {
				checkRequest(t, r, "GET", test.target, map[string]string{"Authorization": test.authorization, "Accept": "application/json"})
				io.WriteString(w, strings.Replace(jsonAnswer, `"Code":"Success",`, "", 1))
			})
			for name, value := range test.env {
				test.env[name] = strings.Replace(value, "STANDIN", endpoint.URL, 1)
			}
			s := mustSource(t, "ecs", test.env)
			address := endpoint.Listener.Addr().String()
			transport := s.client.Transport.(*http.Transport)
			transport.DialContext = func(ctx context.Context, network, dialed string) (net.Conn, error) {
				if want := test.dials; dialed != want && want != "" {
					t.Errorf("dialed %s, want %s", dialed, want)
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			checkFetch(t, s)
			if transport.Proxy != nil {
				t.Error("a proxy would be asked")
			}
		})
	}

	// https goes anywhere, but not to anybody.
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	s := mustSource(t, "ecs", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": secure.URL})
	if _, err := s.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("of an unknown certificate: %v", err)
	}

	// A token that would end its header is not sent, nor shown.
	endpoint := newStandIn(t, func(http.ResponseWriter, *http.Request) {})
	for _, test := range []struct{ variable, value, err string }{
		{"AWS_CONTAINER_AUTHORIZATION_TOKEN", "CANARY\r\nX-Other: 1", "line break"},
		{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", writeFile(t, "CANARY\n"), "line break"},
		{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token + "-that-is-not-there", "no such file"},
		{"AWS_CONTAINER_AUTHORIZATION_TOKEN", "CANARY\x00", ""},
	} {
		env := map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint.URL, test.variable: test.value}
		_, err := mustSource(t, "ecs", env).fetch(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.err) || endpoint.requests.Load() != 0 {
			t.Errorf("%s=%q: %v, %d requests", test.variable, test.value, err, endpoint.requests.Load())
		} else {
			checkNoCredential(t, err.Error())
		}
	}
}

// instance is a stand-in for the metadata service, version 2.
func instance(t *testing.T, role string, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session := map[string]string{"X-Aws-Ec2-Metadata-Token": "metadata-session=="}
		switch r.URL.Path {
		case "/latest/api/token":
			checkRequest(t, r, "PUT", "/latest/api/token", map[string]string{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "60", "Content-Length": "0"})
			io.WriteString(w, "metadata-session==")
		case "/latest/meta-data/iam/security-credentials/":
			checkRequest(t, r, "GET", "/latest/meta-data/iam/security-credentials/", session)
			io.WriteString(w, role)
		default:
			checkRequest(t, r, "GET", "/latest/meta-data/iam/security-credentials/s3access", session)
			answer(w, r)
		}
	}
}

func TestInstanceCredentials(t *testing.T) {
	say := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, jsonAnswer) }
	for _, test := range []struct {
		name, role, err string
		requests        int64
	}{
		{"one", "s3access", "", 3},
		{"line break", "s3access\n", "", 3},
		{"none", "", "no role", 2},
		{"a way out", "../../user-data", "no role", 2},
		{"a query", "s3access?CANARY", "no role", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoint := newStandIn(t, instance(t, test.role, say))
			s := mustSource(t, "imds", map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint.URL + "/"})
			if test.err == "" {
				checkFetch(t, s)
			} else if _, err := s.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("fetch: %v", err)
			}
			if n := endpoint.requests.Load(); n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
			if s.client.Transport.(*http.Transport).Proxy != nil {
				t.Error("a proxy would be asked")
			}
		})
	}

	// Where version 2 is not to be had, version 1 is not tried.
	old := newStandIn(t, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	s := mustSource(t, "imds", map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": old.URL})
	if _, err := s.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "404") || old.requests.Load() != 1 {
		t.Errorf("of version 1: %v, %d requests", err, old.requests.Load())
	}
	bare := newStandIn(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "PUT" {
			http.NotFound(w, r)
		}
		io.WriteString(w, "metadata-session")
	})
	s = mustSource(t, "imds", map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": bare.URL})
	if _, err := s.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "has the instance a role?") {
		t.Errorf("without a role: %v", err)
	}
	odd := newStandIn(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "CANARY\r\nX: 1") })
	s = mustSource(t, "imds", map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": odd.URL})
	if _, err := s.fetch(t.Context()); err != errNoDocument || odd.requests.Load() != 1 {
		t.Errorf("of a token that can't be sent: %v, %d requests", err, odd.requests.Load())
	}
	s = mustSource(t, "imds", nil)
	s.client.Transport.(*http.Transport).DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
		if address != "169.254.169.254:80" {
			t.Errorf("dialed %s", address)
		}
		return nil, io.EOF
	}
	if _, err := s.fetch(t.Context()); err == nil {
		t.Error("fetch without an endpoint: no error")
	}
}

// Every kind, against answers that are wrong. None may be taken for credentials,
// none may be shown, and each must leave the last good ones in place.
func TestWrongAnswers(t *testing.T) {
	elsewhere := newStandIn(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, jsonAnswer) })
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); io.WriteString(w, body) }
	}
	ok := func(body string) http.HandlerFunc { return status(200, body) }
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, text)
			conn.Close()
		}
	}
	type wrong struct {
		name   string
		answer http.HandlerFunc
		err    string
	}
	always := []wrong{
		{"403", status(403, "CANARY"), "status 403"},
		{"500", status(500, "CANARY"), "status 500"},
		{"204", status(204, ""), "status 204"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "status 307"},
		{"empty", ok(""), "can't be understood"},
		{"garbage", ok("CANARY"), "can't be understood"},
		{"null", ok("null"), ""},
		{"huge", ok(strings.Repeat(" ", maxCredentialsDocument) + "{}"), "longer than 65536"},
		{"deep", ok(strings.Repeat("<a>", 20000)), ""},
		{"not HTTP", raw("CANARY not HTTP\r\n\r\n"), "not HTTP"},
		{"bad header", raw("HTTP/1.1 200 OK\r\nCANARY\r\n\r\n"), "not HTTP"},
		{"big header", raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("CANARY", 20000) + "\r\n\r\n"), ""},
		{"cut", raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"CANARY\""), "broke"},
		{"closed", raw(""), "broke"},
	}
	// without and with break one field of the sample.
	without := func(answer, from, to string) http.HandlerFunc {
		before, rest, ok1 := strings.Cut(answer, from)
		_, after, ok2 := strings.Cut(rest, to)
		if !ok1 || !ok2 {
			panic("the sample has no " + from)
		}
		return ok(before + after)
	}
	with := func(answer, old, new string) http.HandlerFunc { return ok(strings.Replace(answer, old, new, 1)) }
	inJSON := []wrong{
		{"no id", without(jsonAnswer, `"AccessKeyId":"`, `",`), "access key id"},
		{"no secret", without(jsonAnswer, `"SecretAccessKey":"`, `",`), "secret access key"},
		{"no token", without(jsonAnswer, `"Token":"`, `",`), "session token"},
		{"no expiration", without(jsonAnswer, `,"Expiration":"`, `"`), "expiration"},
		{"bad expiration", with(jsonAnswer, `"Expiration":"2014`, `"Expiration":"CANARY`), "can't be understood"},
		{"a header in the id", with(jsonAnswer, "ASge", `CANARY\r\nX: `), "access key id"},
		{"a header in the token", with(jsonAnswer, "AQoD", `CANARY\r\nX: `), "session token"},
		{"failed", ok(`{"Code":"AssumeRoleUnauthorizedAccess","Message":"CANARY"}`), "not Success"},
		{"failed, with the rest", with(jsonAnswer, "Success", "CANARY"), "not Success"},
		{"types", with(jsonAnswer, `"`+stsSecret+`"`, `{"CANARY":1}`), "can't be understood"},
	}
	inXML := []wrong{
		{"no id", without(stsAnswer, "<AccessKeyId>", "</AccessKeyId>"), "access key id"},
		{"no secret", without(stsAnswer, "<SecretAccessKey>", "</SecretAccessKey>"), "secret access key"},
		{"no token", without(stsAnswer, "<SessionToken>", "</SessionToken>"), "session token"},
		{"no expiration", without(stsAnswer, "<Expiration>", "</Expiration>"), "expiration"},
		{"bad expiration", with(stsAnswer, "2014-10-24T", "CANARY"), "can't be understood"},
		{"another action", ok(strings.ReplaceAll(stsAnswer, "AssumeRoleWithWebIdentityRes", "AssumeRoleRes")), "can't be understood"},
		{"a known error", status(403, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>CANARY</Message></Error></ErrorResponse>`), "status 403, AccessDenied"},
		{"an unknown error", status(400, `<ErrorResponse><Error><Code>CANARY</Code></Error></ErrorResponse>`), "status 400"},
	}
	held := &expiringCredentials{credentials{"HELD", "secret", "session"}, time.Now().Add(time.Hour)}
	check := func(kind string, env map[string]string, test wrong) {
		t.Run(kind+"/"+test.name, func(t *testing.T) {
			wrap := func(h http.HandlerFunc) http.HandlerFunc { return h }
			if kind == "imds" {
				wrap = func(h http.HandlerFunc) http.HandlerFunc { return instance(t, "s3access", h) }
			}
			endpoint := newStandIn(t, wrap(test.answer))
			for name, value := range env {
				env[name] = strings.Replace(value, "STANDIN", endpoint.URL, 1)
			}
			s := mustSource(t, kind, env)
			s.current.Store(held)
			err := s.refresh(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("refresh: %v, want %q in the error", err, test.err)
			} else {
				checkNoCredential(t, err.Error())
			}
			if s.current.Load() != held || s.failures.Load() != 1 {
				t.Errorf("holds %s, %d failures, want the last good ones and 1", s.get().AccessKeyID, s.failures.Load())
			}
		})
	}
	token := writeFile(t, "Atza|IQEBLjAsAhRFiX")
	for _, kind := range []struct {
		name    string
		answers [][]wrong
	}{
		{"web-identity", [][]wrong{always, inXML}},
		{"ecs", [][]wrong{always, inJSON}},
		{"imds", [][]wrong{always, inJSON, {{"no code", without(jsonAnswer, `"Code":"`, `",`), "not Success"}}}},
	} {
		for _, answers := range kind.answers {
			for _, test := range answers {
				check(kind.name, map[string]string{
					"AWS_ENDPOINT_URL_STS": "STANDIN", "AWS_ROLE_ARN": "arn", "AWS_WEB_IDENTITY_TOKEN_FILE": token,
					"AWS_CONTAINER_CREDENTIALS_FULL_URI":     "STANDIN/uuid-as-good-as-a-password",
					"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token,
					"AWS_EC2_METADATA_SERVICE_ENDPOINT":      "STANDIN"}, test)
			}
		}
	}
	if n := elsewhere.requests.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
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

// Expired ones are taken only if there are no others.
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
