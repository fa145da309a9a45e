package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// runProgram starts run with arguments and returns what waits for its end.
func runProgram(t *testing.T, stdout, stderr io.Writer, args ...string) (stop context.CancelFunc, wait func() error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, stdout, stderr) }()
	return stop, func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			t.Fatal("the program does not end")
			return nil
		}
	}
}

func writeConfig(t *testing.T, config map[string]any) string {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The whole program: it starts on a free port, says which, answers, and ends
// when it is asked to.
func TestRunServes(t *testing.T) {
	path := writeConfig(t, testConfig(startDemoBackend(t).URL))
	logReader, logWriter := io.Pipe()
	stop, wait := runProgram(t, io.Discard, logWriter, "-config", path, "-log-format", "json")
	lines := bufio.NewScanner(logReader)
	var addr string
	for addr == "" && lines.Scan() {
		var line struct{ Msg, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("log line %q: %v", lines.Text(), err)
		}
		if line.Msg == "listening" {
			addr = line.Addr
		}
	}
	go io.Copy(io.Discard, logReader)
	req, _ := http.NewRequest("GET", "http://"+addr+"/photos", nil)
	req.Header.Set("x-api-key", readOnlyKey)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET /photos = %v, %v, want 200", resp, err)
	}
	resp.Body.Close()
	stop()
	if err := wait(); err != nil {
		t.Errorf("run = %v, want nil after a stop", err)
	}
}

// startDemoProgram runs -demo, and returns what it prints once it listens. Its log goes to stderr.
func startDemoProgram(t *testing.T, stderr io.Writer, args ...string) (text string, stop func()) {
	t.Helper()
	out, in := io.Pipe()
	cancel, wait := runProgram(t, in, stderr, append(args, "-demo")...)
	for lines := bufio.NewScanner(out); !strings.HasPrefix(lines.Text(), "The log follows") && lines.Scan(); {
		text += lines.Text() + "\n"
	}
	go io.Copy(io.Discard, out)
	return text, sync.OnceFunc(func() {
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	})
}

// What -demo prints works when it is pasted: the curl commands, the keys for S3 tools, the address
// of the status page. Its log is in the short format, whatever standard error is.
func TestRunDemoCommandsWork(t *testing.T) {
	log := &syncBuffer{}
	text, stop := startDemoProgram(t, log)
	defer stop()
	var outputs []string
	for _, m := range regexp.MustCompile(`(?m)^  (curl .*)$`).FindAllStringSubmatch(text, -1) {
		outputs = append(outputs, typeCommand(t, m[1]))
	}
	if len(outputs) != 4 {
		t.Fatalf("%d commands, want 4:\n%s", len(outputs), text)
	}
	for i, want := range []string{"^\n200$", "<Key>hello.txt</Key>(?s:.*)\n200$", "(?s)hello\n200$", "AccessDenied(?s:.*)\n403$"} {
		if !regexp.MustCompile(want).MatchString(outputs[i]) {
			t.Errorf("command %d answers %q, want %s", i+1, outputs[i], want)
		}
	}

	tool := regexp.MustCompile(`AWS_ACCESS_KEY_ID=(\S+) AWS_SECRET_ACCESS_KEY=(\S+) AWS_DEFAULT_REGION=(\S+) \\\n +aws --endpoint-url (\S+) s3 ls s3://(\S+)`).FindStringSubmatch(text)
	if tool == nil {
		t.Fatalf("no command of the AWS CLI in\n%s", text)
	}
	req, _ := http.NewRequest("GET", tool[4]+"/"+tool[5]+"?list-type=2", nil)
	signer := &signer{region: tool[3]}
	signer.sign(req, &credentials{AccessKeyID: tool[1], SecretAccessKey: tool[2]}, emptyPayload, time.Now())
	if status, body := sendDemo(t, req); status != 200 || !strings.Contains(body, "<Key>hello.txt</Key>") {
		t.Errorf("the list of an S3 tool = %d %s", status, body)
	}

	page := regexp.MustCompile(`status page is for the operator: (\S+)`).FindStringSubmatch(text)
	req, _ = http.NewRequest("GET", page[1], nil)
	if status, body := sendDemo(t, req); status != 200 || !strings.Contains(body, "<html") {
		t.Errorf("GET %s = %d %s, want a page", req.URL, status, body)
	}
	stop()
	if want := ` 403 PUT +photos/hello.txt +eve +PutObject +role +\S+s\n`; !regexp.MustCompile(want).MatchString(log.String()) {
		t.Errorf("the log has no line %s:\n%s", want, log.String())
	}
}

// A sync of a folder needs a request for each file, and slashes in keys.
func TestRunDemoAdmitsASync(t *testing.T) {
	text, stop := startDemoProgram(t, io.Discard)
	defer stop()
	if !strings.Contains(text, `"nested_keys" is true`) || !strings.Contains(text, fmt.Sprintf(`"rate_limit" admits %d requests`, demoRequests)) {
		t.Errorf("the demo does not say which settings are not the defaults:\n%s", text)
	}
	url := regexp.MustCompile(`http://[0-9.]+:[0-9]+`).FindString(text)
	for i := range 300 {
		askDemo(t, "PUT", fmt.Sprintf("%s/photos/folder/%d", url, i))
	}
}

func TestFreeAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if got := freeAddress(taken.Addr().String()); got != "127.0.0.1:0" {
		t.Errorf("in place of an address in use: %s, want any free port", got)
	}
	if got := freeAddress("127.0.0.1:0"); got != "127.0.0.1:0" {
		t.Errorf("a free address became %s", got)
	}
}

// typeCommand runs a curl command, and returns its output and the status on a last line. Where there
// is no curl, it sends the same request.
func typeCommand(t *testing.T, command string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err == nil {
		output, err := exec.Command("sh", "-c", command+` -sS -w '\n%{http_code}'`).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, output)
		}
		return string(output)
	}
	method, body := "GET", ""
	if strings.Contains(command, "-d 'hello' -X PUT") {
		method, body = "PUT", "hello"
	}
	req, err := http.NewRequest(method, regexp.MustCompile(`http://\S+`).FindString(command), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-api-key", regexp.MustCompile(`x-api-key: ([^']+)`).FindStringSubmatch(command)[1])
	status, text := sendDemo(t, req)
	return fmt.Sprintf("%s\n%d", text, status)
}

func sendDemo(t *testing.T, req *http.Request) (status int, body string) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// With -demo-dir the objects are there again after a restart.
func TestRunDemoDirKeeps(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		text, stop := startDemoProgram(t, io.Discard, "-demo-dir", dir)
		url := regexp.MustCompile(`http://[0-9.]+:[0-9]+`).FindString(text)
		if i == 0 {
			askDemo(t, "PUT", url+"/photos/hello.txt")
		}
		if got, want := askDemo(t, "GET", url+"/photos"), `Key>hello.txt<`; !strings.Contains(got, want) {
			t.Errorf("start %d: listing = %s, want %s in it", i+1, got, want)
		}
		stop()
	}
}

// askDemo sends a request of alice's.
func askDemo(t *testing.T, method, url string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-api-key", "alice-change-me-0001")
	status, body := sendDemo(t, req)
	if status != 200 {
		t.Fatalf("%s %s = %d %s", method, url, status, body)
	}
	return body
}

func TestRunRefuses(t *testing.T) {
	faulty := writeConfig(t, testConfig("ftp://x", with("users.user.role", "king")))
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"-config", filepath.Join(t.TempDir(), "none.json")}, []string{"no such file"}},
		{[]string{"-config", faulty}, []string{"accounts.main.endpoint_url: ", "users.user.role: "}},
		{[]string{"-config", faulty, "-check"}, []string{"accounts.main.endpoint_url: ", "users.user.role: "}},
		{[]string{"-log-format", "xml", "-demo"}, []string{"-log-format must be short, text, json or auto"}},
		{[]string{"-log-level", "loud", "-demo"}, []string{"-log-level must be"}},
		{[]string{"serve"}, []string{`unexpected argument "serve"`}},
		{[]string{"-nonsense"}, []string{"-nonsense"}},
	} {
		_, wait := runProgram(t, io.Discard, io.Discard, test.args...)
		err := wait()
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("run(%q) = %v, want an error with %q", test.args, err, want)
			}
		}
	}
}

func TestErrorsCannotActOnATerminal(t *testing.T) {
	err := run(t.Context(), []string{"-check", "-config", writeConfig(t, testConfig("http://localhost:1", with("\x1b[2J\u202eboo", 1)))}, io.Discard, io.Discard)
	if err == nil {
		t.Fatal("an unknown field is taken")
	}
	if text := visibleLines(err.Error()); strings.ContainsAny(text, "\x1b\u202e") || !strings.Contains(text, `\x1b[2J\u202eboo`) || !strings.Contains(text, "\n") {
		t.Errorf("the errors are printed as %q, want lines with escapes", text)
	}
}

func TestRunCheckAndVersion(t *testing.T) {
	var out syncBuffer
	path := writeConfig(t, testConfig("http://127.0.0.1:9000"))
	_, wait := runProgram(t, &out, io.Discard, "-config", path, "-check")
	if err := wait(); err != nil || !strings.Contains(out.String(), "1 account, 2 buckets, 4 users") {
		t.Errorf("-check = %v, %q", err, out.String())
	}
	_, wait = runProgram(t, &out, io.Discard, "-version")
	if err := wait(); err != nil || !strings.Contains(out.String(), "s3-proxy ") {
		t.Errorf("-version = %v, %q", err, out.String())
	}
}
