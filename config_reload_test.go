package main

// A configuration that changes while the program runs: what is taken at once, what
// goes on as it was, and what a file with a fault does not do.

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// A testProgram is the gateway as serve runs it: with a configuration file, and with
// the operator's listener if the configuration has one.
type testProgram struct {
	*testGateway
	path  string // of the configuration
	admin string // URL of the operator's listener, or ""
	stop  context.CancelFunc
	ended chan error
}

// startReloadable serves a configuration file, which is looked at for changes that
// often unless watch is 0, until the test ends.
func startReloadable(t *testing.T, watch time.Duration, config map[string]any) *testProgram {
	t.Helper()
	p := &testProgram{testGateway: &testGateway{t: t, log: &syncBuffer{}}, path: filepath.Join(t.TempDir(), "config.json"), ended: make(chan error, 1)}
	p.write(config)
	conf, err := loadConfig(p.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	ready := make(chan net.Addr, 1)
	log := slog.New(slog.NewJSONHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		p.ended <- serve(ctx, conf, launch{configSource: configSource{path: p.path}, log: log, watch: watch, ready: func(a, _ net.Addr) { ready <- a }})
	}()
	t.Cleanup(func() {
		stop()
		p.wait()
		checkNoSecret(t, "the log", p.log.String())
	})
	select {
	case addr := <-ready:
		p.addr = addr.String()
		p.url = "http://" + p.addr
	case err := <-p.ended:
		t.Fatalf("serve = %v", err)
	}
	for _, line := range p.entries("admin pages") {
		p.admin = fmt.Sprintf("http://%s", line["addr"])
	}
	return p
}

// wait returns when the program has ended.
func (p *testProgram) wait() error {
	select {
	case err := <-p.ended:
		p.ended <- err // for the next who waits
		return err
	case <-time.After(20 * time.Second):
		p.t.Fatal("the program does not end")
		return nil
	}
}

// write puts a configuration in the place of the one before, at once.
func (p *testProgram) write(config map[string]any) {
	p.t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		p.t.Fatal(err)
	}
	replaceFile(p.t, p.path, string(data))
}

// reload asks the operator's listener for it, and returns what it says.
func (p *testProgram) reload() (status int, text string) {
	p.t.Helper()
	resp, body := p.page("POST", "/-/reload")
	return resp.StatusCode, body
}

// take has the program take a configuration.
func (p *testProgram) take(config map[string]any) {
	p.t.Helper()
	p.write(config)
	if status, text := p.reload(); status != 200 {
		p.t.Fatalf("POST /-/reload = %d %s, want 200", status, text)
	}
}

// page sends a request to the operator's listener. Nothing there may hold a secret.
func (p *testProgram) page(method, path string, header ...string) (*http.Response, string) {
	p.t.Helper()
	req, err := http.NewRequest(method, p.admin+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 20 * time.Second}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	checkNoSecret(p.t, path, string(body)+fmt.Sprint(resp.Header))
	return resp, string(body)
}

// sample is the value of a sample of /metrics; false if it is not there.
func (p *testProgram) sample(name string) (float64, bool) {
	p.t.Helper()
	_, text := p.page("GET", "/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return parseNumber(strings.TrimSpace(value)), true
		}
	}
	return 0, false
}

// wantSample compares a sample of /metrics.
func (p *testProgram) wantSample(name string, want float64) {
	p.t.Helper()
	if got, ok := p.sample(name); !ok || got != want {
		p.t.Errorf("%s = %v (there: %t), want %v", name, got, ok, want)
	}
}

// entries returns the log lines with a message.
func (p *testProgram) entries(msg string) []map[string]any {
	p.t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(p.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			p.t.Fatalf("a log line that is not JSON: %q", line)
		}
		if m["msg"] == msg {
			lines = append(lines, m)
		}
	}
	return lines
}

// What the log says of a reload.
const (
	configTaken   = "configuration applied"
	configRefused = "reload failed; keeping the previous configuration"
)

// lastChanges is what the log says that the last reload has changed.
func (p *testProgram) lastChanges() []string {
	p.t.Helper()
	taken := p.entries(configTaken)
	if len(taken) == 0 {
		return nil
	}
	var paths []string
	list, _ := taken[len(taken)-1]["changes"].([]any)
	for _, path := range list {
		paths = append(paths, path.(string))
	}
	return paths
}

// withAdmin is a change: the operator's listener, on any free port.
func withAdmin(c map[string]any) { with("server.admin.port", 0)(c) }

// inOrder returns a change that makes several.
func inOrder(changes ...func(map[string]any)) func(map[string]any) {
	return func(c map[string]any) {
		for _, change := range changes {
			change(c)
		}
	}
}

// without returns a change that takes away what is at a path.
func without(path string) func(map[string]any) {
	return func(c map[string]any) {
		steps := strings.Split(path, ".")
		for _, step := range steps[:len(steps)-1] {
			c = c[step].(map[string]any)
		}
		delete(c, steps[len(steps)-1])
	}
}

// anotherAccount is an account as a configuration has it.
func anotherAccount(endpoint string, buckets ...any) map[string]any {
	return map[string]any{"endpoint_url": endpoint, "access_key_id": testCredentials.AccessKeyID, "secret_access_key": testCredentials.SecretAccessKey, "buckets": buckets}
}

// Each setting that a reload changes counts for the next request, and the log names
// what was changed and no value.
func TestReloadTakes(t *testing.T) {
	backend := startRecorder(t, nil)
	const newKey, newSecret = "new-key-0123456789abcdef", "new-secret-canary"
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	for _, test := range []struct {
		name        string
		change      func(map[string]any)
		method      string
		target      string
		key, body   string
		before, now int      // status
		changes     []string // in the log
	}{
		{"user added", with("users.new", map[string]any{"api_key": newKey, "role": "user", "allowed_buckets": []any{"photos"}}),
			"GET", "/photos/k", newKey, "", 401, 200, []string{"users.new added"}},
		{"user removed", without("users.user"), "GET", "/photos/k", userKey, "", 200, 401, []string{"users.user removed"}},
		{"key", with("users.user.api_key", newKey), "GET", "/photos/k", userKey, "", 200, 401, []string{"users.user"}},
		{"role", with("users.user.role", "readonly"), "PUT", "/photos/k", userKey, "x", 200, 403, []string{"users.user"}},
		{"allowed buckets", with("users.user.allowed_buckets", []any{"*"}), "GET", "/secret/k", userKey, "", 403, 200, []string{"users.user"}},
		{"bucket added", with("accounts.main.buckets", []any{"photos", "secret", "third"}), "GET", "/third/k", adminKey, "", 404, 200, []string{"bucket third added"}},
		{"bucket removed", with("accounts.main.buckets", []any{"photos"}), "GET", "/secret/k", adminKey, "", 200, 404, []string{"bucket secret removed"}},
		{"bucket by another name", with("accounts.main.buckets", []any{"photos", map[string]any{"name": "secret", "bucket": "behind"}}),
			"GET", "/secret/k", adminKey, "", 200, 200, []string{"bucket secret"}},
		{"account added", with("accounts.other", anotherAccount(backend.URL, "third")), "GET", "/third/k", adminKey, "", 404, 200, []string{"accounts.other added", "bucket third added"}},
		{"account's secret", with("accounts.main.secret_access_key", newSecret), "GET", "/photos/k", userKey, "", 200, 200, []string{"accounts.main"}},
		{"account's token", with("accounts.main.session_token", newSecret), "GET", "/photos/k", userKey, "", 200, 200, []string{"accounts.main"}},
		{"account's timeout", with("accounts.main.response_header_timeout", "7s"), "GET", "/photos/k", userKey, "", 200, 200, []string{"accounts.main"}},
		{"size", with("max_file_size", 3), "PUT", "/photos/k", userKey, "1234", 200, 413, []string{"max_file_size"}},
		{"nested keys", with("nested_keys", true), "GET", "/photos/a/b", userKey, "", 400, 200, []string{"nested_keys"}},
		{"limit of one", with("users.user.rate_limit", map[string]any{"requests": 1}), "GET", "/photos/k", userKey, "", 200, 200, []string{"users.user"}},
		{"limit of all", with("rate_limit.requests", 1000000), "GET", "/photos/k", userKey, "", 200, 200, []string{"users.admin", "users.none", "users.ro", "users.user"}},
		{"requests at once", with("users.user.max_in_flight", 2), "GET", "/photos/k", userKey, "", 200, 200, []string{"users.user"}},
		{"bandwidth", with("bytes_per_second", 1<<30), "GET", "/photos/k", userKey, "", 200, 200, []string{"users.admin", "users.none", "users.ro", "users.user"}},
		{"shared limiter", with("rate_limit.redis_url", "redis://:"+newSecret+"@127.0.0.1:1"), "GET", "/photos/k", userKey, "", 200, 200, []string{"rate_limit.redis_url"}},
		{"domain", with("server.domain", "gateway.example"), "GET", "/photos/k", userKey, "", 200, 200, []string{"server.domain"}},
		{"cors", with("server.cors", map[string]any{"allowed_origins": []any{"*"}}), "GET", "/photos/k", userKey, "", 200, 200, []string{"server.cors"}},
		{"timeouts", inOrder(with("server.idle_timeout", "9s"), with("server.shutdown_timeout", "8s")), "GET", "/photos/k", userKey, "", 200, 200,
			[]string{"server.idle_timeout", "server.shutdown_timeout"}},
		{"nothing", inOrder(), "GET", "/photos/k", userKey, "", 200, 200, nil},
	} {
		p.take(testConfig(backend.URL, withAdmin))
		if resp, body := p.do(test.method, test.target, test.key, test.body); resp.StatusCode != test.before {
			t.Errorf("%s: before = %d %s, want %d", test.name, resp.StatusCode, body, test.before)
		}
		p.take(testConfig(backend.URL, withAdmin, test.change))
		if resp, body := p.do(test.method, test.target, test.key, test.body); resp.StatusCode != test.now {
			t.Errorf("%s: now = %d %s, want %d", test.name, resp.StatusCode, body, test.now)
		}
		if got := p.lastChanges(); !slices.Equal(got, test.changes) {
			t.Errorf("%s: the log says %q, want %q", test.name, got, test.changes)
		}
	}
	for _, secret := range []string{newKey, newSecret} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if lines := p.entries(restartOnly); len(lines) != 0 {
		t.Errorf("the log warns of a restart: %v", lines[0])
	}
}

// A file with a fault changes nothing, and is shouted about until there is a good one.
func TestReloadRefuses(t *testing.T) {
	good := testConfig(startRecorder(t, nil).URL, withAdmin)
	p := startReloadable(t, 0, good)
	const healthy = "s3proxy_config_last_reload_successful"
	p.wantSample(healthy, 1)
	taken, _ := p.sample("s3proxy_config_last_reload_success_timestamp_seconds")
	for i, test := range []struct {
		name string
		text string // of the file; "": there is none
		want string // in the answer and in the log
	}{
		{"no file", "", "no such file"},
		{"empty", " ", "line 1"},
		{"half written", `{"accounts": {`, "line 1"},
		{"fault", configText(t, with("users.user.role", "king")), "users.user.role: "},
		{"two faults", configText(t, with("users.user.role", "king"), with("max_file_size", 0)), "max_file_size: "},
		{"missing variable", configText(t, with("accounts.main.secret_access_key", "${S3PROXY_TEST_MISSING}")), "S3PROXY_TEST_MISSING"},
		{"missing secret's file", configText(t, with("users.user.api_key", "file:/nonexistent/key")), "users.user.api_key: "},
		{"secret without quotes", configText(t, with("users.user.api_key", 2718281828459045)), "users.user.api_key: "},
		{"unknown credentials", configText(t, without("accounts.main.access_key_id"), without("accounts.main.secret_access_key"), with("accounts.main.credentials", "vault")), "accounts.main.credentials: "},
	} {
		if replaceFile(t, p.path, test.text); test.text == "" {
			os.Remove(p.path)
		}
		status, text := p.reload()
		if status != 500 || !strings.Contains(text, test.want) {
			t.Errorf("%s: POST /-/reload = %d %s, want 500 with %q", test.name, status, text, test.want)
		}
		lines := p.entries(configRefused)
		if len(lines) != i+1 {
			t.Fatalf("%s: %d lines say that a configuration is refused, want %d", test.name, len(lines), i+1)
		}
		line := lines[i]
		if cause, _ := line["cause"].(string); line["level"] != "ERROR" || line["file"] != p.path || !strings.Contains(cause, test.want) || strings.Contains(cause, "2718281828459045") {
			t.Errorf("%s: the log says %v, want an error with the file and %q", test.name, line, test.want)
		}
		p.wantSample(healthy, 0)
		p.wantSample("s3proxy_config_last_reload_success_timestamp_seconds", taken)
		if resp, body := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
			t.Errorf("%s: GET = %d %s, want 200 as before", test.name, resp.StatusCode, body)
		}
	}
	p.take(good)
	p.wantSample(healthy, 1)
	if got := p.lastChanges(); len(got) != 0 {
		t.Errorf("the log says that the good file changed %q", got)
	}
}

// The listeners are those of the start. The log and the answer name the settings that differ
// from what is in use, after every reload until the file has the old values again.
func TestReloadListeners(t *testing.T) {
	backend := startRecorder(t, nil)
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	warnings := 0
	take := func(want string, changes ...func(map[string]any)) {
		t.Helper()
		p.write(testConfig(backend.URL, append([]func(map[string]any){withAdmin}, changes...)...))
		status, text := p.reload()
		answer := "applied\n"
		if want != "" {
			warnings++
			answer += restartOnly + ": " + want + "\n"
		}
		if status != 200 || text != answer {
			t.Errorf("POST /-/reload = %d %q, want 200 %q", status, text, answer)
		}
		lines := p.entries(restartOnly)
		if len(lines) != warnings {
			t.Fatalf("%d warnings, want %d: %v", len(lines), warnings, lines)
		}
		if want != "" {
			last := lines[len(lines)-1]
			if got := fmt.Sprint(last["settings"]); last["level"] != "WARN" || got != "["+strings.ReplaceAll(want, ", ", " ")+"]" {
				t.Errorf("the log warns with %v of %s, want WARN of %s", last["level"], got, want)
			}
		}
		if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET = %d, want 200", resp.StatusCode)
		}
	}
	for _, test := range []struct {
		change func(map[string]any)
		want   string
	}{
		{with("server.port", 1), "server.port"},
		{with("server.host", "localhost"), "server.host"},
		{inOrder(with("server.host", "::1"), with("server.port", 1)), "server.host, server.port"},
		{with("server.admin.port", 1), "server.admin.port"},
		{with("server.admin.host", "localhost"), "server.admin.host"},
		{without("server.admin"), "server.admin"},
		{with("server.max_connections", 1), "server.max_connections"},
		{inOrder(with("server.max_connections", 1), with("server.port", 1), without("server.admin")), "server.port, server.max_connections, server.admin"},
	} {
		take(test.want, test.change)
		take(test.want, test.change, with("max_file_size", 3)) // it still is not in use
		take("")
	}
}

// A change of any field of listeners names a setting, and of no two the same.
func TestRestartSettingsHaveEveryField(t *testing.T) {
	inUse := listeners{listen: "127.0.0.1:8080", admin: "127.0.0.1:9090", certFile: "cert", keyFile: "key", clientCA: "ca", maxConnections: 1}
	if got := restartSettings(inUse, inUse); got != nil {
		t.Errorf("without a change: %q", got)
	}
	named := map[string]string{} // by setting: the field
	for field := range reflect.TypeFor[listeners]().Fields() {
		configured := inUse
		value := reflect.ValueOf(&configured).Elem().FieldByIndex(field.Index)
		value = reflect.NewAt(field.Type, value.Addr().UnsafePointer()).Elem() // the field is not exported
		if value.IsZero() {
			t.Errorf("%s: give it a value above", field.Name)
		}
		value.SetZero()
		got := restartSettings(inUse, configured)
		if len(got) == 0 {
			t.Errorf("a change of %s names no setting", field.Name)
		}
		for _, setting := range got {
			if other, ok := named[setting]; ok {
				t.Errorf("%s and %s both name %s", field.Name, other, setting)
			}
			named[setting] = field.Name
		}
	}
	if len(named) < 7 {
		t.Errorf("the settings are %v, want more", named)
	}
}

// SIGHUP reads the configuration again and opens the log file anew, in the whole
// program.
func TestReloadSIGHUP(t *testing.T) {
	backend := startRecorder(t, nil)
	path := writeConfig(t, testConfig(backend.URL))
	logFile := filepath.Join(t.TempDir(), "s3-proxy.log")
	stop, wait := runProgram(t, io.Discard, io.Discard, "-config", path, "-log-file", logFile)
	defer func() { stop(); wait() }()
	reads := func(text string) func() bool {
		return func() bool {
			data, _ := os.ReadFile(logFile)
			return strings.Contains(string(data), text)
		}
	}
	await(t, "the program listens", reads(`"msg":"listening"`))
	hangup := func() {
		t.Helper()
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if err := self.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	rewrite := func(changes ...func(map[string]any)) {
		data, err := json.Marshal(testConfig(backend.URL, changes...))
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, path, string(data))
	}
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	rewrite(with("max_file_size", 5))
	hangup()
	await(t, "the new log has the new configuration", reads(`"changes":["max_file_size"]`))
	rewrite(with("max_file_size", -5))
	hangup()
	await(t, "the log has the fault", reads(configRefused))
	rewrite()
	hangup()
	await(t, "the log has the configuration after", func() bool {
		data, _ := os.ReadFile(logFile)
		return strings.Count(string(data), `"changes":["max_file_size"]`) == 2
	})
	if data, err := os.ReadFile(logFile + ".1"); err != nil || strings.Contains(string(data), "changes") {
		t.Errorf("the log of before = %s, %v, want none of what came later", data, err)
	}
}

// With -watch whatever is read with the configuration is looked at: by its content,
// however it got there.
func TestReloadWatch(t *testing.T) {
	ca, stranger := newTestCA(t, "an authority"), newTestCA(t, "a stranger")
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	backend.TLS = &tls.Config{Certificates: []tls.Certificate{ca.client(t, "localhost")}}
	backend.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	backend.StartTLS()
	t.Cleanup(backend.Close)

	// As Kubernetes mounts a volume: what is read are links through one link, "..data",
	// and that one is turned.
	dir := t.TempDir()
	turn := func(version string, files map[string]string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			replaceFile(t, filepath.Join(dir, version, name), content)
		}
		fresh := filepath.Join(dir, "..fresh")
		if err := os.Symlink(version, fresh); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(fresh, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	const firstKey, secondKey, thirdKey = "first-key-0123456789abc", "second-key-0123456789ab", "third-key-0123456789abc"
	secret, authority := filepath.Join(dir, "..data", "key"), filepath.Join(dir, "..data", "ca.pem")
	t.Setenv("S3PROXY_TEST_CA", authority)
	config := func(changes ...func(map[string]any)) map[string]any {
		return testConfig(backend.URL, append(changes, withAdmin, with("users.user.api_key", "file:"+secret), with("accounts.main.ca_file", "${S3PROXY_TEST_CA}"))...)
	}
	turn("1", map[string]string{"key": firstKey + "\n", "ca.pem": certToPEM(stranger.cert)})
	p := startReloadable(t, 2*time.Millisecond, config())
	status := func(key string, want int) func() bool {
		return func() bool {
			resp, _ := p.do("GET", "/photos/k", key, "")
			return resp.StatusCode == want
		}
	}
	if !status(firstKey, 502)() {
		t.Error("a backend of an unknown authority answers")
	}
	replaceFile(t, authority, certToPEM(ca.cert))
	await(t, "the authority is known", status(firstKey, 200))
	replaceFile(t, secret, secondKey)
	await(t, "the key is another", status(secondKey, 200))
	turn("2", map[string]string{"key": thirdKey, "ca.pem": certToPEM(stranger.cert)})
	await(t, "both files are others", status(thirdKey, 502))
	turn("3", map[string]string{"key": thirdKey, "ca.pem": certToPEM(ca.cert)})
	await(t, "the authority is known again", status(thirdKey, 200))

	// A fault is told once, not at each look; a secret that is gone is one.
	os.Remove(secret)
	await(t, "the fault is told", func() bool { return len(p.entries(configRefused)) == 1 })
	p.wantSample("s3proxy_config_last_reload_successful", 0)
	if !status(thirdKey, 200)() {
		t.Error("a missing file has an effect")
	}
	replaceFile(t, secret, thirdKey) // as before
	await(t, "the configuration is good again", func() bool {
		good, _ := p.sample("s3proxy_config_last_reload_successful")
		return good == 1
	})
	p.write(config(with("max_file_size", 3)))
	await(t, "the configuration itself is another", func() bool {
		resp, _ := p.do("PUT", "/photos/k", thirdKey, "1234")
		return resp.StatusCode == 413
	})
	if n := len(p.entries(configRefused)); n != 1 {
		t.Errorf("%d faults are told, want one", n)
	}

	// The same content in another file is no change.
	taken := len(p.entries(configTaken))
	p.write(config(with("max_file_size", 3)))
	p.write(config(with("max_file_size", 3)))
	p.write(config(with("max_file_size", 4)))
	await(t, "the next change is taken", func() bool { return len(p.entries(configTaken)) > taken })
	if n := len(p.entries(configTaken)); n != taken+1 {
		t.Errorf("%d configurations were taken, want one", n-taken)
	}
	for _, key := range []string{firstKey, secondKey, thirdKey} {
		if strings.Contains(p.log.String(), key) {
			t.Errorf("the log holds the key %s", key)
		}
	}
}

// A request that is under way ends on the configuration it began with, though its
// user is gone, and its account is another.
func TestReloadUnderWay(t *testing.T) {
	const half = 1 << 20
	slow, underWay, release, stored := startHalfway(t, half)
	p := startReloadable(t, 0, testConfig(slow, withAdmin))
	clients := p.transferHalves(half, underWay, release)
	next := startRecorder(t, nil)
	p.take(testConfig(next.URL, withAdmin, without("users.user"), without("accounts.main"), with("max_file_size", 1),
		with("accounts.next", anotherAccount(next.URL, "photos"))))
	if resp, body := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 401 {
		t.Errorf("GET by who is gone = %d %s, want 401", resp.StatusCode, body)
	}
	if resp, body := p.do("GET", "/photos/k", readOnlyKey, ""); resp.StatusCode != 200 || len(next.requests()) != 1 {
		t.Errorf("GET by who stays = %d %s, and the new backend got %d requests, want 200 and one", resp.StatusCode, body, len(next.requests()))
	}
	p.wantSample("s3proxy_requests_in_flight", 2)
	close(release)
	clients.Wait()
	if got := <-stored; got != 2*half {
		t.Errorf("the backend got %d bytes, want %d", got, 2*half)
	}
	for _, line := range p.lines() {
		if line["operation"] == "PutObject" && (line["user"] != "user" || line["bytes_in"] != 2.0*half) {
			t.Errorf("the log says %v, want user and all bytes", line)
		}
	}
	await(t, "nothing is under way", func() bool { n, _ := p.sample("s3proxy_requests_in_flight"); return n == 0 })
}

// The window of a user who stays is the same after a reload, with the limit of the
// new configuration; of one who comes again it is a new one.
func TestReloadWindows(t *testing.T) {
	backend := startRecorder(t, nil)
	limited := func(requests int, changes ...func(map[string]any)) map[string]any {
		return testConfig(backend.URL, append(changes, withAdmin, with("rate_limit", map[string]any{"requests": requests, "window_seconds": 3600}))...)
	}
	p := startReloadable(t, 0, limited(5))
	admitted := func() (n int) { // of eight at once
		for range 8 {
			if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode == 200 {
				n++
			}
		}
		return n
	}
	want := func(what string, want int) {
		t.Helper()
		if got := admitted(); got != want {
			t.Errorf("%s: %d more are admitted, want %d", what, got, want)
		}
	}
	want("limit 5", 5)
	p.take(limited(5, with("max_file_size", 7)))
	want("another setting", 0)
	p.take(limited(7))
	want("limit 7", 2)
	p.take(limited(3))
	want("limit 3", 0)
	p.take(limited(4))
	want("limit 4, of which 3 are remembered", 1)
	p.write(limited(-1))
	p.reload()
	want("a fault", 0)
	p.take(limited(4, without("users.user")))
	p.take(limited(4))
	want("who was away", 4)
	p.wantSample(`s3proxy_ratelimit_refused_total{user="user"}`, 7*8-5-2-1-4)
}

// A request that is admitted while a reload waits for credentials counts in the window
// that the new configuration has.
func TestReloadWindowsMeanwhile(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	metadata := newStandIn(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-release
		io.WriteString(w, strings.ReplaceAll(jsonAnswer, "2014-", "2999-"))
	})
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata.URL)
	backend := startRecorder(t, nil)
	limited := func(requests int, changes ...func(map[string]any)) map[string]any {
		return testConfig(backend.URL, append(changes, withAdmin, with("rate_limit", map[string]any{"requests": requests, "window_seconds": 3600}))...)
	}
	p := startReloadable(t, 0, limited(3))
	p.write(limited(4, with("accounts.ecs", map[string]any{"endpoint_url": backend.URL, "credentials": "ecs", "buckets": []any{"third"}})))
	reloaded := make(chan int)
	go func() {
		status, _ := p.reload()
		reloaded <- status
	}()
	<-asked
	for i, want := range []int{200, 200, 200, 429} {
		if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != want {
			t.Errorf("request %d = %d, want %d", i, resp.StatusCode, want)
		}
	}
	close(release)
	if status := <-reloaded; status != 200 {
		t.Fatalf("POST /-/reload = %d, want 200", status)
	}
	for i, want := range []int{200, 429} {
		if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != want {
			t.Errorf("request %d afterwards = %d, want %d", i, resp.StatusCode, want)
		}
	}
}

// countedBackend is a backend that counts the connections it has, and had.
func countedBackend(t *testing.T) (endpoint string, opened, open func() int64) {
	var all, now atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			all.Add(1)
			now.Add(1)
		case http.StateClosed:
			now.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL, all.Load, now.Load
}

// Warm connections of an account that stays as it was are used on. Those of one that
// has changed are closed.
func TestReloadConnections(t *testing.T) {
	main, mainOpened, _ := countedBackend(t)
	other, otherOpened, otherOpen := countedBackend(t)
	base := func(changes ...func(map[string]any)) map[string]any {
		return testConfig(main, append([]func(map[string]any){withAdmin, with("accounts.other", anotherAccount(other, "third"))}, changes...)...)
	}
	p := startReloadable(t, 0, base())
	ask := func() {
		t.Helper()
		for _, target := range []string{"/photos/k", "/secret/k", "/third/k"} {
			if resp, body := p.do("GET", target, adminKey, ""); body != "meow" {
				t.Errorf("GET %s = %d %s, want meow", target, resp.StatusCode, body)
			}
		}
	}
	ask()
	for i, change := range []func(map[string]any){
		with("accounts.other.region", "eu-west-1"),
		with("accounts.other.secret_access_key", "another"),
		with("accounts.other.connect_timeout", "2s"),
	} {
		p.take(base(change, with("server.idle_timeout", "5s"), with("accounts.main.buckets", []any{"photos", "secret", "more"})))
		await(t, "the warm connection of what changed is closed", func() bool { return otherOpen() == 0 })
		ask()
		if a, b := mainOpened(), otherOpened(); a != 1 || b != int64(i+2) {
			t.Errorf("change %d: the accounts have had %d and %d connections, want 1 and %d", i, a, b, i+2)
		}
	}
	p.take(base(without("accounts.other")))
	await(t, "the warm connection of what is gone is closed", func() bool { return otherOpen() == 0 })
	p.wantSample(`s3proxy_upstream_connections_opened_total{account="main"}`, 1)
	p.wantSample(`s3proxy_upstream_connections_reused_total{account="main"}`, 7)
	p.wantSample(`s3proxy_upstream_connections_opened_total{account="other"}`, 4)
}

// A key is rotated in three steps while it is in use, and no request fails.
func TestReloadRotatesKey(t *testing.T) {
	const newKey = "new-key-0123456789abcdef"
	backend := startRecorder(t, nil)
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	keys := func(keys ...any) map[string]any {
		return testConfig(backend.URL, withAdmin, with("users.user", map[string]any{"api_keys": keys, "role": "user", "allowed_buckets": []any{"photos"}}))
	}
	var key atomic.Value
	key.Store(userKey)
	var sent [4]atomic.Int64
	end := make(chan struct{})
	var clients sync.WaitGroup
	for i := range sent {
		clients.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			for {
				select {
				case <-end:
					return
				default:
				}
				req, err := http.NewRequest("GET", p.url+"/photos/k", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-Api-Key", key.Load().(string))
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("GET = %d, want 200", resp.StatusCode)
				}
				sent[i].Add(1)
			}
		})
	}
	more := func() { // each client has begun a request since, and ended it
		t.Helper()
		for i := range sent {
			n := sent[i].Load()
			await(t, "requests are sent", func() bool { return sent[i].Load() >= n+5 })
		}
	}
	more()
	p.take(keys(userKey, newKey))
	more()
	key.Store(newKey)
	more()
	p.take(keys(newKey))
	more()
	close(end)
	clients.Wait()
	for key, want := range map[string]int{userKey: 401, newKey: 200} {
		if resp, _ := p.do("GET", "/photos/k", key, ""); resp.StatusCode != want {
			t.Errorf("GET with %.3s… = %d, want %d", key, resp.StatusCode, want)
		}
	}
	if strings.Contains(p.log.String(), newKey) {
		t.Error("the log holds the new key")
	}
}

// Credentials that are fetched stay over a reload, with what refreshes them; those of
// an account that comes are fetched before it serves.
func TestReloadKeepsCredentials(t *testing.T) {
	var fetched atomic.Int64
	metadata := newStandIn(t, func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		io.WriteString(w, strings.ReplaceAll(jsonAnswer, "2014-", "2999-"))
	})
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "ENVKEYID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
	t.Setenv("AWS_SESSION_TOKEN", "")
	backend := startRecorder(t, nil)
	base := func(changes ...func(map[string]any)) map[string]any {
		return testConfig(backend.URL, append([]func(map[string]any){withAdmin,
			with("accounts.ecs", map[string]any{"endpoint_url": backend.URL, "credentials": "ecs", "buckets": []any{"third"}}),
			with("accounts.env", map[string]any{"endpoint_url": backend.URL, "credentials": "env", "buckets": []any{"fourth"}}),
		}, changes...)...)
	}
	p := startReloadable(t, 0, base())
	keyID := func(target string) string { // with which a request reaches the backend
		t.Helper()
		if resp, body := p.do("GET", target, adminKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET %s = %d %s, want 200", target, resp.StatusCode, body)
		}
		seen := backend.requests()
		_, id, _ := strings.Cut(seen[len(seen)-1].header.Get("Authorization"), "Credential=")
		id, _, _ = strings.Cut(id, "/")
		return id
	}
	check := func(when string, fetches int64) {
		t.Helper()
		if a, b := keyID("/third/k"), keyID("/fourth/k"); a != "ASgeIAIOSFODNN7EXAMPLE" || b != "ENVKEYID" || fetched.Load() != fetches {
			t.Errorf("%s: requests are signed with %s and %s, %d fetches; want the credentials of the stand-in and of the environment, %d fetches", when, a, b, fetched.Load(), fetches)
		}
	}
	check("at the start", 1)
	p.take(base(with("max_file_size", 3)))
	check("after a reload", 1)
	p.wantSample(`s3proxy_credentials_expiry_timestamp_seconds{account="ecs"}`, float64(time.Date(2999, 10, 24, 23, 0, 23, 0, time.UTC).Unix()))
	p.take(base(with("accounts.more", map[string]any{"endpoint_url": backend.URL, "credentials": "ecs", "buckets": []any{"fifth"}})))
	check("another account", 2)
	if id := keyID("/fifth/k"); id != "ASgeIAIOSFODNN7EXAMPLE" {
		t.Errorf("the new account's requests are signed with %q", id)
	}
	p.take(base(with("accounts.ecs.region", "eu-west-1")))
	check("an account that has changed", 3)
	p.take(base(inOrder(with("accounts.ecs.credentials", "env"))))
	if id := keyID("/third/k"); id != "ENVKEYID" {
		t.Errorf("with credentials from elsewhere, requests are signed with %q", id)
	}
	if _, text := p.page("GET", "/metrics"); strings.Contains(text, "s3proxy_credentials_expiry") {
		t.Error("the expiry of an account's credentials is shown that has others")
	}
	checkNoCredential(t, p.log.String())
}

// testService is a service of a configuration file, without a listener.
func testService(t *testing.T, config map[string]any) (s *service, rewrite func(map[string]any), log *syncBuffer) {
	t.Helper()
	path := writeConfig(t, config)
	conf, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	log = &syncBuffer{}
	if s, err = newService(t.Context(), conf, configSource{path, fingerprint(path)}, slog.New(slog.NewTextHandler(log, nil)), newMetrics()); err != nil {
		t.Fatal(err)
	}
	rewrite = func(config map[string]any) {
		t.Helper()
		data, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, path, string(data))
	}
	return s, rewrite, log
}

// An account whose credentials can't be fetched keeps the whole configuration from
// being taken, and nothing is left of the attempt.
func TestReloadWithoutCredentials(t *testing.T) {
	profiles := writeFile(t, "[good]\naws_access_key_id = GOODID\naws_secret_access_key = CANARY\n")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", profiles)
	synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
		base := func(changes ...func(map[string]any)) map[string]any {
			return testConfig("http://localhost:1", append([]func(map[string]any){
				with("accounts.good", map[string]any{"endpoint_url": "http://localhost:1", "credentials": "profile:good", "buckets": []any{"third"}}),
			}, changes...)...)
		}
		s, rewrite, log := testService(t, base())
		before := s.current.Load()
		source := before.accounts["good"].account.source
		rewrite(base(without("users.user"),
			with("accounts.other", map[string]any{"endpoint_url": "http://localhost:1", "credentials": "profile:good", "buckets": []any{"fourth"}}),
			with("accounts.bad", map[string]any{"endpoint_url": "http://localhost:1", "credentials": "profile:bad", "buckets": []any{"fifth"}})))
		started := time.Now()
		err := s.reload()
		if err == nil || !strings.Contains(err.Error(), `credentials of account "bad"`) || !strings.Contains(log.String(), configRefused) {
			t.Errorf("reload = %v, log %s, want the account's name in both", err, log)
		}
		if took := time.Since(started); took > startTimeout+fetchTimeout {
			t.Errorf("it took %s", took)
		}
		if s.current.Load() != before {
			t.Error("another gateway serves")
		}
		// What kept the credentials of before fresh still does.
		if err := os.WriteFile(profiles, []byte("[good]\naws_access_key_id = NEXTID\naws_secret_access_key = CANARY\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * pollFile) // the clock is synctest's
		if id := source.get().AccessKeyID; id != "NEXTID" {
			t.Errorf("the account of before has the key id %s, want NEXTID", id)
		}
		rewrite(base(without("users.user")))
		if err := s.reload(); err != nil {
			t.Errorf("reload of a good file = %v", err)
		}
		if now := s.current.Load(); now == before || now.accounts["good"].account.source != source {
			t.Error("the good file is not taken, or with other credentials")
		}

		// The watch tries again, for it may be the endpoint that was at fault.
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go s.watch(ctx, time.Minute)
		rewrite(base(with("accounts.late", map[string]any{"endpoint_url": "http://localhost:1", "credentials": "profile:late", "buckets": []any{"fourth"}})))
		time.Sleep(5 * time.Minute)
		if s.current.Load().accounts["late"] != nil {
			t.Error("an account without credentials serves")
		}
		if err := os.WriteFile(profiles, []byte("[good]\naws_access_key_id = NEXTID\naws_secret_access_key = CANARY\n[late]\naws_access_key_id = LATEID\naws_secret_access_key = CANARY\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if s.current.Load().accounts["late"] == nil {
			t.Error("the watch has given up")
		}
		taken := strings.Count(log.String(), configTaken)
		time.Sleep(5 * time.Minute)
		if n := strings.Count(log.String(), configTaken); n != taken {
			t.Errorf("%d configurations were taken where nothing has changed", n-taken)
		}
		stop()
		s.current.Load().retire(nil)
		checkNoCredential(t, log.String())
	})
}

// The connection to the shared limiter's store stays over a reload that leaves it
// alone, with what is known of it.
func TestReloadKeepsStore(t *testing.T) {
	redis := func(url string) map[string]any {
		return testConfig("http://localhost:1", with("rate_limit", map[string]any{"requests": 5, "redis_url": url}))
	}
	s, rewrite, _ := testService(t, redis("redis://127.0.0.1:1/0"))
	reload := func(config map[string]any) *sharedLimiter {
		t.Helper()
		rewrite(config)
		if err := s.reload(); err != nil {
			t.Fatal(err)
		}
		return s.current.Load().shared
	}
	first := s.current.Load().shared
	first.down.Store(true)
	same := reload(redis("redis://127.0.0.1:1"))
	if same.store != first.store || same.healthy() || first.store.isClosed() {
		t.Error("the same server has another store, or what was known of it is forgotten")
	}
	if same.local != s.current.Load().limiter {
		t.Error("the store's stand-in is not the limiter of the new configuration")
	}
	other := reload(redis("redis://127.0.0.1:1/1"))
	if other.store == first.store || !first.store.isClosed() || !other.healthy() {
		t.Error("another database has the same store, or the old one is not closed")
	}
	if none := reload(testConfig("http://localhost:1")); none != nil || !other.store.isClosed() {
		t.Error("without a store there is one, or the old one is not closed")
	}
	last := reload(redis("redis://127.0.0.1:1"))
	s.current.Load().retire(nil)
	if !last.store.isClosed() {
		t.Error("the store is open at the end")
	}
}

// Reloads at the same time as requests, as reloads, and as the file is written, leave
// one of the configurations that were written, and no request unanswered.
func TestReloadConcurrent(t *testing.T) {
	backend := startRecorder(t, nil)
	version := func(i int) map[string]any {
		return testConfig(backend.URL, withAdmin, with("accounts.main.region", fmt.Sprintf("region-%d", i%3)),
			with("rate_limit.requests", 100000+i), with("bytes_per_second", 1<<30+i), with("max_in_flight", 1000))
	}
	p := startReloadable(t, time.Millisecond, version(0))
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			for range 15 {
				if status, text := p.reload(); status != 200 {
					t.Errorf("POST /-/reload = %d %s", status, text)
				}
			}
		})
		all.Go(func() {
			for range 30 {
				method, body := "GET", ""
				if i == 0 {
					method, body = "PUT", "meow"
				}
				if resp, body := p.do(method, "/photos/k", userKey, body); resp.StatusCode != 200 {
					t.Errorf("%s = %d %s, want 200", method, resp.StatusCode, body)
				}
			}
		})
	}
	all.Go(func() {
		for i := range 30 {
			p.write(version(i))
		}
	})
	all.Wait()
	p.take(version(29))
	if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.Header.Get("X-Ratelimit-Limit") != "100029" {
		t.Errorf("X-RateLimit-Limit = %s, want that of the last configuration", resp.Header.Get("X-Ratelimit-Limit"))
	}
	if n := len(p.entries(configRefused)); n != 0 {
		t.Errorf("%d configurations are refused, want none", n)
	}
}

// A hundred reloads leave no goroutine, and of the gateways one alone.
func TestReloadLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", writeFile(t, "[p]\naws_access_key_id = ID\naws_secret_access_key = CANARY\n"))
	backend := startRecorder(t, nil)
	version := func(i int) map[string]any {
		return testConfig(backend.URL, with("accounts.main.region", fmt.Sprintf("region-%d", i)),
			with("accounts.profile", map[string]any{"endpoint_url": backend.URL, "credentials": "profile:p", "region": fmt.Sprintf("region-%d", i), "buckets": []any{"third"}}),
			with("rate_limit", map[string]any{"requests": 1000 + i, "redis_url": fmt.Sprintf("redis://127.0.0.1:1/%d", i)}),
			with(fmt.Sprintf("users.user-%d", i), map[string]any{"api_key": fmt.Sprintf("key-0123456789-%06d", i), "role": "user"}))
	}
	s, rewrite, _ := testService(t, version(0))
	ask := func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/photos/k", nil)
		r.Header.Set("X-Api-Key", userKey)
		if s.ServeHTTP(w, r); w.Code != 200 {
			t.Fatalf("GET = %d %s", w.Code, w.Body)
		}
	}
	ask()
	goroutines := runtime.NumGoroutine()
	var gateways []weak.Pointer[gateway]
	for i := range 100 {
		gateways = append(gateways, weak.Make(s.current.Load()))
		rewrite(version(i + 1))
		if err := s.reload(); err != nil {
			t.Fatal(err)
		}
		ask()
	}
	await(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
	await(t, "the gateways are gone", func() bool {
		runtime.GC()
		return !slices.ContainsFunc(gateways, func(g weak.Pointer[gateway]) bool { return g.Value() != nil })
	})
	last := s.current.Load()
	if n := len(last.limiter.windows); n != len(last.config.users) {
		t.Errorf("%d windows for %d users", n, len(last.config.users))
	}
	last.retire(nil)
}

// What changes after the file was read, and before the watch begins, is taken.
func TestReloadWatchMissesNothing(t *testing.T) {
	path := writeConfig(t, testConfig("http://localhost:1"))
	from := configSource{path, fingerprint(path)}
	conf, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path, configText(t, with("users.ro.role", "user")))
	synctest.Test(t, func(t *testing.T) {
		s, err := newService(t.Context(), conf, from, slog.New(slog.DiscardHandler), newMetrics())
		if err != nil {
			t.Fatal(err)
		}
		go s.watch(t.Context(), time.Minute)
		time.Sleep(2 * time.Minute) // the clock is synctest's
		if role := s.current.Load().auth.byName["ro"].role; role != "user" {
			t.Errorf("the role is %s, want that of the file", role)
		}
	})
}

// Whatever happens around it, reloads and clients that leave, each client gets its own
// answer and all of it, and each upload arrives as it was sent.
func TestReloadAnswers(t *testing.T) {
	const clients, rounds, keys = 4, 16, 300
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch name := path.Base(r.URL.Path); {
		case r.URL.Query().Has("list-type"):
			prefix := r.URL.Query().Get("prefix")
			io.WriteString(w, "<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>")
			for i := range keys {
				fmt.Fprintf(w, "<Contents><Key>%s%%2B%d</Key><ETag>&quot;%s&quot;</ETag></Contents>", prefix, i, prefix)
			}
			io.WriteString(w, "</ListBucketResult>")
		case strings.HasPrefix(name, "endless"):
			w.Write(pattern(2 * maxCorked))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			io.WriteString(w, strings.Repeat(name, 500))
		}
	})
	version := func(i int) map[string]any {
		return testConfig(backend.URL, withAdmin, with("accounts.main.region", fmt.Sprintf("region-%d", i%3)), with("rate_limit.requests", 100000+i%2))
	}
	p := startReloadable(t, 0, version(0))
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	t.Cleanup(transport.CloseIdleConnections)
	// ask returns as much of the answer as is wanted, or all of it for -1, and leaves.
	ask := func(method, target, body string, want int64) string {
		req, err := http.NewRequest(method, p.url+target, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return ""
		}
		req.Header.Set("X-Api-Key", userKey)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Errorf("%s %s: %v", method, target, err)
			return ""
		}
		defer resp.Body.Close()
		var r io.Reader = resp.Body
		if want >= 0 {
			r = io.LimitReader(r, want)
		}
		data, err := io.ReadAll(r)
		if resp.StatusCode != 200 || err != nil {
			t.Errorf("%s %s = %d with %.200q, %v, want 200", method, target, resp.StatusCode, data, err)
		}
		return string(data)
	}
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("%d-%03d.", client, i)
				switch i % 4 {
				case 0:
					if got := ask("GET", "/photos/"+name, "", -1); got != strings.Repeat(name, 500) {
						t.Errorf("GET %s = %.100q with %d bytes", name, got, len(got))
					}
				case 1:
					ask("PUT", "/photos/"+name, strings.Repeat(name, 1+i*1000), -1) // to 78 KB, the last more than a smallUpload
				case 2:
					got := ask("GET", "/photos?list-type=2&prefix="+name, "", -1)
					for i := range keys {
						if key := fmt.Sprintf("<Key>%s+%d</Key>", name, i); !strings.Contains(got, key) {
							t.Errorf("the list of %s lacks %s", name, key)
							break
						}
					}
					if n := strings.Count(got, "<Key>"); n != keys {
						t.Errorf("the list of %s has %d keys, want %d", name, n, keys)
					}
				case 3:
					if got := ask("GET", "/photos/endless"+name, "", 100); got != string(pattern(100)) {
						t.Errorf("GET of what does not end = %q", got)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for i, under := 1, true; under; i++ {
		p.take(version(i))
		select {
		case <-done:
			under = false
		default:
		}
	}
	uploads := 0
	for _, r := range backend.requests() {
		if r.method != "PUT" {
			continue
		}
		uploads++
		if name := path.Base(r.uri); r.err != nil || r.body == "" || strings.ReplaceAll(r.body, name, "") != "" {
			t.Errorf("PUT %s has %d bytes that begin with %.100q, %v", name, len(r.body), r.body, r.err)
		}
	}
	if want := clients * rounds / 4; uploads != want {
		t.Errorf("%d uploads, want %d", uploads, want)
	}
}
