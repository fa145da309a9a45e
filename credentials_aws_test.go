package main

import (
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
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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
