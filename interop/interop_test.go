//go:build interop

// Interop tests put the built gateway between programs that other people wrote:
// servers that keep objects and check signatures, clients that upload and list.
// The known answers are theirs. Nearly every test asks the server twice, once
// through the gateway and once directly, and compares; or looks into the folder
// where the server keeps its objects.
//
//	interop/install                        once: the programs, fixed versions
//	go test -tags interop -run Interop ./...
//
// The tests know the gateway as its users do, by its program, its configuration file
// and its port.
//
// Linux only: the memory of the gateway is read from /proc.
package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const mib = 1 << 20

// The users of every gateway these tests start, and the one account of every
// backend. None of the keys exists anywhere else.
const (
	aliceKey = "alice-0123456789abcdef" // admin, every bucket
	bobKey   = "bob-0123456789abcdef"   // user, photos only
	eveKey   = "eve-0123456789abcdef"   // readonly, photos only

	accessKey   = "AKIAINTEROP"
	secretKey   = "interop/secret+0123456789"
	wrongSecret = "interop/wrong+0123456789"
	region      = "us-east-1"
)

// hardening is on every answer of the gateway, refusals included.
var hardening = map[string]string{
	"X-Content-Type-Options":    "nosniff",
	"X-Frame-Options":           "DENY",
	"Strict-Transport-Security": "max-age=31536000",
}

// Programs.

// installed returns the path of a file in the folder that interop/install fills.
func installed(name string) string {
	dir := os.Getenv("INTEROP_DIR")
	if dir == "" {
		dir = ".cache"
	}
	return filepath.Join(dir, name)
}

// program returns the path of an installed program. One that is not there is a
// failure: a suite that skips itself proves nothing.
func program(t *testing.T, name string) string {
	t.Helper()
	path := installed(name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run interop/install", err)
	}
	return path
}

// systemProgram returns the path of a program of the machine's own.
func systemProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run interop/install", err)
	}
	return path
}

// environment is what every program here gets: no proxy settings, no
// credentials and no home of whoever runs the tests.
func environment(t *testing.T, more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, more...)
}

// run runs a program to its end and returns its standard output. A program
// that fails fails the test.
func run(t *testing.T, stdin string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, stderr.String())
	}
	return string(out)
}

// A record is what a program has written so far. It may be read while the
// program runs.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// start starts a program that runs until the test ends, and then gets SIGTERM.
// Both its outputs go to the record.
func start(t *testing.T, env []string, name string, args ...string) (*exec.Cmd, *record) {
	t.Helper()
	output := new(record)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = env
	cmd.Stdout = output
	cmd.Stderr = output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second // then it is killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() })
	return cmd, output
}

// await polls until ok, for at most 20 seconds.
func await(t *testing.T, what string, output *record, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s\n%s", what, output)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A backend is a running S3 server with the empty buckets photos and backups.
type backend struct {
	name   string
	addr   string
	dir    string // each bucket is a folder in it, each object a file
	cmd    *exec.Cmd
	output *record
}

// A server is a program that can be a backend. Its title is for people.
type server struct {
	name, title string
	command     func(t *testing.T, addr, dir, notes string) []string
}

// servers are the backends. Each command returns the program and its arguments: to
// listen on addr and to keep objects in dir and its own notes in notes.
var servers = []server{
	{"versitygw", "versitygw", func(t *testing.T, addr, dir, notes string) []string {
		// With --sidecar it needs no extended attributes of the file system.
		return []string{program(t, "bin/versitygw"), "--port", addr, "--region", region,
			"--access", accessKey, "--secret", secretKey, "posix", "--sidecar", notes, dir}
	}},
	{"rclone", "rclone serve s3", func(t *testing.T, addr, dir, notes string) []string {
		return []string{program(t, "bin/rclone"), "serve", "s3", "-vv", "--addr", addr,
			"--auth-key", accessKey + "," + secretKey, dir}
	}},
}

// eachBackend runs a test once against every server.
func eachBackend(t *testing.T, test func(t *testing.T, b *backend)) {
	for i, server := range servers {
		t.Run(server.name, func(t *testing.T) { test(t, startBackend(t, i)) })
	}
}

// startBackend starts one of servers and waits until it listens.
func startBackend(t *testing.T, i int) *backend {
	t.Helper()
	return startServer(t, servers[i])
}

func startServer(t *testing.T, server server) *backend {
	t.Helper()
	b := &backend{name: server.name, addr: freeAddr(t), dir: t.TempDir()}
	for _, bucket := range []string{"photos", "backups"} {
		if err := os.Mkdir(filepath.Join(b.dir, bucket), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	command := server.command(t, b.addr, b.dir, t.TempDir())
	b.cmd, b.output = start(t, environment(t), command[0], command[1:]...)
	await(t, b.name, b.output, func() bool {
		conn, err := net.Dial("tcp", b.addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return b
}

// freeAddr returns a loopback address nobody listened on a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// files returns the objects in a bucket as the server keeps them: the path of
// each file in the bucket's folder, with the SHA-256 of what it holds.
func (b *backend) files(t *testing.T, bucket string) map[string]string {
	t.Helper()
	return digests(t, filepath.Join(b.dir, bucket))
}

func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sums[name] = fileDigest(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return digest(t, f)
}

// digest reads to the end and returns the SHA-256 in hex.
func digest(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// tempFile returns the path of a new file.
func tempFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// sparseFile returns the path of a new file of so many zero bytes, which takes
// no room on the disk.
func sparseFile(t *testing.T, size int64) string {
	t.Helper()
	path := tempFile(t, "")
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// A gateway is a running s3-proxy.
type gateway struct {
	url    string
	pid    int
	output *record
}

// A config is the gateway's configuration file.
type config map[string]any

// config returns a configuration with this backend as the only account.
func (b *backend) config() config {
	return config{
		"server": config{"host": "127.0.0.1", "port": 0},
		"accounts": config{"backend": config{
			"endpoint_url":      "http://" + b.addr,
			"region":            region,
			"access_key_id":     accessKey,
			"secret_access_key": secretKey,
			"buckets":           []string{"photos", "backups"},
		}},
		"users": config{
			"alice": config{"api_key": aliceKey, "role": "admin", "allowed_buckets": []string{"*"}},
			"bob":   config{"api_key": bobKey, "role": "user", "allowed_buckets": []string{"photos"}},
			"eve":   config{"api_key": eveKey, "role": "readonly", "allowed_buckets": []string{"photos"}},
		},
		"rate_limit": config{"requests": 0},
	}
}

// buildGateway builds the program, once in a run, next to the other programs.
var buildGateway = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("go", "build", "-o", installed("bin/s3-proxy"), "s3-proxy").CombinedOutput()
})

// startGateway starts the program with this configuration and waits until it
// listens. When the test ends it must stop cleanly, having logged no secret.
func startGateway(t *testing.T, c config) *gateway {
	t.Helper()
	if output, err := buildGateway(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd, output := start(t, environment(t), program(t, "bin/s3-proxy"),
		"-config", tempFile(t, string(text)), "-log-format", "json", "-log-level", "debug")
	g := &gateway{pid: cmd.Process.Pid, output: output}
	await(t, "the gateway to listen", output, func() bool {
		for _, line := range g.log(t) {
			if line["msg"] == "listening" {
				g.url = fmt.Sprintf("http://%s", line["addr"])
			}
		}
		return g.url != ""
	})
	t.Cleanup(func() {
		cmd.Wait() // it has its SIGTERM: the test's context is done
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("after SIGTERM the gateway exits with %d, want 0\n%s", code, output)
		}
		g.log(t)
		checkNoSecret(t, "the gateway's log", output.String())
	})
	return g
}

// log returns the lines the gateway has finished, each of which must be one
// JSON object.
func (g *gateway) log(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(g.output.String()) {
		if !strings.HasSuffix(text, "\n") {
			break
		}
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("log line %q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// checkNoSecret looks for every key these tests know and for any signature.
func checkNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{aliceKey, bobKey, eveKey, secretKey, wrongSecret, "Signature="} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%s holds %q: …%s", where, secret, text[max(0, i-200):i])
		}
	}
}

// curl.

// An answer is what curl got.
type answer struct {
	status int
	header textproto.MIMEHeader
	body   string
}

// curl sends one request to the gateway. An empty key sends no x-api-key.
// Whatever the answer is, it must carry the hardening headers and an id.
func (g *gateway) curl(t *testing.T, key, path string, args ...string) answer {
	t.Helper()
	if key != "" {
		args = append(args, "--header", "x-api-key: "+key)
	}
	a := curl(t, g.url+path, args...)
	for name, want := range hardening {
		if got := a.header.Get(name); got != want {
			t.Errorf("curl %q %q: %s = %q, want %q", path, args, name, got, want)
		}
	}
	if a.header.Get("x-amz-request-id") == "" {
		t.Errorf("curl %q %q: no x-amz-request-id", path, args)
	}
	return a
}

func curl(t *testing.T, url string, args ...string) answer {
	t.Helper()
	header := tempFile(t, "")
	body := tempFile(t, "")
	args = append([]string{"--disable", "--silent", "--show-error", "--globoff", "--path-as-is",
		"--dump-header", header, "--output", body, "--write-out", "%{http_code}"}, append(args, url)...)
	status, err := strconv.Atoi(run(t, "", environment(t), systemProgram(t, "curl"), args...))
	if err != nil {
		t.Fatal(err)
	}
	return answer{status, lastHeader(t, header), read(t, body)}
}

// lastHeader returns the header of the last answer in a curl header file. A
// "100 Continue" stands before it, as a header of its own.
func lastHeader(t *testing.T, path string) textproto.MIMEHeader {
	t.Helper()
	text := strings.TrimSuffix(read(t, path), "\r\n\r\n")
	text = text[strings.LastIndex("\r\n\r\n"+text, "\r\n\r\n"):]
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(text + "\r\n\r\n")))
	if _, err := r.ReadLine(); err != nil { // HTTP/1.1 200 OK
		t.Fatal(err)
	}
	header, err := r.ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	return header
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantError checks that the answer is the gateway's JSON error document with
// this status and code. An empty code is any code.
func (a answer) wantError(t *testing.T, what string, status int, code string) {
	t.Helper()
	var doc struct {
		Error     string
		Status    int
		Code      string
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Errorf("%s: %d %q: not a JSON error: %v", what, a.status, a.body, err)
		return
	}
	if code == "" {
		code = doc.Code
	}
	if a.status != status || doc.Status != status || doc.Code != code || doc.Code == "" || doc.Error == "" {
		t.Errorf("%s = %d %s, want %d %s", what, a.status, a.body, status, code)
	}
	if id := a.header.Get("x-amz-request-id"); doc.RequestID != id {
		t.Errorf("%s: request_id = %q, x-amz-request-id = %q", what, doc.RequestID, id)
	}
}

// boto3.

// A boto is a running interop/s3calls.py.
type boto struct {
	in  *json.Encoder
	out *json.Decoder
}

// A reply is the answer to one boto3 call.
type reply struct {
	Status int
	Code   string            // of S3, when the call failed
	Header map[string]string // names in lower case
	Result struct {
		Body    []byte
		Buckets []struct{ Name string }

		Metadata map[string]string
		TagSet   []struct{ Key, Value string }
		UploadID string
		URL      string
		listing
	}
	Pages []listing
}

// A listing is one page of objects, from boto3's JSON or from S3's XML.
type listing struct {
	XMLName        xml.Name `xml:"ListBucketResult" json:"-"`
	IsTruncated    bool
	Contents       []object
	CommonPrefixes []struct{ Prefix string }
	Versions       []object                         `xml:"-"`
	Uploads        []struct{ Key, UploadID string } `xml:"-"`
}

type object struct {
	Key          string
	ETag         string
	Size         int64
	LastModified time.Time
	StorageClass string
}

type arguments map[string]any

// boto3 starts a boto3 program that talks to the gateway with this key. Its
// own credentials are made up, and of no account.
func (g *gateway) boto3(t *testing.T, key string) *boto {
	return startBoto3(t, g.url, "AKIANOBODY", "nobody/secret", "X_API_KEY="+key)
}

// boto3 starts a boto3 program that talks to the backend directly.
func (b *backend) boto3(t *testing.T) *boto {
	return startBoto3(t, "http://"+b.addr, accessKey, secretKey)
}

func startBoto3(t *testing.T, endpoint, id, secret string, more ...string) *boto {
	t.Helper()
	cmd := exec.Command(program(t, "venv/bin/python"), "s3calls.py")
	cmd.Env = environment(t, append(more, "S3_ENDPOINT="+endpoint, "AWS_DEFAULT_REGION="+region,
		"AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret)...)
	in, out := converse(t, cmd)
	return &boto{in, out}
}

// converse starts a program that answers each value of JSON with another, until the test ends.
func converse(t *testing.T, cmd *exec.Cmd) (in *json.Encoder, out *json.Decoder) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", cmd.Args[1], err, stderr.String())
		}
	})
	return json.NewEncoder(stdin), json.NewDecoder(stdout)
}

// call makes one call and returns its answer, also when S3 refused it.
func (b *boto) call(t *testing.T, name string, a arguments) reply {
	t.Helper()
	return b.send(t, map[string]any{"call": name, "arguments": a})
}

// pages runs the paginator of a listing call.
func (b *boto) pages(t *testing.T, name string, a arguments) []listing {
	t.Helper()
	return b.send(t, map[string]any{"call": name, "arguments": a, "pages": true}).Pages
}

func (b *boto) send(t *testing.T, call any) reply {
	t.Helper()
	if err := b.in.Encode(call); err != nil {
		t.Fatalf("%v: %v", call, err)
	}
	var r reply
	if err := b.out.Decode(&r); err != nil {
		t.Fatalf("%v: %v", call, err)
	}
	return r
}

// The tests.

// One object, with curl: every read is also made with boto3 at the server
// itself, which says what status, headers and bytes are right.
func TestInteropCurl(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		g := startGateway(t, b.config())
		direct := b.boto3(t)

		const content = "0123456789"
		etag := fmt.Sprintf(`"%x"`, md5.Sum([]byte(content)))
		sent := map[string]string{
			"content-type":        "text/plain; charset=utf-8",
			"cache-control":       "max-age=60",
			"content-disposition": `attachment; filename="digits.txt"`,
			"x-amz-meta-colour":   "blue",
		}
		args := []string{"--upload-file", tempFile(t, content)}
		for name, value := range sent {
			args = append(args, "--header", name+": "+value)
		}
		put := g.curl(t, aliceKey, "/photos/digits.txt", args...)
		if put.status != 200 || put.header.Get("ETag") != etag {
			t.Fatalf("PUT = %d, ETag %s, want 200, %s\n%s", put.status, put.header.Get("ETag"), etag, put.body)
		}
		stored := direct.call(t, "head_object", arguments{"Bucket": "photos", "Key": "digits.txt"}).Header
		for name, want := range sent {
			if stored[name] != want {
				t.Errorf("the server has %s = %q, want %q", name, stored[name], want)
			}
		}
		if empty := g.curl(t, aliceKey, "/photos/empty", "--upload-file", tempFile(t, "")); empty.status != 200 {
			t.Errorf("PUT of no bytes = %d, want 200\n%s", empty.status, empty.body)
		}

		reads := []struct {
			name   string
			key    string
			curl   []string
			call   string
			boto3  arguments
			status int
		}{
			{"get", "digits.txt", nil, "get_object", nil, 200},
			{"get empty", "empty", nil, "get_object", nil, 200},
			{"head", "digits.txt", []string{"--head"}, "head_object", nil, 200},
			{"range", "digits.txt", []string{"--range", "2-5"}, "get_object", arguments{"Range": "bytes=2-5"}, 206},
			{"range open", "digits.txt", []string{"--range", "7-"}, "get_object", arguments{"Range": "bytes=7-"}, 206},
			{"range suffix", "digits.txt", []string{"--range", "-3"}, "get_object", arguments{"Range": "bytes=-3"}, 206},
			{"range too far", "digits.txt", []string{"--range", "10-20"}, "get_object", arguments{"Range": "bytes=10-20"}, 416},
			{"if none match", "digits.txt", []string{"--header", "If-None-Match: " + etag}, "get_object", arguments{"IfNoneMatch": etag}, 304},
			{"if match", "digits.txt", []string{"--header", `If-Match: "00"`}, "get_object", arguments{"IfMatch": `"00"`}, 412},
			{"get missing", "nowhere", nil, "get_object", nil, 404},
			{"head missing", "nowhere", []string{"--head"}, "head_object", nil, 404},
		}
		for _, read := range reads {
			t.Run(read.name, func(t *testing.T) {
				got := g.curl(t, aliceKey, "/photos/"+read.key, read.curl...)
				args := arguments{"Bucket": "photos", "Key": read.key}
				maps.Copy(args, read.boto3)
				want := direct.call(t, read.call, args)
				if got.status != read.status || want.Status != read.status {
					t.Fatalf("status = %d, directly %d, want %d\n%s", got.status, want.Status, read.status, got.body)
				}
				switch {
				case read.call == "head_object" || got.status == 304:
					// No body. What curl --head puts there is the header.
				case got.status >= 400:
					got.wantError(t, read.name, read.status, want.Code)
				case got.body != string(want.Result.Body):
					t.Errorf("body = %q, want %q", got.body, want.Result.Body)
				}
				if got.status >= 300 {
					return
				}
				for _, name := range []string{
					"Content-Type", "Content-Length", "Content-Range", "Content-Disposition", "Cache-Control",
					"ETag", "Last-Modified", "Accept-Ranges", "X-Amz-Meta-Colour", "X-Amz-Storage-Class",
				} {
					if got, want := got.header.Get(name), want.Header[strings.ToLower(name)]; got != want {
						t.Errorf("%s = %q, want %q", name, got, want)
					}
				}
			})
		}

		// Writes the server refuses. It must be asked, must refuse with its own
		// code, and the object must stay as it was.
		writes := []struct {
			header string
			boto3  arguments
			status int
		}{
			{"If-None-Match: *", arguments{"IfNoneMatch": "*"}, 412},
			{`If-Match: "00"`, arguments{"IfMatch": `"00"`}, 412},
			{"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==", arguments{"ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, 400},
		}
		for _, write := range writes {
			got := g.curl(t, aliceKey, "/photos/digits.txt", "--upload-file", tempFile(t, "other"), "--header", write.header)
			args := arguments{"Bucket": "photos", "Key": "digits.txt", "Body": []byte("other")}
			maps.Copy(args, write.boto3)
			want := direct.call(t, "put_object", args)
			if want.Status != write.status {
				t.Errorf("PUT with %s directly = %d %s, want %d", write.header, want.Status, want.Code, write.status)
			}
			got.wantError(t, "PUT with "+write.header, want.Status, want.Code)
			if now := read(t, filepath.Join(b.dir, "photos", "digits.txt")); now != content {
				t.Errorf("after a refused PUT with %s the object is %q, want %q", write.header, now, content)
			}
		}

		// The client's own digest of the body is signed in place of none, so a
		// body that does not match it is refused.
		a := g.curl(t, aliceKey, "/photos/digest", "--upload-file", tempFile(t, "other"),
			"--header", "x-amz-content-sha256: "+hex.EncodeToString(make([]byte, sha256.Size)))
		if a.status != 400 {
			t.Errorf("PUT with the digest of other bytes = %d, want 400\n%s", a.status, a.body)
		}

		if a := g.curl(t, aliceKey, "/photos", "--head"); a.status != 200 {
			t.Errorf("HEAD /photos = %d, want 200", a.status)
		}
		list := g.list(t, aliceKey, "/photos")
		want := direct.call(t, "list_objects_v2", arguments{"Bucket": "photos"}).Result.Contents
		if !slices.Equal(list.Contents, want) {
			t.Errorf("GET /photos = %+v, want %+v", list.Contents, want)
		}
		for range 2 { // S3 deletes what is not there with the same answer
			if a := g.curl(t, aliceKey, "/photos/digits.txt", "--request", "DELETE"); a.status != 204 {
				t.Errorf("DELETE = %d, want 204\n%s", a.status, a.body)
			}
		}
		if got := slices.Collect(maps.Keys(b.files(t, "photos"))); !slices.Equal(got, []string{"empty"}) {
			t.Errorf("after DELETE the server has %q, want only empty", got)
		}
		g.wantAccessLine(t, map[string]any{"user": "alice", "operation": "GetObject", "bucket": "photos",
			"key": "digits.txt", "status": 206.0, "bytes_out": 4.0, "upstream_status": 206.0})
	})
}

// wantAccessLine checks that the access log has a line with these fields, and
// that it has an id and a time taken.
func (g *gateway) wantAccessLine(t *testing.T, want map[string]any) {
	t.Helper()
	holds := func(line map[string]any) bool {
		for name, value := range want {
			if line[name] != value {
				return false
			}
		}
		return line["msg"] == "request" && line["request_id"] != nil && line["duration_ms"] != nil
	}
	if !slices.ContainsFunc(g.logSoFar(t), holds) {
		t.Errorf("no access line with %v in\n%s", want, g.output)
	}
}

// logSoFar is the log, with the lines of all requests that were answered before:
// the gateway writes them a little later, but in their order, so that of one more
// request is waited for.
func (g *gateway) logSoFar(t *testing.T) (lines []map[string]any) {
	t.Helper()
	id := g.curl(t, "nobody-has-this-key", "/").header.Get("X-Amz-Request-Id")
	await(t, "the line of the request "+id, g.output, func() bool {
		lines = g.log(t)
		return slices.ContainsFunc(lines, func(line map[string]any) bool { return line["request_id"] == id })
	})
	return lines
}

// list fetches a whole listing with curl.
func (g *gateway) list(t *testing.T, key, path string) listing {
	t.Helper()
	a := g.curl(t, key, path)
	var l listing
	if err := xml.Unmarshal([]byte(a.body), &l); err != nil || a.status != 200 {
		t.Fatalf("GET %s = %d, %v\n%s", path, a.status, err, a.body)
	}
	return l
}

// Keys that signers, parsers and URL libraries get wrong. The signature covers
// the path as the gateway spells it, so a server that checks signatures finds
// every difference in spelling.
func TestInteropKeys(t *testing.T) {
	var keys []string
	for _, c := range []string{" ", "+", "=", "&", "%", "ü", "日本", "'", "(", ")", "~", "!", "*", "@", ":", ",", ";"} {
		keys = append(keys, "a"+c+"z")
	}
	// All of them; and what decoding once too often would turn into another key.
	keys = append(keys, "all +=&%ü日本'()~!*@:,;.txt", "a%20z", "a%2Fz", "a%2Bz")

	eachBackend(t, func(t *testing.T, b *backend) {
		g := startGateway(t, b.config())
		direct := b.boto3(t)
		client := g.boto3(t, aliceKey)

		for _, key := range keys {
			if a := g.curl(t, aliceKey, "/photos/"+escapeAll(key), "--upload-file", tempFile(t, key)); a.status != 200 {
				t.Errorf("PUT %q = %d\n%s", key, a.status, a.body)
				continue
			}
			if a := g.curl(t, aliceKey, "/photos/"+escapeLittle(key), "--head"); a.status != 200 || a.header.Get("Content-Length") != strconv.Itoa(len(key)) {
				t.Errorf("HEAD %q = %d, length %s", key, a.status, a.header.Get("Content-Length"))
			}
			if a := g.curl(t, aliceKey, "/photos/"+escapeLittle(key)); a.status != 200 || a.body != key {
				t.Errorf("GET %q = %d %q", key, a.status, a.body)
			}
			args := arguments{"Bucket": "photos", "Key": key}
			if r := client.call(t, "get_object", args); string(r.Result.Body) != key {
				t.Errorf("boto3 get_object(%q) = %d %s %q", key, r.Status, r.Code, r.Result.Body)
			}
			if r := direct.call(t, "get_object", args); string(r.Result.Body) != key {
				t.Errorf("directly, get_object(%q) = %d %s %q", key, r.Status, r.Code, r.Result.Body)
			}
		}

		slices.Sort(keys)
		if got := slices.Sorted(maps.Keys(b.files(t, "photos"))); !slices.Equal(got, keys) {
			t.Errorf("the server has %q, want %q", got, keys)
		}
		if got := keysOf(g.list(t, aliceKey, "/photos")); !slices.Equal(got, keys) {
			t.Errorf("GET /photos = %q, want %q", got, keys)
		}
		// One key a page: every key is also a marker or in a token.
		for _, call := range []string{"list_objects", "list_objects_v2"} {
			pages := client.pages(t, call, arguments{"Bucket": "photos", "PaginationConfig": arguments{"PageSize": 1}})
			if got := keysOf(pages...); !slices.Equal(got, keys) {
				t.Errorf("%s, one key a page = %q, want %q", call, got, keys)
			}
		}

		for _, key := range keys {
			if a := g.curl(t, aliceKey, "/photos/"+escapeLittle(key), "--request", "DELETE"); a.status != 204 {
				t.Errorf("DELETE %q = %d\n%s", key, a.status, a.body)
			}
		}
		if left := b.files(t, "photos"); len(left) > 0 {
			t.Errorf("after DELETE of all the server has %q", left)
		}
	})
}

// escapeAll spells a key with every byte percent-encoded that may be.
func escapeAll(key string) string {
	var s strings.Builder
	for _, c := range []byte(key) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			s.WriteByte(c)
		} else {
			fmt.Fprintf(&s, "%%%02X", c)
		}
	}
	return s.String()
}

// escapeLittle spells a key with only those bytes percent-encoded that must be,
// and in lower case.
func escapeLittle(key string) string {
	var s strings.Builder
	for _, c := range []byte(key) {
		if c == ' ' || c == '%' || c >= 0x80 {
			fmt.Fprintf(&s, "%%%02x", c)
		} else {
			s.WriteByte(c)
		}
	}
	return s.String()
}

func keysOf(pages ...listing) []string {
	var keys []string
	for _, page := range pages {
		for _, object := range page.Contents {
			keys = append(keys, object.Key)
		}
	}
	return keys
}

// A bucket of 2,500 objects, which is three pages of S3's largest size: whole,
// and in pages of every kind a client can ask for.
func TestInteropListing(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		c := b.config()
		c["nested_keys"] = true
		g := startGateway(t, c)

		var keys []string
		for i := range 2500 {
			keys = append(keys, fmt.Sprintf("dir %d/key & %04d ü", i%5, i))
		}
		// One in each folder first: rclone answers 500 now and then when two
		// uploads make the same folder.
		g.upload(t, keys[:5], 1)
		g.upload(t, keys[5:], 8)

		direct := b.boto3(t)
		client := g.boto3(t, aliceKey)
		whole := listing{}
		for _, page := range direct.pages(t, "list_objects_v2", arguments{"Bucket": "photos"}) {
			whole.Contents = append(whole.Contents, page.Contents...)
		}
		if len(whole.Contents) != 2500 {
			t.Fatalf("directly, %d objects are listed, want 2500", len(whole.Contents))
		}
		got := g.list(t, aliceKey, "/photos")
		if got.IsTruncated || !slices.Equal(got.Contents, whole.Contents) {
			t.Errorf("GET /photos: %d objects, IsTruncated %t, not the same as directly:\n%s",
				len(got.Contents), got.IsTruncated, firstDifference(got.Contents, whole.Contents))
		}

		for _, call := range []string{"list_objects", "list_objects_v2"} {
			for _, args := range []arguments{
				{"PaginationConfig": arguments{"PageSize": 1000}},
				{"PaginationConfig": arguments{"PageSize": 333}},
				{"PaginationConfig": arguments{"PageSize": 2}, "Delimiter": "/"},
				{"PaginationConfig": arguments{"PageSize": 100}, "Prefix": "dir 3/key &"},
			} {
				args["Bucket"] = "photos"
				got, want := client.pages(t, call, args), direct.pages(t, call, args)
				if len(got) != len(want) {
					t.Errorf("%s(%v) = %d pages, want %d", call, args, len(got), len(want))
					continue
				}
				for i := range got {
					if got[i].IsTruncated != want[i].IsTruncated || !slices.Equal(got[i].CommonPrefixes, want[i].CommonPrefixes) {
						t.Errorf("%s(%v), page %d: IsTruncated %t, CommonPrefixes %q, want %t, %q", call, args, i,
							got[i].IsTruncated, got[i].CommonPrefixes, want[i].IsTruncated, want[i].CommonPrefixes)
					}
					if !slices.Equal(got[i].Contents, want[i].Contents) {
						t.Errorf("%s(%v), page %d: not the same as directly:\n%s", call, args, i,
							firstDifference(got[i].Contents, want[i].Contents))
					}
				}
			}
		}
		args := arguments{"Bucket": "photos", "StartAfter": "dir 2/key & 1007 ü", "MaxKeys": 3}
		if got, want := client.call(t, "list_objects_v2", args).Result.Contents, direct.call(t, "list_objects_v2", args).Result.Contents; len(want) != 3 || !slices.Equal(got, want) {
			t.Errorf("list_objects_v2(%v) = %v, want %v", args, got, want)
		}
	})
}

// upload has curl upload an object of one byte for each key, so many at a time.
func (g *gateway) upload(t *testing.T, keys []string, parallel int) {
	t.Helper()
	var transfers strings.Builder
	file := tempFile(t, "x")
	for _, key := range keys {
		path := strings.ReplaceAll(escapeAll(key), "%2F", "/")
		fmt.Fprintf(&transfers, "url = \"%s/photos/%s\"\nupload-file = %q\noutput = \"/dev/null\"\n", g.url, path, file)
	}
	statuses := run(t, transfers.String(), environment(t), systemProgram(t, "curl"), "--disable", "--silent", "--show-error",
		"--parallel", "--parallel-max", strconv.Itoa(parallel),
		"--header", "x-api-key: "+aliceKey, "--write-out", "%{http_code}\n", "--config", "-")
	if n := strings.Count(statuses, "200\n"); n != len(keys) {
		t.Fatalf("%d of %d uploads had status 200", n, len(keys))
	}
}

func firstDifference(got, want []object) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("object %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d objects, want %d", len(got), len(want))
}

// rclone as a client: a tree of files up, compared and down again. Its own
// digests and ours must agree.
func TestInteropRclone(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		c := b.config()
		c["nested_keys"] = true
		g := startGateway(t, c)

		source := t.TempDir()
		for name, size := range map[string]int64{
			"empty":                   0,
			"one":                     1,
			"a/b/c/deep.bin":          70_000,
			"a/b/sister.bin":          3,
			"odd/all +=&%ü日本'()~!@,;": 100,
			"large.bin":               20 * mib,
		} {
			path := filepath.Join(source, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, noise(t, size), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want := digests(t, source)

		rclone := func(args ...string) string {
			t.Helper()
			// One attempt, so that no fault hides behind a second one. One
			// transfer, because rclone as a server answers 500 now and then when
			// two uploads make the same folder.
			return run(t, "", environment(t,
				"RCLONE_CONFIG_GW_TYPE=s3", "RCLONE_CONFIG_GW_PROVIDER=Other", "RCLONE_CONFIG_GW_ENDPOINT="+g.url,
				"RCLONE_CONFIG_GW_ACCESS_KEY_ID=AKIANOBODY", "RCLONE_CONFIG_GW_SECRET_ACCESS_KEY=nobody/secret"),
				program(t, "bin/rclone"), append(args, "--header", "x-api-key: "+aliceKey, "--transfers", "1", "--retries", "1", "--low-level-retries", "1")...)
		}
		if got, want := rclone("lsf", "gw:"), "backups/\nphotos/\n"; got != want {
			t.Errorf("rclone lsf = %q, want %q", got, want)
		}
		rclone("copy", source, "gw:photos")
		if got := b.files(t, "photos"); !maps.Equal(got, want) {
			t.Errorf("after rclone copy the server has %v, want %v", got, want)
		}
		rclone("check", source, "gw:photos")
		rclone("check", "--download", source, "gw:photos")
		down := t.TempDir()
		rclone("copy", "gw:photos", down)
		if got := digests(t, down); !maps.Equal(got, want) {
			t.Errorf("rclone copy brings back %v, want %v", got, want)
		}
		if got, want := rclone("cat", "gw:photos/large.bin", "--offset", "12345", "--count", "10"), string(noise(t, 20*mib)[12345:12355]); got != want {
			t.Errorf("rclone cat of a range = %q, want %q", got, want)
		}
		// Times are kept as metadata, so a second copy has nothing to do.
		before := len(g.logSoFar(t))
		rclone("copy", source, "gw:photos")
		for _, line := range g.logSoFar(t)[before:] {
			if line["operation"] == "PutObject" {
				t.Errorf("a second rclone copy uploads %v again", line["key"])
			}
		}
		rclone("delete", "gw:photos")
		if left := b.files(t, "photos"); len(left) > 0 {
			t.Errorf("after rclone delete the server has %v", left)
		}
	})
}

// noise returns bytes that look random and are the same in every run.
func noise(t *testing.T, size int64) []byte {
	t.Helper()
	b, err := io.ReadAll(noiseReader(size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func noiseReader(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

// boto3 as a client, with its own transfer manager: a download of more than
// 8 MiB is several ranges at once.
func TestInteropBoto3(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		g := startGateway(t, b.config())
		client := g.boto3(t, bobKey)
		direct := b.boto3(t)

		small := string(noise(t, 5*mib))
		large := noise(t, 20*mib)
		r := client.call(t, "upload_file", arguments{"Filename": tempFile(t, small), "Bucket": "photos", "Key": "small",
			"ExtraArgs": arguments{"ContentType": "image/x-noise", "Metadata": arguments{"colour": "blue"}}})
		if r.Status != 200 {
			t.Fatalf("upload_file = %d %s", r.Status, r.Code)
		}
		if r := client.call(t, "put_object", arguments{"Bucket": "photos", "Key": "large", "Body": large}); r.Status != 200 {
			t.Fatalf("put_object = %d %s", r.Status, r.Code)
		}

		for key, want := range map[string]string{"small": small, "large": string(large)} {
			path := tempFile(t, "")
			if r := client.call(t, "download_file", arguments{"Bucket": "photos", "Key": key, "Filename": path}); r.Status != 200 {
				t.Errorf("download_file(%s) = %d %s", key, r.Status, r.Code)
			}
			if read(t, path) != want {
				t.Errorf("download_file(%s) brings back other bytes", key)
			}
			r := client.call(t, "get_object", arguments{"Bucket": "photos", "Key": key, "Range": "bytes=1000000-1000009"})
			if r.Status != 206 || string(r.Result.Body) != want[1000000:1000010] {
				t.Errorf("get_object(%s, Range) = %d %q, want 206 %q", key, r.Status, r.Result.Body, want[1000000:1000010])
			}

			got := client.call(t, "head_object", arguments{"Bucket": "photos", "Key": key})
			direct := direct.call(t, "head_object", arguments{"Bucket": "photos", "Key": key})
			for _, name := range []string{"content-type", "content-length", "etag", "last-modified", "x-amz-meta-colour"} {
				if got.Header[name] != direct.Header[name] {
					t.Errorf("head_object(%s): %s = %q, want %q", key, name, got.Header[name], direct.Header[name])
				}
			}
		}

		got := client.call(t, "list_objects_v2", arguments{"Bucket": "photos"}).Result.Contents
		want := direct.call(t, "list_objects_v2", arguments{"Bucket": "photos"}).Result.Contents
		if len(want) != 2 || !slices.Equal(got, want) {
			t.Errorf("list_objects_v2 = %+v, want %+v", got, want)
		}
		for _, key := range []string{"small", "large"} {
			if r := client.call(t, "delete_object", arguments{"Bucket": "photos", "Key": key}); r.Status != 204 {
				t.Errorf("delete_object(%s) = %d %s, want 204", key, r.Status, r.Code)
			}
		}
		if left := b.files(t, "photos"); len(left) > 0 {
			t.Errorf("after delete_object the server has %v", left)
		}
		if got := client.call(t, "list_buckets", nil).Result.Buckets; len(got) != 1 || got[0].Name != "photos" {
			t.Errorf("list_buckets = %v, want only the one this user may use", got)
		}
		missing := arguments{"Bucket": "photos", "Key": "small"}
		if got, want := client.call(t, "head_object", missing), direct.call(t, "head_object", missing); got.Status != 404 || got.Code != want.Code {
			t.Errorf("head_object of nothing = %d %s, want 404 %s", got.Status, got.Code, want.Code)
		}
		if got := client.call(t, "get_object", missing); got.Status != 404 {
			t.Errorf("get_object of nothing = %d %s, want 404", got.Status, got.Code)
		}
	})
}

// 1 GiB up and down again, in memory that does not grow with it.
func TestInteropLargeObject(t *testing.T) {
	const size = 1 << 30
	const allowed = 64 * mib

	eachBackend(t, func(t *testing.T, b *backend) {
		c := b.config()
		c["max_file_size"] = size
		g := startGateway(t, c)
		idle := g.memory(t, "VmRSS")

		// The bytes are made as they are sent: no curl can send a stream of
		// known length.
		sent := sha256.New()
		req, err := http.NewRequest("PUT", g.url+"/photos/gibibyte", io.TeeReader(noiseReader(size), sent))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		req.Header.Set("x-api-key", aliceKey)
		begin := time.Now()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("PUT = %s\n%s", resp.Status, body)
		}
		up, upPeak := time.Since(begin), g.memory(t, "VmHWM")
		want := hex.EncodeToString(sent.Sum(nil))
		if got := fileDigest(t, filepath.Join(b.dir, "photos", "gibibyte")); got != want {
			t.Errorf("the server has an object with SHA-256 %s, want %s", got, want)
		}

		begin = time.Now()
		download, stdout := startCurl(t, g.url+"/photos/gibibyte", "--header", "x-api-key: "+aliceKey)
		if got := digest(t, stdout); got != want {
			t.Errorf("GET brings back SHA-256 %s, want %s", got, want)
		}
		if err := download.Wait(); err != nil {
			t.Errorf("curl GET: %v", err)
		}
		down, peak := time.Since(begin), g.memory(t, "VmHWM")

		// The peak is that of the whole life of the process, so also of both
		// transfers.
		t.Logf("1 GiB through the gateway to %s: up %.1f s, down %.1f s; resident memory idle %.1f MiB, peak after up %.1f MiB, after down %.1f MiB",
			b.name, up.Seconds(), down.Seconds(), inMiB(idle), inMiB(upPeak), inMiB(peak))
		if peak > idle+allowed {
			t.Errorf("peak of resident memory is %.1f MiB above idle, want at most %d", inMiB(peak-idle), allowed/mib)
		}
	})
}

// startCurl starts one transfer and returns what curl writes of the body.
func startCurl(t *testing.T, url string, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), systemProgram(t, "curl"),
		append([]string{"--disable", "--silent", "--show-error", "--fail"}, append(args, url)...)...)
	cmd.Env = environment(t)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdout
}

// memory returns a field of the gateway's /proc/PID/status in bytes: VmRSS is
// what is resident now, VmHWM the most that ever was.
func (g *gateway) memory(t *testing.T, field string) int64 {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", g.pid))) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s in /proc/%d/status", field, g.pid)
	return 0
}

func inMiB(bytes int64) float64 { return float64(bytes) / mib }

// A transfer that is cut is never taken for whole: not by the server, when the
// client leaves, and not by the client, when the server does.
//
// This release of versitygw keeps what it has got of an unsigned body whose
// connection ends in order (FIN), and drops it only when the connection is reset,
// which is why the gateway resets it:
// https://github.com/versity/versitygw/issues/2414
func TestInteropCutTransfers(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		g := startGateway(t, b.config())
		large := string(noise(t, 64*mib))
		for key, content := range map[string]string{"old": "old", "large": large} {
			if a := g.curl(t, aliceKey, "/photos/"+key, "--upload-file", tempFile(t, content)); a.status != 200 {
				t.Fatalf("PUT %s = %d\n%s", key, a.status, a.body)
			}
		}
		before := b.files(t, "photos")

		for _, key := range []string{"old", "new"} {
			// curl leaves after a second, with an eighth of it sent.
			upload, stdout := startCurl(t, g.url+"/photos/"+key, "--header", "x-api-key: "+aliceKey,
				"--upload-file", tempFile(t, large), "--limit-rate", "8M", "--max-time", "1")
			digest(t, stdout)
			if err := upload.Wait(); err == nil {
				t.Fatalf("curl sent all of %s in a second, want a cut", key)
			}
			await(t, "an access line of the cut PUT", g.output, func() bool {
				return slices.ContainsFunc(g.log(t), func(line map[string]any) bool {
					sent, ok := line["bytes_in"].(float64)
					return ok && line["key"] == key && line["status"] != 200.0 && 0 < sent && sent < float64(len(large))
				})
			})
			await(t, "the server to drop the cut PUT", b.output, func() bool { return maps.Equal(b.files(t, "photos"), before) })
		}

		// curl writes into a pipe, so that it is in the middle of the object for
		// as long as nobody reads on.
		download, stdout := startCurl(t, g.url+"/photos/large", "--header", "x-api-key: "+aliceKey)
		if _, err := io.CopyN(io.Discard, stdout, mib); err != nil {
			t.Fatal(err)
		}
		b.cmd.Process.Kill()
		digest(t, stdout)
		if err := download.Wait(); err == nil {
			t.Errorf("curl takes a download for whole whose server was killed in the middle")
		}
	})
}

// What the gateway refuses, it refuses alone: the server keeps nothing, and
// where it writes down its requests, it never heard of it.
func TestInteropRefusals(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		g := startGateway(t, b.config()) // 100 MiB, the default
		if r := b.boto3(t).call(t, "put_object", arguments{"Bucket": "photos", "Key": "kept", "Body": []byte("kept")}); r.Status != 200 {
			t.Fatalf("put_object = %d %s", r.Status, r.Code)
		}
		before := b.files(t, ".")

		upload := func(size int64) []string { return []string{"--upload-file", sparseFile(t, size)} }
		refusals := []struct {
			name   string
			key    string
			path   string
			curl   []string
			status int
			text   string // in the error
		}{
			{"no key", "", "/photos/refused", nil, 401, "No API key provided"},
			{"unknown key", "nobody-0123456789abcdef", "/photos/refused", nil, 401, "Invalid API key"},
			{"unknown key PUT", "nobody-0123456789abcdef", "/photos/refused", upload(10), 401, "Invalid API key"},
			{"nested key", aliceKey, "/photos/refused/b", nil, 400, "nested_keys"},
			{"nested key PUT", aliceKey, "/photos/refused/b", upload(10), 400, "nested_keys"},
			{"nested key encoded", aliceKey, "/photos/refused%2Fb", nil, 400, "nested_keys"},
			{"readonly PUT", eveKey, "/photos/refused", upload(10), 403, ""},
			{"readonly DELETE", eveKey, "/photos/kept", []string{"--request", "DELETE"}, 403, ""},
			{"bucket of others", bobKey, "/backups/refused", nil, 403, ""},
			{"bucket of others PUT", bobKey, "/backups/refused", upload(10), 403, ""},
			{"no such bucket", bobKey, "/refused/refused", nil, 403, ""},
			{"no such bucket, every bucket allowed", aliceKey, "/refused/refused", nil, 404, ""},
			{"no length", aliceKey, "/photos/refused", append(upload(10), "--header", "Transfer-Encoding: chunked"), 411, ""},
			// From 1 MiB on, curl asks before it sends: "Expect: 100-continue".
			{"too large", aliceKey, "/photos/refused", upload(200 * mib), 413, ""},
			{"too large, sent unasked", aliceKey, "/photos/refused", append(upload(200*mib), "--header", "Expect:"), 413, ""},
			{"too large by one", aliceKey, "/photos/refused", upload(100*mib + 1), 413, ""},
		}
		for _, r := range refusals {
			a := g.curl(t, r.key, r.path, r.curl...)
			a.wantError(t, r.name, r.status, "")
			if !strings.Contains(a.body, r.text) {
				t.Errorf("%s: error is %s, want %q in it", r.name, a.body, r.text)
			}
		}
		if after := b.files(t, "."); !maps.Equal(after, before) {
			t.Errorf("after the refusals the server has %v, want %v", after, before)
		}
		if output := b.output.String(); strings.Contains(output, "refused") {
			t.Errorf("the server heard of a refused request:\n%s", output)
		}

		// The nearest requests that are allowed are not refused.
		if a := g.curl(t, eveKey, "/photos/kept"); a.status != 200 || a.body != "kept" {
			t.Errorf("readonly GET = %d %q, want 200", a.status, a.body)
		}
		if a := g.curl(t, bobKey, "/photos/allowed", upload(100*mib)...); a.status != 200 {
			t.Errorf("PUT of exactly the limit = %d, want 200\n%s", a.status, a.body)
		}
		if output := b.output.String(); !strings.Contains(output, "allowed") {
			t.Errorf("the server does not write down its requests, so it proves nothing about the refused ones:\n%s", output)
		}
	})
}

// The default limit is 100 requests in a minute, for each user.
func TestInteropRateLimit(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		c := b.config()
		delete(c, "rate_limit")
		g := startGateway(t, c)
		if r := b.boto3(t).call(t, "put_object", arguments{"Bucket": "photos", "Key": "k", "Body": []byte("x")}); r.Status != 200 {
			t.Fatalf("put_object = %d %s", r.Status, r.Code)
		}

		gets := strings.Repeat(fmt.Sprintf("url = \"%s/photos/k\"\noutput = \"/dev/null\"\n", g.url), 101)
		got := run(t, gets, environment(t), systemProgram(t, "curl"), "--disable", "--silent", "--show-error",
			"--header", "x-api-key: "+bobKey, "--write-out", "%{http_code}\n", "--config", "-")
		if want := strings.Repeat("200\n", 100) + "429\n"; got != want {
			t.Errorf("101 requests = %q, want 100 times 200 and then 429", strings.Fields(got))
		}

		a := g.curl(t, bobKey, "/photos/k")
		a.wantError(t, "one request more", 429, "")
		if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
			t.Errorf("Retry-After = %q, want 1 to 60", a.header.Get("Retry-After"))
		}
		if limit, left := a.header.Get("X-RateLimit-Limit"), a.header.Get("X-RateLimit-Remaining"); limit != "100" || left != "0" {
			t.Errorf("X-RateLimit-Limit, -Remaining = %s, %s, want 100, 0", limit, left)
		}
		if a := g.curl(t, aliceKey, "/photos/k"); a.status != 200 || a.header.Get("X-RateLimit-Remaining") != "99" {
			t.Errorf("GET of another user = %d, %s left, want 200, 99", a.status, a.header.Get("X-RateLimit-Remaining"))
		}
	})
}

// With a wrong secret in its configuration the gateway is refused by the
// server. That is no fault of the client, which learns nothing of the account;
// and it shows that these servers do check what the gateway signs.
func TestInteropWrongSecret(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		if a := curl(t, "http://"+b.addr+"/photos/k"); a.status != 403 {
			t.Errorf("directly, an unsigned GET = %d, want 403", a.status)
		}
		c := b.config()
		c["accounts"].(config)["backend"].(config)["secret_access_key"] = wrongSecret
		g := startGateway(t, c)

		for _, r := range []struct {
			path   string
			args   []string
			status int
		}{
			{"/photos/k", nil, 502},
			{"/photos/k", []string{"--upload-file", tempFile(t, "x")}, 502},
			{"/photos/k", []string{"--request", "DELETE"}, 502},
			{"/photos", nil, 502},
			{"/photos?list-type=2&max-keys=5", nil, 502},
			// The server's answer to a HEAD has no body, so the gateway asks with a GET.
			{"/photos/k", []string{"--head"}, 502},
			{"/photos", []string{"--head"}, 502},
		} {
			a := g.curl(t, aliceKey, r.path, r.args...)
			if a.status != r.status {
				t.Errorf("curl %q %q = %d, want %d\n%s", r.path, r.args, a.status, r.status, a.body)
			}
			all := fmt.Sprint(a.header) + a.body
			checkNoSecret(t, "the answer", all)
			for _, private := range []string{accessKey, b.addr, "SignatureDoesNotMatch", "StringToSign"} {
				if strings.Contains(all, private) {
					t.Errorf("curl %q %q: the answer holds %q:\n%s", r.path, r.args, private, all)
				}
			}
		}
		if left := b.files(t, "photos"); len(left) > 0 {
			t.Errorf("the server has %v", left)
		}
	})
}
