package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
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

// The three commands that -demo prints work when they are pasted.
func TestRunDemoCommandsWork(t *testing.T) {
	out, in := io.Pipe()
	stop, wait := runProgram(t, in, io.Discard, "-demo")
	defer func() { stop(); wait() }()
	var commands []string
	lines := bufio.NewScanner(out)
	for len(commands) < 3 && lines.Scan() {
		if command := strings.TrimSpace(lines.Text()); strings.HasPrefix(command, "curl ") {
			commands = append(commands, command)
		}
	}
	go io.Copy(io.Discard, out)
	if _, err := exec.LookPath("curl"); err != nil {
		runDemoByHand(t, commands)
		return
	}
	var outputs []string
	for _, command := range commands {
		output, err := exec.Command("sh", "-c", command+" -sS --fail-with-body").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, output)
		}
		outputs = append(outputs, string(output))
	}
	if !strings.Contains(outputs[1], "<Key>hello.txt</Key>") {
		t.Errorf("the listing is %s, want hello.txt in it", outputs[1])
	}
	if !strings.HasSuffix(outputs[2], "hello") || !strings.Contains(outputs[2], "200 OK") {
		t.Errorf("the object is %q, want 200 and hello", outputs[2])
	}
}

// runDemoByHand makes the commands' requests where there is no curl.
func runDemoByHand(t *testing.T, commands []string) {
	for _, command := range commands {
		url := regexp.MustCompile(`http://\S+`).FindString(command)
		key := regexp.MustCompile(`x-api-key: ([^']+)`).FindStringSubmatch(command)[1]
		method, body := "GET", ""
		if strings.Contains(command, "-X PUT") {
			method, body = "PUT", "hello"
		}
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-api-key", key)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s = %v, %v, want 200", command, resp, err)
		}
		resp.Body.Close()
	}
}

// With -demo-dir the objects are there again after a restart.
func TestRunDemoDirKeeps(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []string{`Key>hello.txt<`, `Key>hello.txt<`} {
		out, in := io.Pipe()
		stop, wait := runProgram(t, in, io.Discard, "-demo", "-demo-dir", dir)
		lines := bufio.NewScanner(out)
		var url string
		for url == "" && lines.Scan() {
			url = regexp.MustCompile(`http://[0-9.:]+`).FindString(lines.Text())
		}
		go io.Copy(io.Discard, out)
		if i == 0 {
			askDemo(t, "PUT", url+"/photos/hello.txt")
		}
		if got := askDemo(t, "GET", url+"/photos"); !strings.Contains(got, want) {
			t.Errorf("start %d: listing = %s, want %s in it", i+1, got, want)
		}
		stop()
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
}

func askDemo(t *testing.T, method, url string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if method == "PUT" {
		req.Header["Content-Length"] = []string{"0"}
		req.Body = http.NoBody
	}
	req.Header.Set("x-api-key", "alice-change-me-0001")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %s = %d %s, %v", method, url, resp.StatusCode, body, err)
	}
	return string(body)
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

func TestRunCheckAndVersion(t *testing.T) {
	var out syncBuffer
	path := writeConfig(t, testConfig("http://127.0.0.1:9000"))
	_, wait := runProgram(t, &out, io.Discard, "-config", path, "-check")
	if err := wait(); err != nil || !strings.Contains(out.String(), "1 accounts, 2 buckets, 4 users") {
		t.Errorf("-check = %v, %q", err, out.String())
	}
	_, wait = runProgram(t, &out, io.Discard, "-version")
	if err := wait(); err != nil || !strings.Contains(out.String(), "s3-proxy ") {
		t.Errorf("-version = %v, %q", err, out.String())
	}
}
