package main

// The tables of README.md and docs/ are compared with what the program has.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// docsTable returns the rows of the table in docs/NAME.md whose head begins with these
// cells.
func docsTable(t *testing.T, name string, head ...string) [][]string {
	t.Helper()
	var rows [][]string
	found := false
	for line := range strings.Lines(readDoc(t, "docs/"+name+".md")) {
		line = strings.TrimSpace(line)
		if !found {
			found = strings.HasPrefix(line, "| "+strings.Join(head, " | ")+" |")
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "|") {
			break
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	if len(rows) < 2 {
		t.Fatalf("docs/%s.md has no table %q", name, head)
	}
	return rows[1:] // the first is the rule below the head
}

// codeSpan returns what stands between backquotes, if the cell is nothing else.
func codeSpan(cell string) (code string, ok bool) {
	code = strings.Trim(cell, "`")
	return code, "`"+code+"`" == cell
}

// setting is a row of the table of settings.
type setting struct {
	path, kind, fallback string
	reloads              bool
}

func documentedSettings(t *testing.T) []setting {
	t.Helper()
	var settings []setting
	for _, row := range docsTable(t, "configuration", "setting", "type", "unit", "default", "reloads") {
		path, ok := codeSpan(row[0])
		if !ok {
			t.Errorf("%s: want the name of a setting between backquotes", row[0])
		}
		word, _, _ := strings.Cut(row[4], ";")
		if word != "yes" && word != "no" {
			t.Errorf("%s: reloads is %q, want yes or no", path, row[4])
		}
		settings = append(settings, setting{path, row[1], row[3], word == "yes"})
	}
	return settings
}

// The paths of the test configuration stand in for any name.
func (s setting) at() string {
	path := strings.Replace(s.path, "accounts.NAME", "accounts.main", 1)
	path = strings.Replace(path, "users.NAME", "users.ro", 1)
	return strings.Replace(path, "[]", "[0]", 1)
}

// settingsOf returns the path of each value that a type can hold, with its type as
// the docs names it.
func settingsOf(path string, t reflect.Type) map[string]string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	settings := map[string]string{}
	switch {
	case t == reflect.TypeFor[duration]():
		settings[path] = "duration"
	case t.Kind() == reflect.Struct:
		for field := range t.Fields() {
			if tag := field.Tag.Get("json"); tag != "" {
				maps.Copy(settings, settingsOf(strings.TrimPrefix(path+"."+tag, "."), field.Type))
			}
		}
	case t.Kind() == reflect.Map:
		return settingsOf(path+".NAME", t.Elem())
	case t.Kind() == reflect.Slice:
		settings[path] = "list"
		if t.Elem().Kind() == reflect.Struct {
			maps.Copy(settings, settingsOf(path+"[]", t.Elem()))
		}
	case isInt(t):
		settings[path] = "int"
	default:
		settings[path] = t.Kind().String()
	}
	return settings
}

func TestEverySettingIsInTheDocs(t *testing.T) {
	want := settingsOf("", reflect.TypeFor[configFile]())
	// One type serves both limits, but the store is one for all.
	const refused = "users.NAME.rate_limit.redis_url"
	wantErrors(t, configText(t, with("users.ro.rate_limit.redis_url", "redis://localhost")), "users.ro.rate_limit.redis_url")
	delete(want, refused)
	seen := map[string]bool{}
	for _, s := range documentedSettings(t) {
		switch kind, known := want[s.path]; {
		case seen[s.path]:
			t.Errorf("%s is in the docs twice", s.path)
		case !known:
			t.Errorf("%s is in the docs, and is no setting", s.path)
		case s.kind != kind:
			t.Errorf("%s is a %s in the docs, want %s", s.path, s.kind, kind)
		}
		seen[s.path] = true
	}
	for path := range want {
		if !seen[path] {
			t.Errorf("%s is a setting, and not in the docs", path)
		}
	}
}

// leftOut is the opposite of with. It ignores what is not there.
func leftOut(path string) func(map[string]any) {
	return func(c map[string]any) {
		steps := strings.Split(path, ".")
		for _, step := range steps[:len(steps)-1] {
			c, _ = c[step].(map[string]any)
		}
		delete(c, steps[len(steps)-1])
	}
}

// sparse returns the changes that leave only what is required, and the objects that the
// setting at path is in.
func sparse(t *testing.T, path string) []func(map[string]any) {
	changes := []func(map[string]any){leftOut("server"), leftOut("rate_limit"), leftOut("accounts.main.region"), leftOut("users.ro.allowed_buckets")}
	switch {
	case strings.HasPrefix(path, "server.cors."):
		changes = append(changes, with("server.cors.allowed_origins", []any{"https://app.example"}))
	case strings.HasPrefix(path, "server.admin."):
		changes = append(changes, with("server.admin", map[string]any{}))
	case strings.HasPrefix(path, "server.tls_"):
		changes = append(changes, with("server.tls_cert_file", "cert.pem"), with("server.tls_key_file", "key.pem"))
	case strings.Contains(path, ".buckets["):
		changes = append(changes, with("accounts.main.buckets", []any{map[string]any{"name": "photos"}, "secret"}))
	}
	return changes
}

func parsed(t *testing.T, changes ...func(map[string]any)) *config {
	t.Helper()
	env := func(string) (string, bool) { return "set", true }
	conf, err := parseConfig([]byte(configText(t, changes...)), env)
	if err != nil {
		t.Fatalf("parseConfig: %v", err)
	}
	for _, a := range conf.accounts {
		a.source = nil // there is one for each reading
	}
	return conf
}

// Writing a default down changes nothing. Leaving out a required setting is an error,
// and leaving out any other is none.
func TestSettingsDefaults(t *testing.T) {
	checked := 0
	for _, s := range documentedSettings(t) {
		before := sparse(t, s.path)
		if strings.HasPrefix(s.fallback, "required") {
			if strings.HasSuffix(s.at(), "[0].name") {
				before = append(before, with("accounts.main.buckets", []any{map[string]any{"bucket": "behind"}}))
			} else {
				before = append(before, leftOut(s.at()))
			}
			_, err := parseConfig([]byte(configText(t, before...)), noEnv)
			if err == nil || !slices.ContainsFunc(faultPaths(err), func(path string) bool { return within(s.at(), path) }) {
				t.Errorf("without %s: %v, want an error there, because the docs say %q", s.path, err, s.fallback)
			}
			continue
		}
		if !strings.HasPrefix(s.fallback, "one of") { // api_key, which the test configuration has
			parsed(t, append(sparse(t, ""), leftOut(s.at()))...)
		}
		code, _ := codeSpan(s.fallback)
		var value any
		if json.Unmarshal([]byte(code), &value) != nil { // in words
			continue
		}
		checked++
		absent, written := parsed(t, before...), parsed(t, append(before, with(s.at(), value))...)
		if !reflect.DeepEqual(absent, written) {
			t.Errorf("%s: %s in the docs is not the default", s.path, code)
		}
	}
	if checked < 20 {
		t.Errorf("%d defaults were compared, want more", checked)
	}
}

// What reloads makes another configuration with the same listeners, and the log
// says that it did; what does not makes other listeners.
func TestSettingsReload(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(certToPEM(newTestCA(t, "localhost").cert)), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("ab", 32)
	others := map[string]any{
		"server.host": "127.0.0.2", "server.port": 1234, "server.admin.host": "127.0.0.2", "server.admin.port": 1234, "server.admin.allowed_hosts": []any{"admin.example"}, "server.hsts": "max-age=1",
		"server.tls_cert_file": "other.pem", "server.tls_key_file": "other.pem", "server.tls_client_ca_file": "ca.pem",
		"server.max_connections": 9, "server.idle_timeout": "9s", "server.shutdown_timeout": "9s", "server.shutdown_delay": "9s", "server.domain": "s3.example",
		"server.cors.allowed_origins": []any{"*"}, "server.cors.allowed_methods": []any{"GET"}, "server.cors.allowed_headers": []any{"x-a"},
		"server.cors.expose_headers": []any{"x-a"}, "server.cors.max_age_seconds": 9,
		"accounts.NAME.endpoint_url": "http://localhost:9001", "accounts.NAME.region": "eu-west-1", "accounts.NAME.access_key_id": "other",
		"accounts.NAME.secret_access_key": "other", "accounts.NAME.session_token": "other", "accounts.NAME.credentials": "profile:other",
		"accounts.NAME.ca_file": ca, "accounts.NAME.addressing": "virtual", "accounts.NAME.buckets": []any{"photos", "secret", "more"},
		"accounts.NAME.trailing_checksums": "verify", "accounts.NAME.max_in_flight": 9, "accounts.NAME.connect_timeout": "9s", "accounts.NAME.response_header_timeout": "9s",
		"accounts.NAME.buckets[].name":   []any{map[string]any{"name": "photos"}, "secret", "more"},
		"accounts.NAME.buckets[].bucket": []any{map[string]any{"name": "photos", "bucket": "behind"}, "secret"},
		"users.NAME.api_key":             "another-key-0123456789", "users.NAME.api_keys": []any{"another-key-0123456789"}, "users.NAME.api_key_sha256": digest,
		"users.NAME.role": "admin", "users.NAME.allowed_buckets": []any{"*"}, "users.NAME.max_in_flight": 9, "users.NAME.bytes_per_second": 9,
		"users.NAME.rate_limit.requests": 9, "users.NAME.rate_limit.window_seconds": 9,
		"rate_limit.requests": 9, "rate_limit.window_seconds": 9, "rate_limit.redis_url": "redis://localhost",
		"max_in_flight": 9, "bytes_per_second": 9, "max_file_size": 9, "nested_keys": true,
	}
	for _, s := range documentedSettings(t) {
		other, ok := others[s.path]
		if !ok {
			t.Errorf("%s: no other value to try", s.path)
			continue
		}
		base := sparse(t, s.path)
		changed := slices.Clone(base)
		switch s.path {
		case "accounts.NAME.credentials":
			changed = append(changed, leftOut("accounts.main.access_key_id"), leftOut("accounts.main.secret_access_key"))
		case "users.NAME.api_keys", "users.NAME.api_key_sha256":
			changed = append(changed, leftOut("users.ro.api_key"))
		}
		path, _, _ := strings.Cut(s.at(), "[")
		before, now := parsed(t, base...), parsed(t, append(changed, with(path, other))...)
		if same := before.listeners == now.listeners; same != s.reloads {
			t.Errorf("%s: reloads is %t in the docs, and %t by the listeners", s.path, s.reloads, same)
		}
		if named := restartSettings(before.listeners, now.listeners); !s.reloads && !slices.Equal(named, []string{s.path}) {
			t.Errorf("%s takes a restart, and a reload says so of %q", s.path, named)
		}
		if named := changes(before, now); s.reloads == (len(named) == 0) {
			t.Errorf("%s: reloads is %t in the docs, and a reload logs the changes %q", s.path, s.reloads, named)
		}
	}
}

// The full example has every setting, and is right where its files are there.
func TestFullExample(t *testing.T) {
	text, err := os.ReadFile("deploy/config.full.json")
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	missing := settingsOf("", reflect.TypeFor[configFile]())
	delete(missing, "users.NAME.rate_limit.redis_url")
	var walk func(path string, value any)
	walk = func(path string, value any) {
		delete(missing, path)
		switch value := value.(type) {
		case map[string]any:
			for key, member := range value {
				if path == "accounts" || path == "users" {
					key = "NAME"
				}
				walk(strings.TrimPrefix(path+"."+key, "."), member)
			}
		case []any:
			for _, element := range value {
				walk(path+"[]", element)
			}
		}
	}
	walk("", document)
	if len(missing) != 0 {
		t.Errorf("deploy/config.full.json does not have %v", slices.Sorted(maps.Keys(missing)))
	}

	dir := t.TempDir()
	for name, content := range map[string]string{
		"minio-secret": "secret\n", "alice-old": "alice-old-0123456789\n", "alice-new": "alice-new-0123456789\n",
		"redis-url": "rediss://:password@localhost\n", "minio-ca.pem": certToPEM(newTestCA(t, "localhost").cert),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"BOB_KEY": "bob-key-0123456789abc", "EVE_KEY_SHA256": strings.Repeat("ab", 32)}
	conf, err := parseConfig(bytes.ReplaceAll(text, []byte("/etc/s3-proxy/"), []byte(filepath.ToSlash(dir)+"/")), func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
	if err != nil {
		t.Fatalf("deploy/config.full.json: %v", err)
	}
	if len(conf.warnings) != 0 {
		t.Errorf("deploy/config.full.json: warnings %q", conf.warnings)
	}
}

func TestEveryFlagIsInTheDocs(t *testing.T) {
	var help syncBuffer
	run(t.Context(), []string{"-help"}, &help, &help)
	want := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  -(\S+).*\n\s+(?:.*\(default "(.*)"\))?`).FindAllStringSubmatch(help.String(), -1) {
		want[m[1]] = m[2]
	}
	got := map[string]string{}
	for _, row := range docsTable(t, "configuration", "flag", "default") {
		flag, _ := codeSpan(row[0])
		name, _, _ := strings.Cut(strings.TrimPrefix(flag, "-"), " ")
		if got[name] = ""; strings.HasPrefix(row[1], "`") {
			got[name], _ = codeSpan(row[1])
		}
	}
	if len(want) < 5 || !maps.Equal(got, want) {
		t.Errorf("flags and defaults in the docs = %q, of -help = %q", got, want)
	}
}

func TestEveryMetricIsInTheDocs(t *testing.T) {
	want := map[string]string{}
	for _, f := range newMetrics().ownFamilies() {
		want[f.name] = f.kind + " " + strings.Join(f.labels, " ")
	}
	got := map[string]string{}
	for _, row := range docsTable(t, "metrics-and-logs", "metric", "type", "labels") {
		name, _ := codeSpan(row[0])
		got[name] = row[1] + " " + strings.NewReplacer("`", "", ",", "").Replace(row[2])
	}
	if !maps.Equal(got, want) {
		t.Errorf("metrics in the docs = %q, want %q", got, want)
	}
}

func TestEverySourceOfCredentialsIsInTheDocs(t *testing.T) {
	var got []string
	for _, row := range docsTable(t, "configuration", "credentials", "come from", "are renewed") {
		kind, _ := codeSpan(row[0])
		kind, _, _ = strings.Cut(kind, ":")
		got = append(got, kind)
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(credentialProviders)); !slices.Equal(got, want) {
		t.Errorf("credentials in the docs = %q, want %q", got, want)
	}
}

// Each line of a request has the fields that are always there, and the others when
// there is a reason; all have the type that the docs says.
func TestEveryFieldOfTheLogIsInTheDocs(t *testing.T) {
	var broken atomic.Bool
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-amz-request-id", "OFTHEBACKEND")
		switch r.URL.Path {
		case "/photos/gone":
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<Error><Code>NoSuchKey</Code></Error>")
		case "/photos/refused":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message><Region>eu-west-1</Region></Error>")
		case "/photos/cut":
			w.Header().Set("Content-Length", "100000")
			fmt.Fprint(w, "half")
		case "/photos/resumed":
			if w.Header().Set("Content-Length", "4"); broken.CompareAndSwap(false, true) {
				fmt.Fprint(w, "me")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, "meow")
		}
	})
	g := startGateway(t, testConfig(backend.URL))
	g.do("PUT", "/photos/whole", userKey, "cat")
	g.do("GET", "/photos/gone", userKey, "")
	g.do("GET", "/photos/refused", userKey, "")
	g.do("GET", "/photos/resumed", userKey, "")
	if resp, err := http.Get(g.url + "/photos/stranger"); err == nil {
		resp.Body.Close()
	}
	g.do("GET", "/photos/claimed", "", "", append(signed("user", "wrong-key-0123456789", "GET", "/photos/claimed", ""),
		"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")...)
	conn := g.dial()
	fmt.Fprintf(conn, "GET /photos/cut HTTP/1.1\r\nHost: s3\r\nx-api-key: %s\r\n\r\n", userKey)
	io.Copy(io.Discard, conn)
	if err := g.http.Shutdown(t.Context()); err != nil { // until all lines are written
		t.Fatal(err)
	}

	always, optional := map[string]string{}, map[string]string{}
	for _, row := range docsTable(t, "metrics-and-logs", "field", "type", "there") {
		name, _ := codeSpan(row[0])
		if row[2] == "always" {
			always[name] = row[1]
		} else {
			optional[name] = row[1]
		}
	}
	kinds := map[reflect.Kind]string{reflect.String: "string", reflect.Float64: "number", reflect.Bool: "bool"}
	extra := map[string]string{}
	lines := g.lines()
	if len(lines) != 7 {
		t.Fatalf("%d lines, want 7", len(lines))
	}
	for i, line := range lines {
		found := map[string]string{}
		for name, value := range line {
			kind := kinds[reflect.TypeOf(value).Kind()]
			if _, ok := always[name]; ok {
				found[name] = kind
			} else {
				extra[name] = kind
			}
		}
		if !maps.Equal(found, always) {
			t.Errorf("line %d has the fields %v, want %v", i, found, always)
		}
	}
	if !maps.Equal(extra, optional) {
		t.Errorf("some lines have the fields %v, want %v", extra, optional)
	}
}
