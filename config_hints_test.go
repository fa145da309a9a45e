package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// faultOf returns what is said of a configuration, which must be refused.
func faultOf(t *testing.T, text string, env map[string]string) string {
	t.Helper()
	_, err := parseConfig([]byte(text), func(name string) (string, bool) { value, ok := env[name]; return value, ok })
	if err == nil {
		t.Errorf("parseConfig(%.200s) took it", text)
		return ""
	}
	return err.Error()
}

// Where a value is missing because its source is empty, the source is named.
func TestEmptySourceIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"EMPTY": ""}
	for _, test := range []struct {
		change func(map[string]any)
		want   string
	}{
		{with("accounts.main.secret_access_key", "${EMPTY}"), "accounts.main.secret_access_key: must be a secret access key; the environment variable EMPTY is empty"},
		{with("accounts.main.access_key_id", "${EMPTY}"), "; the environment variable EMPTY is empty"},
		{with("accounts.main.endpoint_url", "${EMPTY}"), "; the environment variable EMPTY is empty"},
		{with("accounts.main.secret_access_key", "file:"+file), "; the file \"" + file + "\" is empty"},
		{with("users.user.api_key", "${EMPTY}"), "; the environment variable EMPTY is empty"},
		{with("users.user.role", "${EMPTY}"), "; the environment variable EMPTY is empty"},
		{with("accounts.main.secret_access_key", "${UNSET}"), "accounts.main.secret_access_key: the environment variable UNSET is not set"},
	} {
		if got := faultOf(t, configText(t, test.change), env); !strings.Contains(got, test.want) || strings.Count(got, "\n") != 0 {
			t.Errorf("fault = %q, want one with %q", got, test.want)
		}
	}
	// An empty value that is allowed is one.
	for _, value := range []string{"${EMPTY}", "${EMPTY:-}", "${UNSET:-}"} {
		if _, err := parseConfig([]byte(configText(t, with("accounts.main.session_token", value))), func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
			t.Errorf("session_token %q: %v", value, err)
		}
	}
}

func TestSyntaxIsExplained(t *testing.T) {
	good := configText(t)
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "is empty"},
		{"byte order mark", "\xef\xbb\xbf" + good, "byte order mark"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "UTF-16"},
		{"comma at the end of an object", `{"users": {"a": {},` + "\n}}", "line 2, column 1"},
		{"comma at the end of an object", `{"users": {"a": {}, }}`, "remove the comma"},
		{"comma at the end of an array", `{"users": ["a", ]}`, "remove the comma"},
		{"comment", "{\n// the users\n\"users\": {}}", "line 2, column 1"},
		{"comment", "{ // the users\n\"users\": {}}", "JSON has no comments"},
		{"block comment", `{ "users": {} /* none */ }`, "JSON has no comments"},
		{"comment of a shell", "# the users\n{}", "JSON has no comments"},
		{"single quotes", "{'users': {}}", "double quotes"},
		{"no comma", `{"a": "b" "c": "d"}`, "a comma is missing"},
		{"no comma after a number", `{"a": 1 "c": 2}`, "a comma is missing"},
		{"cut", `{"a": {`, "unexpected end of JSON input"},
	} {
		if got := faultOf(t, test.text, nil); !strings.Contains(got, test.want) {
			t.Errorf("%s: fault = %q, want %q in it", test.name, got, test.want)
		}
	}
}

func TestSizesAreBytes(t *testing.T) {
	for _, test := range []struct {
		path, value, want string
	}{
		{"max_file_size", "5GB", "5GB is 5000000000"},
		{"max_file_size", "5 GiB", "5 GiB is 5368709120"},
		{"max_file_size", "100m", "100m is 100000000"},
		{"max_file_size", "5368709120", "write the number of bytes, without quotes"},
		{"max_file_size", "much", "write the number of bytes, without quotes"},
		{"bytes_per_second", "1MB", "1MB is 1000000"},
		{"users.user.bytes_per_second", "2KiB", "2KiB is 2048"},
		{"server.port", "8080", "write it without quotes"},
		{"server.port", "hunter2", "must be a whole number, not a string"},
	} {
		got := faultOf(t, configText(t, with(test.path, test.value)), nil)
		if !strings.HasPrefix(got, test.path+": ") || !strings.Contains(got, test.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s %q: fault = %q, want %q in it", test.path, test.value, got, test.want)
		}
	}
}

func TestUnknownFieldIsGuessed(t *testing.T) {
	for _, test := range []struct{ path, want string }{
		{"max_filesize", `did you mean "max_file_size"?`},
		{"maxFileSize", `did you mean "max_file_size"?`},
		{"user", `did you mean "users"?`},
		{"server.prot", `did you mean "port"?`},
		{"server.idle-timeout", `did you mean "idle_timeout"?`},
		{"accounts.main.endpoint", `did you mean "endpoint_url"?`},
		{"accounts.main.acess_key_id", `did you mean "access_key_id"?`},
		{"users.user.allowed_bucket", `did you mean "allowed_buckets"?`},
		{"users.user.apikey", `did you mean "api_key"?`},
		{"port", "it belongs into server or server.admin"},
		{"endpoint_url", "it belongs into accounts.NAME"},
		{"redis_url", "it belongs into rate_limit or users.NAME.rate_limit"},
		{"server.max_file_size", "it belongs into the top level of the file"},
		{"zzz", "unknown field"},
	} {
		got := faultOf(t, configText(t, with(test.path, "x")), nil)
		if !strings.HasPrefix(got, test.path+": unknown field") || !strings.Contains(got, test.want) {
			t.Errorf("%s: fault = %q, want %q", test.path, got, test.want)
		}
		if test.want == "unknown field" && strings.Contains(got, "mean") {
			t.Errorf("%s: fault = %q, want no guess", test.path, got)
		}
	}
}

func TestVariableWithoutBraces(t *testing.T) {
	env := map[string]string{"secret": "x"}
	for _, test := range []struct {
		value   string
		refused bool
	}{
		{"$MINIO_SECRET", true}, {"$secret", true}, {"$X", true},
		{"$ecret-but-not-a-name", false}, {"$notset", false}, {"a$MINIO_SECRET", false}, {"$$", false}, {"$1", false}, {"cost: $5", false},
	} {
		_, err := parseConfig([]byte(configText(t, with("accounts.main.secret_access_key", test.value))), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		if (err != nil) != test.refused {
			t.Errorf("secret_access_key %q: %v, want it refused: %t", test.value, err, test.refused)
		}
		if err != nil && (!strings.Contains(err.Error(), "${NAME}") || strings.Contains(err.Error(), test.value)) {
			t.Errorf("secret_access_key %q: fault = %q, want how it is written, and not the value", test.value, err)
		}
	}
}

func TestListenersAreExplained(t *testing.T) {
	for _, test := range []struct{ path, value, want string }{
		{"server.host", "http://0.0.0.0", "without a scheme"},
		{"server.host", "0.0.0.0:8080", "the port goes into server.port"},
		{"server.host", "localhost:80", "the port goes into server.port"},
		{"server.host", "[::1]:80", "the port goes into server.port"},
		{"server.host", "*", `"0.0.0.0"`},
		{"server.host", "a b", "is not an address or a host name"},
		{"server.admin.host", "0.0.0.0:9090", "the port goes into server.admin.port"},
	} {
		if got := faultOf(t, configText(t, with(test.path, test.value)), nil); !strings.HasPrefix(got, test.path+": ") || !strings.Contains(got, test.want) {
			t.Errorf("%s %q: fault = %q, want %q in it", test.path, test.value, got, test.want)
		}
	}
	for _, host := range []string{"", "127.0.0.1", "::", "[::1]", "::1", "fe80::1%eth0", "localhost", "gateway-1.example", "a_b", "0.0.0.0"} {
		if _, err := parseConfig([]byte(configText(t, with("server.host", host))), noEnv); err != nil {
			t.Errorf("server.host %q: %v", host, err)
		}
	}
	for _, test := range []struct {
		host, adminHost string
		port, adminPort int
		refused         bool
	}{
		{"127.0.0.1", "127.0.0.1", 8080, 8080, true},
		{"0.0.0.0", "127.0.0.1", 8080, 8080, true},
		{"10.0.0.1", "::", 8080, 8080, true},
		{"10.0.0.1", "127.0.0.1", 8080, 8080, false},
		{"127.0.0.1", "127.0.0.1", 8080, 8081, false},
		{"127.0.0.1", "127.0.0.1", 0, 0, false},
	} {
		_, err := parseConfig([]byte(configText(t, with("server.host", test.host), with("server.port", test.port),
			with("server.admin", map[string]any{"host": test.adminHost, "port": test.adminPort}))), noEnv)
		if (err != nil) != test.refused || err != nil && !strings.HasPrefix(err.Error(), "server.admin.port: ") {
			t.Errorf("%+v: %v, want it refused: %t", test, err, test.refused)
		}
	}
}

func TestPatternsInAllowedBuckets(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"photos-*", "there are no patterns"}, {"phot?s", "there are no patterns"}, {"photos/*", "without a key"},
		{"photos/2024", "without a key"}, {"s3://photos", "without a key"}, {"arn:aws:s3:::photos", "not an ARN"}, {"nosuch", `bucket "nosuch" is in no account`},
	} {
		if got := faultOf(t, configText(t, with("users.user.allowed_buckets", []any{test.name})), nil); !strings.HasPrefix(got, "users.user.allowed_buckets[0]: ") || !strings.Contains(got, test.want) {
			t.Errorf("%q: fault = %q, want %q in it", test.name, got, test.want)
		}
	}
}

// An address that names a bucket already would lead to objects with other keys.
func TestEndpointThatNamesABucket(t *testing.T) {
	for _, test := range []struct{ endpoint, region, path, want string }{
		{"http://localhost:9000/photos", "us-east-1", "accounts.main.endpoint_url", `ends in the name of the bucket "photos"`},
		{"http://localhost:9000/base/secret/", "us-east-1", "accounts.main.endpoint_url", `ends in the name of the bucket "secret"`},
		{"https://photos.s3.eu-west-1.amazonaws.com", "eu-west-1", "accounts.main.endpoint_url", `names the bucket "photos" in its host`},
		{"https://any.thing.s3.amazonaws.com", "us-east-1", "accounts.main.endpoint_url", `names the bucket "any.thing" in its host`},
		{"https://s3.eu-west-1.amazonaws.com", "us-east-1", "accounts.main.region", `endpoint_url is in "eu-west-1"`},
		{"https://s3.eu-west-1.amazonaws.com", "", "accounts.main.region", `endpoint_url is in "eu-west-1"`},
		{"https://s3.dualstack.us-gov-west-1.amazonaws.com", "us-east-1", "accounts.main.region", `endpoint_url is in "us-gov-west-1"`},
		{"https://s3-fips.us-west-2.amazonaws.com:443", "us-east-1", "accounts.main.region", `endpoint_url is in "us-west-2"`},
		{"https://s3.cn-north-1.amazonaws.com.cn", "us-east-1", "accounts.main.region", `endpoint_url is in "cn-north-1"`},
	} {
		text := configText(t, with("accounts.main.endpoint_url", test.endpoint), with("accounts.main.region", test.region))
		if got := faultOf(t, text, nil); !strings.HasPrefix(got, test.path+": ") || !strings.Contains(got, test.want) {
			t.Errorf("%s in %q: fault = %q, want %q in it", test.endpoint, test.region, got, test.want)
		}
	}
	for _, endpoint := range []string{
		"https://s3.eu-west-1.amazonaws.com", "https://s3.amazonaws.com", "https://s3.dualstack.eu-west-1.amazonaws.com", "https://s3-eu-west-1.amazonaws.com",
		"http://localhost:9000/base", "https://s3.example", "https://minio.eu-west-1.example", "https://s3.us-east-1.wasabisys.com",
	} {
		c, err := parseConfig([]byte(configText(t, with("accounts.main.endpoint_url", endpoint), with("accounts.main.region", "eu-west-1"))), noEnv)
		if err != nil {
			t.Errorf("%s: %v", endpoint, err)
		} else if text := strings.Join(c.warnings, "\n"); strings.Contains(text, "begins with") {
			t.Errorf("%s: warnings %q", endpoint, text)
		}
	}
	c, err := parseConfig([]byte(configText(t, with("accounts.main.endpoint_url", "https://photos.fra1.digitaloceanspaces.com"))), noEnv)
	if err != nil || !strings.Contains(strings.Join(c.warnings, "\n"), `begins with the name of the bucket "photos"`) {
		t.Errorf("a bucket in the host of another service: %v, want a warning", err)
	}
}

func TestUserWithoutBucketsIsWarnedAbout(t *testing.T) {
	c, err := parseConfig([]byte(configText(t)), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(c.warnings, "\n"); strings.Count(text, "has no allowed_buckets") != 1 || !strings.Contains(text, "users.none: ") {
		t.Errorf("warnings = %q, want one of users.none", text)
	}
}

// checked runs -check on a configuration.
func checked(t *testing.T, config map[string]any) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(context.Background(), []string{"-config", writeConfig(t, config), "-check"}, &out, io.Discard)
	return out.String(), err
}

// Every fault at once: those of the files that a configuration names, too.
func TestCheckTellsOfFilesWithTheRest(t *testing.T) {
	folder := t.TempDir()
	bad := filepath.Join(folder, "bad.pem")
	if err := os.WriteFile(bad, []byte("not PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	profiles := filepath.Join(folder, "credentials")
	if err := os.WriteFile(profiles, []byte("[default]\naws_access_key_id = A\naws_secret_access_key = B\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", profiles)
	profile := func(name string) func(map[string]any) {
		return with("accounts.main", map[string]any{"endpoint_url": "http://localhost:9000", "credentials": "profile:" + name, "buckets": []any{"photos", "secret"}})
	}
	_, err := checked(t, testConfig("http://localhost:9000", with("server.tls_cert_file", bad), with("server.tls_key_file", bad),
		with("max_file_size", -1), with("users.user.role", "boss"), profile("prod")))
	if err == nil {
		t.Fatal("the configuration is right")
	}
	for _, want := range []string{"server.tls_cert_file", "max_file_size", "users.user.role", `accounts.main.credentials: `, `profile "prod" does not exist`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("-check = %v, want %s in it", err, want)
		}
	}
	if out, err := checked(t, testConfig("http://localhost:9000", profile("default"))); err != nil || !strings.Contains(out, "bucket photos") {
		t.Errorf("-check of a profile that is there = %q, %v", out, err)
	}
}

// Whose port it is, is said by the name of the setting.
func TestPortInUseNamesTheSetting(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, setting := range []string{"server.port", "server.admin.port"} {
		data, _ := json.Marshal(testConfig("http://localhost:9000", with(setting, port)))
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := run(context.Background(), []string{"-config", path}, io.Discard, io.Discard)
		if err == nil || !strings.HasPrefix(err.Error(), setting+": ") || !strings.Contains(err.Error(), "in use") {
			t.Errorf("run = %v, want %s, in use", err, setting)
		}
	}
}

// A secret in the wrong setting is not in the errors, which the admin listener and the log show. Those
// of the file itself are recognized by their length alone, where a short word is due.
func TestConfigErrorsRepeatNoSecret(t *testing.T) {
	const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) (string, bool) { return secret, name == "SECRET" }
	for _, path := range []string{
		"accounts.main.region", "accounts.main.addressing", "accounts.main.trailing_checksums", "accounts.main.credentials", "accounts.main.endpoint_url",
		"users.user.role", "server.cors.allowed_methods.0", "server.cors.allowed_origins.0", "server.cors.allowed_headers.0", "server.domain", "server.hsts", "server.host", "rate_limit.redis_url",
		"accounts.main.buckets.0", "users.user.allowed_buckets.0", "max_file_size", "server.idle_timeout",
	} {
		for _, written := range []string{"${SECRET}", "file:" + file, secret} {
			var value any = written
			name, isList := strings.CutSuffix(path, ".0")
			if isList {
				value = []any{written}
			}
			data, err := json.Marshal(testConfig("http://localhost:1", with("server.cors", map[string]any{"allowed_origins": []any{"https://a.example"}}), with(name, value)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = parseConfig(data, lookup)
			if err == nil {
				t.Errorf("%s = %q is taken", path, written)
				continue
			}
			if aWord := name == "accounts.main.region" || name == "users.user.role" || name == "accounts.main.credentials"; (written != secret || aWord) && strings.Contains(err.Error(), secret) {
				t.Errorf("%s = %q: the error repeats the secret: %v", path, written, err)
			}
		}
	}
}

// Of two values, of which one begins with the other, neither leaves a rest.
func TestConfigErrorsRepeatNoRestOfASecret(t *testing.T) {
	values := map[string]string{"SHORT": "first-part-of-it", "LONG": "first-part-of-it/and-the-rest"}
	data, err := json.Marshal(testConfig("http://localhost:1", with("users.user.api_key", "${SHORT}"), with("server.domain", "${LONG}")))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // the order of a map is another one each time
		_, err := parseConfig(data, func(name string) (string, bool) { value, ok := values[name]; return value, ok })
		if err == nil || !strings.Contains(err.Error(), "LONG") || strings.Contains(err.Error(), "and-the-rest") {
			t.Fatalf("the error is %v, want the name of the variable and nothing of its value", err)
		}
	}
}
