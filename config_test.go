package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func noEnv(string) (string, bool) { return "", false }

// configText is testConfig as the file it would be.
func configText(t testing.TB, changes ...func(map[string]any)) string {
	t.Helper()
	data, err := json.Marshal(testConfig("http://localhost:9000", changes...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// faultPaths returns what the lines of an error begin with: the path of each
// fault.
func faultPaths(err error) []string {
	var paths []string
	for line := range strings.Lines(err.Error()) {
		path, _, _ := strings.Cut(line, ": ")
		paths = append(paths, path)
	}
	return paths
}

// wantErrors fails the test unless a file is refused with one error at each of
// the paths, in this order, and none besides.
func wantErrors(t *testing.T, text string, want ...string) {
	t.Helper()
	_, err := parseConfig([]byte(text), noEnv)
	if err == nil {
		t.Errorf("parseConfig(%s) took it, want faults at %q", text, want)
		return
	}
	if got := faultPaths(err); !slices.Equal(got, want) {
		t.Errorf("parseConfig(%s) = %v, want faults at %q", text, err, want)
	}
}

func TestConfigDefaults(t *testing.T) {
	c, err := parseConfig([]byte(`{
		"accounts": { "main": { "endpoint_url": "http://localhost:9000", "access_key_id": "id", "secret_access_key": "secret",
		                        "buckets": ["photos"] } },
		"users":    { "alice": { "api_key": "0123456789abcdef", "role": "user", "allowed_buckets": ["photos"] } }
	}`), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	a := c.accounts[0]
	for _, test := range []struct {
		what      string
		got, want any
	}{
		{"server", c.listen, "127.0.0.1:8080"},
		{"max_file_size", c.maxFileSize, int64(104857600)},
		{"nested_keys", c.nestedKeys, false},
		{"rate_limit", userOf(c, "alice").limit, rateLimit{100, 60 * time.Second}},
		{"region", a.region, "us-east-1"},
		{"addressing", a.virtualHost, false},
		{"warnings", len(c.warnings), 0}, // plain http to this machine is not worth one
	} {
		if test.got != test.want {
			t.Errorf("default of %s = %v, want %v", test.what, test.got, test.want)
		}
	}
	for _, d := range []time.Duration{c.idleTimeout, c.shutdownTimeout, a.connectTimeout, a.responseHeaderTimeout} {
		if d <= 0 {
			t.Errorf("a timeout that is not set is %v, want one above 0", d)
		}
	}
}

func TestConfigValues(t *testing.T) {
	c, err := parseConfig([]byte(configText(t,
		with("server.host", "::1"), with("server.port", 65535), with("server.idle_timeout", "1m30s"),
		with("max_file_size", 5<<40), with("nested_keys", true),
		with("rate_limit", map[string]any{"requests": 7, "window_seconds": 86400}),
		with("users.user.rate_limit", map[string]any{"requests": 0}),
		with("users.ro.rate_limit", map[string]any{"window_seconds": 1}),
		with("accounts.main.endpoint_url", "HTTPS://S3.Example:443/base/"), with("accounts.main.addressing", "virtual"),
	)), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	a := c.buckets["photos"].account
	for _, test := range []struct {
		what      string
		got, want any
	}{
		{"server", c.listen, "[::1]:65535"},
		{"idle_timeout", c.idleTimeout, 90 * time.Second},
		{"max_file_size", c.maxFileSize, int64(5 << 40)},
		{"nested_keys", c.nestedKeys, true},
		{"rate_limit of admin", userOf(c, "admin").limit, rateLimit{7, 24 * time.Hour}},
		{"rate_limit of user", userOf(c, "user").limit, rateLimit{0, 24 * time.Hour}},
		{"rate_limit of ro", userOf(c, "ro").limit, rateLimit{7, time.Second}},
		{"scheme", a.scheme, "https"},
		{"host", a.host, "s3.example"}, // as every client writes the Host header
		{"base path", a.basePath, "/base"},
		{"addressing", a.virtualHost, true},
	} {
		if test.got != test.want {
			t.Errorf("%s = %v, want %v", test.what, test.got, test.want)
		}
	}
}

// A configuration that can be read in two ways, or that lacks what
// keeps strangers out, does not start; the fault says where it is.
func TestConfigThatCannotWorkIsRefused(t *testing.T) {
	account := func(buckets ...any) map[string]any {
		return map[string]any{"endpoint_url": "http://localhost:9001", "access_key_id": "id", "secret_access_key": "secret", "buckets": buckets}
	}
	digest := sha256.Sum256([]byte(adminKey))
	type change = func(map[string]any)
	for _, test := range []struct {
		name   string
		change change
		want   []string
	}{
		{"port below", with("server.port", -1), []string{"server.port"}},
		{"port above", with("server.port", 65536), []string{"server.port"}},
		{"size 0", with("max_file_size", 0), []string{"max_file_size"}},
		{"size below 0", with("max_file_size", -1), []string{"max_file_size"}},
		{"limit below 0", with("rate_limit.requests", -1), []string{"rate_limit.requests"}},
		{"limit above memory", with("rate_limit.requests", 1<<40), []string{"rate_limit.requests"}},
		{"window 0", with("rate_limit.window_seconds", 0), []string{"rate_limit.window_seconds"}},
		{"window that overflows", with("rate_limit.window_seconds", 1<<62), []string{"rate_limit.window_seconds"}},
		{"a user's limit", with("users.ro.rate_limit", map[string]any{"requests": -5}), []string{"users.ro.rate_limit.requests"}},
		{"timeout 0", with("server.idle_timeout", "0s"), []string{"server.idle_timeout"}},
		{"timeout below 0", with("accounts.main.connect_timeout", "-1s"), []string{"accounts.main.connect_timeout"}},
		{"timeout without unit", with("accounts.main.response_header_timeout", "60"), []string{"accounts.main.response_header_timeout"}},

		{"bucket in two accounts", with("accounts.other", account("photos")), []string{"accounts.other.buckets[0]"}},
		{"bucket twice in one", with("accounts.main.buckets", []any{"photos", "secret", "photos"}), []string{"accounts.main.buckets[2]"}},
		{"no bucket", with("accounts.other", account()), []string{"accounts.other.buckets"}},
		{"account name with slash", with("accounts.a/b", account("other")), []string{"accounts.a/b"}},
		{"account without name", with("accounts.", account("other")), []string{"accounts."}},
		{"region with slash", with("accounts.main.region", "eu/west"), []string{"accounts.main.region"}},
		{"region with comma", with("accounts.main.region", "eu,west"), []string{"accounts.main.region"}},
		{"no key id", with("accounts.main.access_key_id", ""), []string{"accounts.main.access_key_id"}},
		{"key id with line break", with("accounts.main.access_key_id", "id\r\nX: y"), []string{"accounts.main.access_key_id"}},
		{"no secret", with("accounts.main.secret_access_key", ""), []string{"accounts.main.secret_access_key"}},
		{"token with line break", with("accounts.main.session_token", "a\nb"), []string{"accounts.main.session_token"}},
		{"unknown addressing", with("accounts.main.addressing", "auto"), []string{"accounts.main.addressing"}},
		{"virtual at an address", with("accounts.main", map[string]any{"endpoint_url": "http://127.0.0.1:9000", "access_key_id": "id",
			"secret_access_key": "secret", "buckets": []any{"photos", "secret"}, "addressing": "virtual"}), []string{"accounts.main.endpoint_url"}},

		{"no key", with("users.user.api_key", ""), []string{"users.user"}},
		{"short key", with("users.user.api_key", "0123456789abcde"), []string{"users.user.api_key"}},
		{"long key", with("users.user.api_key", strings.Repeat("k", 257)), []string{"users.user.api_key"}},
		{"key with space", with("users.user.api_key", "0123456789 abcdef"), []string{"users.user.api_key"}},
		{"key of spaces", with("users.user.api_key", strings.Repeat(" ", 24)), []string{"users.user.api_key"}},
		{"key beyond ASCII", with("users.user.api_key", "0123456789abcdé"), []string{"users.user.api_key"}},
		{"key with NUL", with("users.user.api_key", "0123456789abcdef\x00"), []string{"users.user.api_key"}},
		{"equal keys", with("users.user.api_key", adminKey), []string{"users.user"}},
		{"equal by digest", with("users.user", map[string]any{"role": "user", "api_key_sha256": hex.EncodeToString(digest[:])}), []string{"users.user"}},
		{"equal to one of two", with("users.user", map[string]any{"role": "user", "api_keys": []any{"0123456789abcdef", adminKey}}), []string{"users.user"}},
		{"no keys", with("users.user", map[string]any{"role": "user", "api_keys": []any{}}), []string{"users.user.api_keys"}},
		{"three keys", with("users.user", map[string]any{"role": "user", "api_keys": []any{"0123456789abcdef", "1123456789abcdef", "2123456789abcdef"}}), []string{"users.user.api_keys"}},
		{"short second key", with("users.user", map[string]any{"role": "user", "api_keys": []any{"0123456789abcdef", ""}}), []string{"users.user.api_keys[1]"}},
		{"short digest", with("users.user", map[string]any{"role": "user", "api_key_sha256": "abcd"}), []string{"users.user.api_key_sha256"}},
		{"two forms", with("users.user.api_keys", []any{"0123456789abcdef"}), []string{"users.user"}},
		{"user name with slash", with("users.a/b", map[string]any{"role": "user", "api_key": "0123456789abcdef"}), []string{"users.a/b"}},
		{"user name with line break", with("users.a\tb", map[string]any{"role": "user", "api_key": "0123456789abcdef"}), []string{"users.a\tb"}},
		{"user without name", with("users.", map[string]any{"role": "user", "api_key": "0123456789abcdef"}), []string{"users."}},
		{"no role", with("users.user.role", ""), []string{"users.user.role"}},
		{"unknown role", with("users.user.role", "root"), []string{"users.user.role"}},
		{"role in capitals", with("users.user.role", "Admin"), []string{"users.user.role"}},
		{"role with space", with("users.user.role", "admin "), []string{"users.user.role"}},
		{"unknown bucket", with("users.user.allowed_buckets", []any{"photos", "nosuch"}), []string{"users.user.allowed_buckets[1]"}},
		{"pattern of buckets", with("users.user.allowed_buckets", []any{"pho*"}), []string{"users.user.allowed_buckets[0]"}},
		{"bucket in capitals", with("users.user.allowed_buckets", []any{"Photos"}), []string{"users.user.allowed_buckets[0]"}},
		{"no user", with("users", map[string]any{}), []string{"users"}},
	} {
		t.Run(test.name, func(t *testing.T) { wantErrors(t, configText(t, test.change), test.want...) })
	}
	for _, bucket := range []string{"", "..", "ab", "A-bucket", "a_b", "192.168.0.1", "-", "a/b", "photos/", "*", strings.Repeat("b", 64)} {
		wantErrors(t, configText(t, with("accounts.other", account(bucket))), "accounts.other.buckets[0]")
	}
	for _, endpoint := range []string{
		"", "localhost:9000", "localhost", "//localhost:9000", "ftp://localhost", "unix:///run/s3.sock", "http:localhost", "http://",
		"http://:9000", "https:///base", "http://localhost:0", "http://localhost:65536", "http://localhost:http", "http://local host",
		"http://user@localhost", "http://user:password@localhost", "http://localhost?", "http://localhost/?x=y", "http://localhost/#x",
		"http://localhost/a%2Fb", "http://localhost/a b", "http://localhost/..", "http://localhost/a/../b", "http://localhost/./a",
		"http://localhost//", "http://localhost//a", "http://localhost/a//b", "http://localhost/{bucket}", "javascript:alert(1)",
	} {
		wantErrors(t, configText(t, with("accounts.main.endpoint_url", endpoint)), "accounts.main.endpoint_url")
	}
}

func TestConfigNamesEveryError(t *testing.T) {
	wantErrors(t, `{
		"server":   { "port": 70000 },
		"accounts": { "b": { "endpoint_url": "ftp://x", "access_key_id": "", "secret_access_key": "", "buckets": ["photos", "UP"] },
		              "a": { "endpoint_url": "http://localhost", "access_key_id": "id", "secret_access_key": "s", "buckets": ["photos"] } },
		"users":    { "z": { "api_key": "short", "role": "owner", "allowed_buckets": ["photos", "nosuch"] },
		              "y": { "api_key": "0123456789abcdef", "role": "user" },
		              "x": { "api_key": "0123456789abcdef", "role": "user" } },
		"max_file_size": 0,
		"rate_limit": { "requests": -1, "window_seconds": 0 }
	}`,
		"server.port", "max_file_size",
		"accounts.b.access_key_id", "accounts.b.secret_access_key", "accounts.b.endpoint_url", "accounts.b.buckets[0]", "accounts.b.buckets[1]",
		"rate_limit.window_seconds", "rate_limit.requests",
		"users.y", "users.z.role", "users.z.api_key", "users.z.allowed_buckets[1]")
	wantErrors(t, `{ "Server": {}, "server": { "port": "x", "prot": 1 }, "users": null, "users": [], "accounts": { "a": 5, "a": { "buckets": "photos" } } }`,
		"Server", "server.port", "server.prot", "users", "users", "users", "accounts.a", "accounts.a", "accounts.a.buckets")
}

// In the JSON: of two keys that are equal, or equal but for their case,
// encoding/json takes the last, so a reviewer and the program may read two
// different files.
func TestConfigStrictJSON(t *testing.T) {
	const rest = `"accounts":{"main":{"endpoint_url":"http://localhost:9000","access_key_id":"id","secret_access_key":"s","buckets":["photos"]}},
		"users":{"alice":{"api_key":"0123456789abcdef","role":"user","allowed_buckets":["photos"]}}`
	if _, err := parseConfig([]byte("\n{"+rest+"}\n\t "), noEnv); err != nil {
		t.Fatalf("the document the cases are made of: %v", err)
	}
	user := func(fields string) string {
		return strings.Replace("{"+rest+"}", `"role":"user"`, fields, 1)
	}
	for _, test := range []struct {
		text string
		want []string
	}{
		{`{` + rest + `,"max_file_size":1,"max_file_size":2}`, []string{"max_file_size"}},
		{`{` + rest + `,"server":{"port":1},"server":{}}`, []string{"server"}},
		{user(`"role":"readonly","role":"admin"`), []string{"users.alice.role"}},
		{user(`"role":"user","\u0072ole":"admin"`), []string{"users.alice.role"}},
		{user(`"role":"user","ROLE":"admin"`), []string{"users.alice.ROLE"}},
		{user(`"role":"user","Api_Key":"fedcba9876543210"`), []string{"users.alice.Api_Key"}},
		{user(`"role":"user","api_\u212aey":"fedcba9876543210"`), []string{"users.alice.api_\u212aey"}}, // K for Kelvin
		{user(`"role":"user","u\u017fers":1`), []string{"users.alice.u\u017fers"}},                      // a long s
		{user(`"role":"user","allowedBuckets":["*"]`), []string{"users.alice.allowedBuckets"}},
		{user(`"role":"user","":1`), []string{"users.alice."}},
		{user(`"role":"user","comment":{"deep":[{"er":[1,"}"]}]}`), []string{"users.alice.comment"}},
		{strings.Replace("{"+rest+"}", `"users":{`, `"users":{"alice":{},`, 1), []string{"users.alice"}},
		{strings.Replace("{"+rest+"}", `"allowed_buckets":["photos"]`, `"allowed_buckets":null`, 1), []string{"users.alice.allowed_buckets"}},
		{strings.Replace("{"+rest+"}", `"allowed_buckets":["photos"]`, `"allowed_buckets":"*"`, 1), []string{"users.alice.allowed_buckets"}},
		{strings.Replace("{"+rest+"}", `"allowed_buckets":["photos"]`, `"allowed_buckets":[["*"]]`, 1), []string{"users.alice.allowed_buckets[0]"}},
		{strings.Replace("{"+rest+"}", `"allowed_buckets":["photos"]`, `"allowed_buckets":[null]`, 1), []string{"users.alice.allowed_buckets[0]"}},
		{strings.Replace("{"+rest+"}", `"allowed_buckets":["photos"]`, `"allowed_buckets":{"0":"*"}`, 1), []string{"users.alice.allowed_buckets"}},
		{`{` + rest + `,"max_file_size":null}`, []string{"max_file_size"}},
		{`{` + rest + `,"rate_limit":null}`, []string{"rate_limit"}},
		{`{` + rest + `,"server":null}`, []string{"server"}},
		{`{` + rest + `,"nested_keys":null}`, []string{"nested_keys"}},
		{`{` + rest + `,"nested_keys":"true"}`, []string{"nested_keys"}},
		{`{` + rest + `,"nested_keys":1}`, []string{"nested_keys"}},
		{`{` + rest + `,"max_file_size":"1"}`, []string{"max_file_size"}},
		{`{` + rest + `,"max_file_size":1.5}`, []string{"max_file_size"}},
		{`{` + rest + `,"max_file_size":1e6}`, []string{"max_file_size"}},
		{`{` + rest + `,"max_file_size":9223372036854775808}`, []string{"max_file_size"}},
		{`{` + rest + `,"max_file_size":true}`, []string{"max_file_size"}},
		{`{` + rest + `,"max_file_size":[1]}`, []string{"max_file_size"}},
		{`{` + rest + `,"server":{"idle_timeout":60}}`, []string{"server.idle_timeout"}},
		{`{` + rest + `,"server":[]}`, []string{"server"}},
		{`{` + rest + `,"server":false}`, []string{"server"}},
		{`null`, []string{"the document"}},
		{`[]`, []string{"the document"}},
		{`"x"`, []string{"the document"}},
		{`17`, []string{"the document"}},
	} {
		wantErrors(t, test.text, test.want...)
	}
}

// What is no JSON at all, or more than one document, is refused whole, with
// the place where it goes wrong.
func TestConfigSyntax(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "line 1, column 0"},
		{"{", "line 1, column 1"},
		{"{}\n{}", "line 2, column 1"},
		{"{} x", "line 1, column 4"},
		{"{}]", "line 1, column 3"},
		{"{\n  \"server\" 1\n}", "line 2, column 12"},
		{"{\"nested_keys\": true,}", "line 1, column 22"},
		{"{'server': 1}", "line 1, column 2"},
		{"// a comment\n{}", "line 1, column 1"},
		{"{\"max_file_size\": NaN}", "line 1, column 19"},
		{"{\"max_file_size\": 010}", "line 1, column 20"},
		{"\ufeff{}", "line 1, column 1"},
	} {
		_, err := parseConfig([]byte(test.text), noEnv)
		if err == nil || !strings.HasPrefix(err.Error(), test.want+": ") {
			t.Errorf("parseConfig(%q) = %v, want an error at %s", test.text, err, test.want)
		}
	}
	deep := `{"x":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}"
	if _, err := parseConfig([]byte(deep), noEnv); err == nil {
		t.Errorf("parseConfig of a million brackets took it")
	}
}

func TestConfigExpand(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	env := map[string]string{"NAME": "value", "EMPTY": "", "_A1": "x", "NESTED": "${NAME}", "PATH_LIKE": file("other", "never read")}
	lookup := func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"${NAME}", "value"},
		{"a-${NAME}-${_A1}-b", "a-value-x-b"},
		{"${EMPTY}", ""},
		{"${EMPTY:-default}", ""}, // it is set
		{"${MISSING:-default}", "default"},
		{"${MISSING:-}", ""},
		{"${MISSING:-a:-b}", "a:-b"},
		{"${NAME:-default}", "value"},
		{"${NESTED}", "${NAME}"}, // once, or a value could reach for others
		{"${PATH_LIKE}", env["PATH_LIKE"]},
		{"$NAME", "$NAME"},
		{"$${NAME}", "$value"},
		{file("lf", "secret\n"), "secret"},
		{file("crlf", "secret\r\n"), "secret"},
		{file("bare", "secret"), "secret"},
		{file("spaces", " a b \n\n"), " a b "},
		{file("literal", "${NAME}\n"), "${NAME}"},
		{file("lines", "a\nb\n"), "a\nb"},
		{" file:x", " file:x"},
	} {
		if got, err := expandValue(test.in, lookup); err != nil || got != test.want {
			t.Errorf("expandValue(%q) = %q, %v, want %q", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{"${MISSING}", "${NAME}${MISSING}", "file:", "file:" + filepath.Join(dir, "nosuch"), "file:" + dir} {
		if got, err := expandValue(in, lookup); err == nil {
			t.Errorf("expandValue(%q) = %q, want an error", in, got)
		}
	}
	// What comes from outside is checked as what stands in the file, and a
	// fault has the path of the value.
	for _, test := range []struct {
		key  string
		want []string
	}{
		{"${MISSING}", []string{"users.user.api_key", "users.user"}},
		{"${NAME}", []string{"users.user.api_key"}},
		{file("short", "short\n"), []string{"users.user.api_key"}},
		{file("empty", ""), []string{"users.user"}},
		{file("two", "0123456789abcdef\n0123456789abcdef\n"), []string{"users.user.api_key"}},
		{file("good", "0123456789abcdef\n"), nil},
		{"${MISSING:-0123456789abcdef}", nil},
	} {
		_, err := parseConfig([]byte(configText(t, with("users.user.api_key", test.key))), lookup)
		if err == nil && test.want == nil {
			continue
		}
		if err == nil || !slices.Contains(test.want, faultPaths(err)[0]) {
			t.Errorf("parseConfig with the key %q = %v, want a fault at one of %q", test.key, err, test.want)
		}
	}
}

// A fault is printed, and logged by whoever starts the program: it never holds
// the value of a field that is a secret.
func TestConfigErrorsTellNoSecret(t *testing.T) {
	const canary = "2718281828459045"
	for _, test := range []struct{ field, value string }{
		{"users.user.api_key", `"2718281828459045 "`},
		{"users.user.api_key", `"2718281828459045change-me"`},
		{"users.user.api_key", `2718281828459045`}, // somebody forgot the quotes
		{"users.user.api_key", `["2718281828459045"]`},
		{"users.user.api_keys", `[2718281828459045]`},
		{"users.user.api_key_sha256", `"2718281828459045"`},
		{"users.user.api_key_sha256", `2718281828459045`},
		{"accounts.main.secret_access_key", `2718281828459045`},
		{"accounts.main.secret_access_key", `{"value":"2718281828459045"}`},
		{"accounts.main.session_token", `"2718281828459045 "`},
		{"accounts.main.session_token", `2718281828459045`},
		{"accounts.main.endpoint_url", `"http://user:2718281828459045@localhost"`},
		{"accounts.main.endpoint_url", `"http://user:s2718281828459045"`},
		{"accounts.main.endpoint_url", `"http://localhost/?token=2718281828459045"`},
	} {
		_, err := parseConfig([]byte(configText(t, with(test.field, json.RawMessage(test.value)))), noEnv)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %s: error %v, want one without the value", test.field, test.value, err)
		}
	}
}

// The keys of the example are known to everybody who has read it, so
// a gateway does not start with them. A bucket that the example has at Amazon
// must be one that nobody can register: else whoever registers it gets what
// people upload who try the example with credentials of their own. S3 keeps
// the prefix amzn-s3-demo- for that.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
func TestExampleKeysAreRefused(t *testing.T) {
	env := func(string) (string, bool) { return "secret-from-the-environment", true }
	file, err := decodeConfig(exampleConfig, env)
	if err != nil {
		t.Fatalf("config.example.json: %v", err)
	}
	c, err := file.check(true)
	if err != nil {
		t.Fatalf("config.example.json, its keys allowed: %v", err)
	}
	if len(c.accounts) == 0 || len(c.users) == 0 || len(c.warnings) != 0 {
		t.Errorf("config.example.json: %d accounts, %d users, warnings %q, want some, some, none", len(c.accounts), len(c.users), c.warnings)
	}
	_, err = parseConfig(exampleConfig, env)
	if err == nil {
		t.Fatal("config.example.json is taken as it is, want it refused for its keys")
	}
	if got, want := faultPaths(err), []string{"users.alice.api_key", "users.bob.api_key", "users.eve.api_key"}; !slices.Equal(got, want) {
		t.Errorf("config.example.json: faults at %q, want %q", got, want)
	}
	if file, err := decodeConfig(exampleConfig, noEnv); err != nil || file.errs == nil {
		t.Error("config.example.json needs no secret from the environment, want that none is in it")
	}
	for bucket, b := range c.buckets {
		if strings.HasSuffix(b.account.host, ".amazonaws.com") && !strings.HasPrefix(bucket, "amzn-s3-demo-") {
			t.Errorf("config.example.json: bucket %q at %s can be registered by anybody", bucket, b.account.host)
		}
	}
}

// The settings of running in earnest: what is right, and what it becomes.
func TestConfigService(t *testing.T) {
	dir := t.TempDir()
	authorities := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(authorities, []byte(certToPEM(newTestCA(t, "an authority").cert)), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"AWS_ACCESS_KEY_ID": "ENVKEYID", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": dir}
	parse := func(changes ...func(map[string]any)) *config {
		t.Helper()
		c, err := parseConfig([]byte(configText(t, changes...)), func(name string) (string, bool) { value, ok := env[name]; return value, ok })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, test := range []struct {
		name      string
		change    func(map[string]any)
		got       func(*config) any
		want      any
		otherwise any // without the change
	}{
		{"certificate", inOrder(with("server.tls_cert_file", "c.pem"), with("server.tls_key_file", "k.pem"), with("server.tls_client_ca_file", "a.pem")),
			func(c *config) any { return [3]string{c.certFile, c.keyFile, c.clientCA} }, [3]string{"c.pem", "k.pem", "a.pem"}, [3]string{}},
		{"connections", with("server.max_connections", 7), func(c *config) any { return c.maxConnections }, 7, 0},
		{"admin", with("server.admin", map[string]any{}), func(c *config) any { return c.admin }, "127.0.0.1:9090", ""},
		{"admin elsewhere", with("server.admin", map[string]any{"host": "::", "port": 1}), func(c *config) any { return c.admin }, "[::]:1", ""},
		{"stop", with("server.shutdown_timeout", "5m"), func(c *config) any { return c.shutdownTimeout }, 5 * time.Minute, 30 * time.Second},
		{"idle", with("server.idle_timeout", "1ms"), func(c *config) any { return c.idleTimeout }, time.Millisecond, time.Minute},
		{"connect", with("accounts.main.connect_timeout", "1s"), func(c *config) any { return c.accounts[0].connectTimeout }, time.Second, 5 * time.Second},
		{"head", with("accounts.main.response_header_timeout", "10m"), func(c *config) any { return c.accounts[0].responseHeaderTimeout }, 10 * time.Minute, time.Minute},
		{"authorities", with("accounts.main.ca_file", authorities), func(c *config) any { return c.accounts[0].roots != nil }, true, false},
		{"environment", inOrder(without("accounts.main.access_key_id"), without("accounts.main.secret_access_key"), with("accounts.main.credentials", "env")),
			func(c *config) any { return c.accounts[0].source.get().AccessKeyID }, "ENVKEYID", testCredentials.AccessKeyID},
		{"profile", inOrder(without("accounts.main.access_key_id"), without("accounts.main.secret_access_key"), with("accounts.main.credentials", "profile:x")),
			func(c *config) any { return c.accounts[0].credentialSpec }, "profile:x", ""},
		{"requests at once", with("max_in_flight", 5), func(c *config) any { return userOf(c, "user").share }, share{5, 0}, share{}},
		{"bandwidth", with("bytes_per_second", 1<<40), func(c *config) any { return userOf(c, "user").share }, share{0, 1 << 40}, share{}},
		{"a user's own", inOrder(with("max_in_flight", 5), with("bytes_per_second", 6), with("users.user.max_in_flight", 7)),
			func(c *config) any { return [2]share{userOf(c, "user").share, userOf(c, "ro").share} }, [2]share{{7, 6}, {5, 6}}, [2]share{}},
		{"a user without", inOrder(with("max_in_flight", 5), with("bytes_per_second", 6), with("users.user.max_in_flight", 0), with("users.user.bytes_per_second", 0)),
			func(c *config) any { return userOf(c, "user").share }, share{}, share{}},
		{"shared limiter", with("rate_limit.redis_url", "rediss://u:p%2F@store.example/3"),
			func(c *config) any {
				if c.redis == nil {
					return nil
				}
				return *c.redis
			}, redisServer{"store.example:6379", true, "u", "p/", 3}, nil},
	} {
		if got := test.got(parse(test.change)); got != test.want {
			t.Errorf("%s = %v, want %v", test.name, got, test.want)
		}
		if got := test.got(parse()); got != test.otherwise {
			t.Errorf("without %s: %v, want %v", test.name, got, test.otherwise)
		}
	}
}

// What is wrong with one of them is said where it is wrong.
func TestConfigErrorsOfServices(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	withoutStatic := inOrder(without("accounts.main.access_key_id"), without("accounts.main.secret_access_key"))
	for _, test := range []struct {
		name   string
		change func(map[string]any)
		want   []string
	}{
		{"certificate without key", with("server.tls_cert_file", "c.pem"), []string{"server.tls_cert_file"}},
		{"key without certificate", with("server.tls_key_file", "k.pem"), []string{"server.tls_cert_file"}},
		{"clients' authority alone", with("server.tls_client_ca_file", "a.pem"), []string{"server.tls_client_ca_file"}},
		{"connections below 0", with("server.max_connections", -1), []string{"server.max_connections"}},
		{"connections as a string", with("server.max_connections", "7"), []string{"server.max_connections"}},
		{"admin as an address", with("server.admin", "127.0.0.1:9090"), []string{"server.admin"}},
		{"admin on", with("server.admin", true), []string{"server.admin"}},
		{"admin port", with("server.admin.port", 65536), []string{"server.admin.port"}},
		{"admin with more", with("server.admin.user", "x"), []string{"server.admin.user"}},
		{"stop at once", with("server.shutdown_timeout", "0s"), []string{"server.shutdown_timeout"}},
		{"idle as a number", with("server.idle_timeout", 60), []string{"server.idle_timeout"}},

		{"no such authorities", with("accounts.main.ca_file", notPEM+".none"), []string{"accounts.main.ca_file"}},
		{"authorities that are none", with("accounts.main.ca_file", notPEM), []string{"accounts.main.ca_file"}},
		{"unknown credentials", inOrder(withoutStatic, with("accounts.main.credentials", "vault")), []string{"accounts.main.credentials"}},
		{"variable that is not set", inOrder(withoutStatic, with("accounts.main.credentials", "env")), []string{"accounts.main.credentials"}},
		{"credentials of both kinds", with("accounts.main.credentials", "imds"), []string{"accounts.main.credentials"}},
		{"and with a token alone", inOrder(withoutStatic, with("accounts.main.credentials", "imds"), with("accounts.main.session_token", "x")), []string{"accounts.main.credentials"}},
		{"credentials of no kind", withoutStatic, []string{"accounts.main.access_key_id", "accounts.main.secret_access_key"}},

		{"requests at once below 0", with("max_in_flight", -1), []string{"max_in_flight"}},
		{"bandwidth below 0", with("bytes_per_second", -1), []string{"bytes_per_second"}},
		{"bandwidth with a unit", with("bytes_per_second", "1MB"), []string{"bytes_per_second"}},
		{"a user's requests at once", with("users.user.max_in_flight", -1), []string{"users.user.max_in_flight"}},
		{"a user's bandwidth", with("users.user.bytes_per_second", -1), []string{"users.user.bytes_per_second"}},
		{"a user's bandwidth in parts", with("users.user.bytes_per_second", 1.5), []string{"users.user.bytes_per_second"}},

		{"store of another kind", with("rate_limit.redis_url", "memcached://localhost"), []string{"rate_limit.redis_url"}},
		{"store without scheme", with("rate_limit.redis_url", "localhost:6379"), []string{"rate_limit.redis_url"}},
		{"a user's store", with("users.user.rate_limit", map[string]any{"redis_url": "redis://localhost"}), []string{"users.user.rate_limit.redis_url"}},
	} {
		t.Run(test.name, func(t *testing.T) { wantErrors(t, configText(t, test.change), test.want...) })
	}
}

// A store's password is neither in a fault, nor in what -check prints.
func TestConfigStorePassword(t *testing.T) {
	const canary = "2718281828459045"
	for _, url := range []string{
		"memcached://:" + canary + "@localhost", "redis://:" + canary, "redis://:" + canary + "@localhost:x", "redis://:" + canary + "@localhost/one",
		"redis://:" + canary + "%@localhost", "redis://localhost?password=" + canary, canary,
	} {
		_, err := parseConfig([]byte(configText(t, with("rate_limit.redis_url", url))), noEnv)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("redis_url %s: error %v, want one without the password", url, err)
		}
	}
	_, err := parseConfig([]byte(configText(t, with("users.user.rate_limit", map[string]any{"redis_url": "redis://:" + canary + "@localhost"}))), noEnv)
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a user's redis_url: error %v, want one without the password", err)
	}
	c, err := parseConfig([]byte(configText(t, with("rate_limit.redis_url", "redis://:"+canary+"@localhost"), with("accounts.main.session_token", canary))), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	var described strings.Builder
	c.describe(&described)
	checkNoSecret(t, "what -check prints", described.String())
	if text := described.String() + fmt.Sprint(c.redis); strings.Contains(text, canary) {
		t.Errorf("-check prints %s", text)
	}
}

// A file that others can read is warned of if a secret stands in it, not if it says
// where the secrets are.
func TestConfigReadableByOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permissions for others")
	}
	secret := writeFile(t, "0123456789abcdef-from-a-file")
	t.Setenv("S3PROXY_TEST_SECRET", "secret-from-the-environment")
	elsewhere := func(c map[string]any) {
		with("accounts.main.secret_access_key", "${S3PROXY_TEST_SECRET}")(c)
		with("users", map[string]any{"user": map[string]any{"api_key": "file:" + secret, "role": "user"}})(c)
	}
	digest := sha256.Sum256([]byte(userKey))
	for _, test := range []struct {
		name   string
		mode   os.FileMode
		change func(map[string]any)
		warns  bool
	}{
		{"secrets", 0o644, inOrder(), true},
		{"secrets, for the owner", 0o600, inOrder(), false},
		{"secrets, for the group", 0o640, inOrder(), false},
		{"none", 0o644, elsewhere, false},
		{"digest", 0o644, inOrder(elsewhere, with("users.user", map[string]any{"api_key_sha256": hex.EncodeToString(digest[:]), "role": "user"})), false},
		{"account's secret", 0o644, inOrder(elsewhere, with("accounts.main.secret_access_key", "s")), true},
		{"token", 0o644, inOrder(elsewhere, with("accounts.main.session_token", "t")), true},
		{"key", 0o644, inOrder(elsewhere, with("users.user.api_key", userKey)), true},
		{"one of two keys", 0o644, inOrder(elsewhere, with("users.user", map[string]any{"api_keys": []any{"file:" + secret, userKey}, "role": "user"})), true},
		{"store's password", 0o644, inOrder(elsewhere, with("rate_limit.redis_url", "redis://:password@localhost")), true},
		{"store's password from elsewhere", 0o644, inOrder(elsewhere, with("rate_limit.redis_url", "redis://:${S3PROXY_TEST_SECRET}@localhost")), false},
		{"store without password", 0o644, inOrder(elsewhere, with("rate_limit.redis_url", "redis://localhost")), false},
	} {
		path := writeConfig(t, testConfig("http://localhost:9000", test.change))
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		c, err := loadConfig(path)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		warned := slices.ContainsFunc(c.warnings, func(warning string) bool {
			return strings.HasPrefix(warning, path+": ") && strings.Contains(warning, "chmod o-r")
		})
		if warned != test.warns {
			t.Errorf("%s, mode %o: warnings %q, want one: %t", test.name, test.mode, c.warnings, test.warns)
		}
	}
}

// Whatever the file holds, parsing ends with a value or an error; and what is
// taken has every bucket in one account, every key with one user, no key that
// is short, and no right to what is not there.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(configText(f)))
	f.Add(exampleConfig)
	f.Add([]byte(`{"users":{"a":{"api_key":"0123456789abcdef","api_\u006bey":"x"}}}`))
	f.Add([]byte(configText(f, with("accounts.other.buckets", []any{"photos", "photos"}), with("users.user.api_key", "${KEY}"))))
	f.Add([]byte(configText(f, with("users.user", map[string]any{"role": "user", "api_keys": []any{"0123456789abcdef", "${KEY}"}}))))
	f.Add([]byte(`{"accounts":{"a":{"buckets":[`))
	f.Add([]byte("[[null]]"))
	expand := func(_, s string) (string, error) {
		if strings.HasPrefix(s, "file:") {
			return s, nil // or the fuzzer would read files
		}
		return expandValue(s, func(name string) (string, bool) { return "key-from-the-environment", name == "KEY" })
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var file configFile
		if decodeStrict(data, &file, expand) != nil {
			return
		}
		c, err := file.check(false)
		if err != nil {
			return
		}
		claimed := 0
		for _, a := range file.Accounts {
			claimed += len(a.Buckets)
		}
		if claimed != len(c.buckets) || claimed == 0 {
			t.Errorf("accounts claim %d buckets, %d are known: %s", claimed, len(c.buckets), data)
		}
		seen := map[string]bool{}
		for _, u := range c.users {
			if len(u.keys) == 0 {
				t.Errorf("user %q has no key: %s", u.name, data)
			}
			for _, key := range u.keys {
				if key.secret != "" && (len(key.secret) < 16 || strings.Contains(key.secret, "change-me")) {
					t.Errorf("user %q has the key %q: %s", u.name, key.secret, data)
				}
				digest := key.digest
				if seen[string(digest[:])] {
					t.Errorf("two users have one key: %s", data)
				}
				seen[string(digest[:])] = true
			}
			for bucket := range u.buckets {
				if bucket != "*" && c.buckets[bucket] == nil {
					t.Errorf("user %q may use %q, which is not there: %s", u.name, bucket, data)
				}
			}
		}
		var loose any
		if err := json.Unmarshal(data, &loose); err != nil {
			t.Errorf("taken, but no JSON: %v: %s", err, data)
		}
		if n := modelBuckets(loose); n != len(c.buckets) {
			t.Errorf("the document lists %d buckets, %d are known: %s", n, len(c.buckets), data)
		}
	})
}

// modelBuckets counts the buckets of a document as encoding/json reads it.
func modelBuckets(document any) int {
	accounts, _ := document.(map[string]any)["accounts"].(map[string]any)
	n := 0
	for _, account := range accounts {
		buckets, _ := account.(map[string]any)["buckets"].([]any)
		n += len(buckets)
	}
	return n
}

// userOf returns a user of a configuration by name.
func userOf(c *config, name string) *user {
	for _, u := range c.users {
		if u.name == name {
			return u
		}
	}
	return &user{}
}

// parseConfig is loadConfig on bytes, with the environment as an argument.
func parseConfig(data []byte, lookupEnv func(string) (string, bool)) (*config, error) {
	file, err := decodeConfig(data, lookupEnv)
	if err != nil {
		return nil, err
	}
	return file.check(false)
}
