//go:build interop

// Unmodified programs do their job twice: straight at an S3 server, and through the
// gateway at another instance of that server. Their output, their exit status and the
// objects of the two servers must be the same.

package interop

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// minio keeps objects in a format of its own: side.objects asks for them, where
// backend.files looks into the folder.
var minio = server{"minio", "MinIO", func(t *testing.T, addr, dir, notes string) []string {
	return []string{"/usr/bin/env", "MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", program(t, "bin/minio"), "server", "--address", addr, dir}
}}

// programServers are the servers at which programs are compared. Unlike rclone serve
// s3 they keep content types, metadata, tags and checksums.
var programServers = []server{servers[0], minio}

// A place is a server, and how a program talks to it: over TLS, or over plain HTTP.
type place struct {
	server
	plain bool
}

var (
	everywhere = []place{{programServers[0], false}, {minio, false}}
	// withPlain is for programs that frame an upload over plain HTTP in another way than
	// over TLS: there they sign each chunk.
	withPlain = []place{{programServers[0], false}, {minio, true}}
	onlyMinIO = []place{{minio, false}}
)

// A side is one of the two ways of a program to a server: straight, or through the
// gateway.
type side struct {
	name    string
	url     string            // of the relay before the server or the gateway
	ca      string            // a file with the certificate of the relay's authority
	id      string            // access key id
	secret  string            // secret access key
	home    string            // the program's home and working folder
	env     []string          // the program's environment
	backend *backend          // the server at the end of it
	direct  *boto             // a client of that server itself
	known   map[string]string // what object returned, by bucket and list entry
	steps   []*outcome
}

// An outcome is the transcript of a step, without what differs from one run to the next.
type outcome struct {
	step   string
	text   strings.Builder
	failed bool
}

// newSide starts a server, and a gateway before it if the side is the gateway's.
func newSide(t *testing.T, at place, client string, gateway bool) *side {
	t.Helper()
	b := startServer(t, at.server)
	s := &side{name: "straight", id: accessKey, secret: secretKey, home: t.TempDir(), backend: b, direct: b.boto3(t), known: map[string]string{}}
	url := "http://" + b.addr
	if gateway {
		c := b.config()
		c["nested_keys"] = true
		s.name, s.id, s.secret = "through the gateway", "alice", aliceKey
		url = startGateway(t, c).url
	} else {
		client = "" // recorded through the gateway only
	}
	if at.plain {
		s.url = plainWire(t, url, client)
		_, s.ca = issued(t) // of nobody
	} else {
		s.url, s.ca = wire(t, url, client)
	}
	s.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "TMPDIR=" + s.home,
		"S3_ENDPOINT=" + s.url, "S3_CA=" + s.ca, "SSL_CERT_FILE=" + s.ca, "AWS_CA_BUNDLE=" + s.ca,
		"AWS_ACCESS_KEY_ID=" + s.id, "AWS_SECRET_ACCESS_KEY=" + s.secret,
		"AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region, "AWS_EC2_METADATA_DISABLED=true",
		"PYTHONDONTWRITEBYTECODE=1"}
	return s
}

// onBothSides runs a program's job at each place, straight and through the gateway,
// and compares the outcomes.
func onBothSides(t *testing.T, client string, places []place, job func(t *testing.T, s *side)) {
	t.Parallel()
	for _, at := range places {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			straight := newSide(t, at, client, false)
			job(t, straight)
			middle := time.Now()
			through := newSide(t, at, client, true)
			job(t, through)
			t.Logf("%s at %s: %.1f s straight, %.1f s through the gateway", client, at.title,
				middle.Sub(begin).Seconds(), time.Since(middle).Seconds())
			compare(t, client, at.server, straight, through)
		})
	}
}

// An exception is a step that fails straight, for a reason of the server's own. Through
// the gateway it either fails alike, or succeeds.
type exception struct {
	server, client, step, reason string
}

// exceptions are all steps that may fail straight. The client is the beginning of its
// name.
var exceptions = []exception{
	{"versitygw", "", "HeadBucket, CreateBucket", createBucket500},
	{"versitygw", "", "BucketExists, MakeBucket", createBucket500},
	{"versitygw", "", "`alias set`, `mb --ignore-existing`", createBucket500},
	{"versitygw", "AWS SDK for Java", "GetObjectAttributes", "the SDK cannot parse the server's `Last-Modified`"},
	{"versitygw", "aws-sdk-go-v2", "ListMultipartUploads, ListParts in pages", "the server refuses the upload id marker of its own page"},
	{"versitygw", "mc", "`ilm rule add`, `ilm rule ls`", "the server has no lifecycles"},
	{"versitygw", "s3fs", "exclusive create", closesEarly},
	{"versitygw", "s3fs", "exclusive create, multipart", closesEarly},
	{"minio", "s3fs", "exclusive create", noCondition},
	{"minio", "s3fs", "exclusive create, multipart", noCondition},
	{"minio", "s5cmd", "`cp` on the server of a key with a space", "s5cmd writes it as `+`, which S3 decodes and the server does not"},
}

const (
	createBucket500 = "the server answers 500 for a bucket that exists"
	closesEarly     = "the server may close the connection with its 412, before it has read the body"
	noCondition     = "the server's 412 does not name the `<Condition>`, without which s3fs raises `OSError` for `FileExistsError`"
)

// reasonToFail returns why a step may fail straight, or "".
func reasonToFail(server, client, step string) string {
	for _, e := range exceptions {
		if e.server == server && strings.HasPrefix(client, e.client) && e.step == step {
			return e.reason
		}
	}
	return ""
}

// compare makes a subtest of each step.
func compare(t *testing.T, client string, server server, straight, through *side) {
	if len(straight.steps) != len(through.steps) {
		t.Errorf("%d steps through the gateway, %d straight", len(through.steps), len(straight.steps))
	}
	for i := range min(len(straight.steps), len(through.steps)) {
		want, got := straight.steps[i], through.steps[i]
		t.Run(want.step, func(t *testing.T) {
			reason := reasonToFail(server.name, client, want.step)
			if want.failed && reason == "" {
				t.Errorf("fails straight:\n%s", &want.text)
			}
			alone := want.failed && !got.failed
			if got.step != want.step || !alone && (got.failed != want.failed || got.text.String() != want.text.String()) {
				t.Errorf("through the gateway:\n%s\nstraight:\n%s\nfirst difference:\n%s", &got.text, &want.text,
					difference(got.text.String(), want.text.String()))
			}
			cell := ""
			switch {
			case t.Failed():
				cell = "failed"
			case alone:
				cell = "works through the gateway only: " + reason
			case want.failed:
				cell = "fails at the server too: " + reason
			}
			jobResult(t, client, want.step, server.name, cell)
		})
	}
}

// A jobRow is a row of the table of programs.
type jobRow struct {
	steps []string            // in their order
	odd   map[string][]string // by server: remarks on steps
}

// jobResult records a step, with a remark or "".
func jobResult(t *testing.T, client, step, server, cell string) {
	t.Helper()
	results.mu.Lock()
	defer results.mu.Unlock()
	j := results.jobs[client]
	if j == nil {
		j = &jobRow{odd: map[string][]string{}}
		results.jobs[client] = j
	}
	if !slices.Contains(j.steps, step) {
		j.steps = append(j.steps, step)
	}
	if j.odd[server] == nil {
		j.odd[server] = []string{}
	}
	if cell != "" {
		j.odd[server] = append(j.odd[server], step+": "+cell)
	}
	writeResults(t)
}

// writeJobs writes the table of programs. It requires that results.mu is held.
func writeJobs(text *strings.Builder) {
	text.WriteString("\n| program | its job, straight and through the gateway |")
	for _, server := range programServers {
		fmt.Fprintf(text, " %s |", server.title)
	}
	text.WriteString("\n| --- | --- |" + strings.Repeat(" --- |", len(programServers)) + "\n")
	for _, client := range slices.Sorted(maps.Keys(results.jobs)) {
		j := results.jobs[client]
		fmt.Fprintf(text, "| %s | %s |", client, strings.Join(j.steps, "; "))
		for _, server := range programServers {
			odd := j.odd[server.name]
			switch {
			case odd == nil:
				text.WriteString(" |")
			case len(odd) == 0:
				text.WriteString(" the same |")
			default:
				fmt.Fprintf(text, " the same, but %s |", strings.Join(odd, "; "))
			}
		}
		text.WriteString("\n")
	}
}

// difference returns the first line in which a and b differ, of each.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("  %.1000s\n  %.1000s", x[i], y[i])
		}
	}
	return fmt.Sprintf("  %d lines, %d lines", len(x), len(y))
}

// step runs a step. Its outcome is what do notes, and the objects afterwards.
func (s *side) step(t *testing.T, what string, do func()) {
	t.Helper()
	s.steps = append(s.steps, &outcome{step: what})
	do()
	s.objects(t)
}

// note adds to the outcome of the current step.
func (s *side) note(format string, args ...any) {
	o := s.steps[len(s.steps)-1]
	fmt.Fprintf(&o.text, "%s\n", s.plain(fmt.Sprintf(format, args...)))
}

// fails marks the current step as failed.
func (s *side) fails(t *testing.T, format string, args ...any) {
	t.Helper()
	o := s.steps[len(s.steps)-1]
	o.failed = true
	s.note(format, args...)
	t.Logf("%s, %s: %s", s.name, o.step, fmt.Sprintf(format, args...))
}

var (
	timesOfDay = regexp.MustCompile(`\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4}|\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?( ?UTC|Z|\+00:00)?`)
	// mc -a records the last access, rclone the time of an upload from a pipe.
	fileTimes = regexp.MustCompile(`atime:\d+#\d+|\b\d{10}\.\d+`)
	rates     = regexp.MustCompile(`[\d.]+ ?[KMG]i?B/s|\b\d+(\.\d+)?(µs|ms|s)\b`)
)

// plain replaces names of this side, times and rates in a text.
func (s *side) plain(text string) string {
	_, host, _ := strings.Cut(s.url, "://")
	text = strings.NewReplacer(s.url, "URL", host, "HOST", s.home, "HOME", s.ca, "CA", s.id+" "+s.secret, "ID SECRET").Replace(text)
	text = timesOfDay.ReplaceAllString(text, "TIME")
	text = fileTimes.ReplaceAllString(text, "TIME")
	return rates.ReplaceAllString(text, "RATE")
}

// run runs a program and notes its standard output and how it exits.
func (s *side) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out := s.quietly(t, name, args...)
	if out != "" {
		s.note("%s", strings.TrimSuffix(out, "\n"))
	}
	return out
}

// quietly runs a program and notes only how it exits. It returns the standard output.
func (s *side) quietly(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env
	cmd.Dir = s.home
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	s.note("$ %s %s", filepath.Base(name), strings.Join(args, " "))
	if err != nil {
		s.fails(t, "%v", err)
		t.Logf("%s\n%s", out, stderr.String())
	}
	return string(out)
}

// sorted is run for a program that writes its lines in no fixed order.
func (s *side) sorted(t *testing.T, name string, args ...string) {
	t.Helper()
	lines := strings.Split(s.plain(s.quietly(t, name, args...)), "\n")
	slices.Sort(lines)
	s.note("%s", strings.Join(lines, "\n"))
}

// fetch gets a URL that a program has signed, and notes what comes.
func (s *side) fetch(t *testing.T, url string) {
	t.Helper()
	if url = strings.TrimSpace(url); url == "" {
		s.fails(t, "no URL")
		return
	}
	a := curl(t, url, "--cacert", s.ca)
	s.note("%d, SHA-256 %s", a.status, digest(t, strings.NewReader(a.body)))
	if a.status != 200 {
		s.fails(t, "%s", a.body)
	}
}

// files notes the files of a folder under home, with their digests.
func (s *side) files(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.home, dir)); err != nil {
		s.fails(t, "no folder %s", dir)
		return
	}
	sums := digests(t, filepath.Join(s.home, dir))
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		s.note("%s/%s: sha256 %s", dir, name, sums[name])
	}
}

// random matches the digests and UUIDs that programs put into names.
var random = regexp.MustCompile(`([0-9a-f]{2}/)?[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// objects notes what the server holds, as it says itself: the content and the headers
// of each object. Objects with random names have random content; of them only the
// pattern of the name counts. An object whose list entry is known is not read again.
func (s *side) objects(t *testing.T) {
	t.Helper()
	for _, bucket := range []string{"photos", "backups"} {
		var lines []string
		for _, page := range s.direct.pages(t, "list_objects_v2", arguments{"Bucket": bucket}) {
			for _, object := range page.Contents {
				line := bucket + "/" + object.Key
				if random.MatchString(object.Key) {
					line = random.ReplaceAllString(line, "*")
				} else if s.contents(object.Key) {
					entry := fmt.Sprint(bucket, object)
					if _, ok := s.known[entry]; !ok {
						s.known[entry] = s.object(t, bucket, object.Key)
					}
					line += ": " + s.known[entry]
				}
				lines = append(lines, line)
			}
		}
		slices.Sort(lines)
		for _, line := range slices.Compact(lines) {
			s.note("%s", line)
		}
	}
}

// contents reports whether an object has the same content in each run.
func (s *side) contents(key string) bool {
	return !strings.HasPrefix(key, "repo/") && !strings.HasPrefix(key, "table/_delta_log/")
}

// framing is the transfer coding of an upload, which versitygw stores with the object.
var framing = regexp.MustCompile(`^aws-chunked(,aws-chunked)*$`)

func (s *side) object(t *testing.T, bucket, key string) string {
	t.Helper()
	r := s.direct.call(t, "get_object", arguments{"Bucket": bucket, "Key": key})
	if r.Status != 200 {
		return fmt.Sprintf("%d %s", r.Status, r.Code)
	}
	text := fmt.Sprintf("%d bytes, sha256 %s", len(r.Result.Body), digest(t, bytes.NewReader(r.Result.Body)))
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		kept := []string{"content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires",
			"x-amz-storage-class", "x-amz-tagging-count"}
		if name == "content-encoding" && framing.MatchString(r.Header[name]) {
			continue
		}
		if slices.Contains(kept, name) || strings.HasPrefix(name, "x-amz-meta-") {
			text += fmt.Sprintf(", %s: %q", name, r.Header[name])
		}
	}
	return text
}

// lines runs a program of interop/clients, which writes the outcome of each step as a
// line of JSON. The last step is the objects.
func (s *side) lines(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env
	cmd.Dir = s.home
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	for text := range strings.Lines(string(out)) {
		var line struct{ Step, Result, Error string }
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%s, %s: line %q: %v", name, s.name, text, err)
		}
		s.steps = append(s.steps, &outcome{step: line.Step})
		if line.Error != "" {
			s.fails(t, "error: %s", line.Error)
		} else {
			s.note("%s", line.Result)
		}
	}
	s.step(t, "the objects", func() {
		if err != nil {
			s.fails(t, "%v", err)
		}
	})
	if t.Failed() || slices.ContainsFunc(s.steps, func(o *outcome) bool { return o.failed }) {
		t.Logf("%s, %s: %.8000s", filepath.Base(name), s.name, stderr.String())
	}
}

// goVersion returns the version of a module that a Go program is built with, or else of
// the program itself. For a pseudo-version it is the date.
func goVersion(t *testing.T, name, module string) string {
	t.Helper()
	info, err := buildinfo.ReadFile(program(t, name))
	if err != nil {
		t.Fatal(err)
	}
	version := info.Main.Version
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			version = dependency.Version
		}
	}
	if day, ok := strings.CutPrefix(version, "v0.0.0-"); ok {
		return day[:4] + "-" + day[4:6] + "-" + day[6:8]
	}
	return strings.TrimPrefix(version, "v")
}

// dataVersion returns the version of a package in the virtual environment for data,
// which exists because s3fs needs another botocore than the AWS CLI.
func dataVersion(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "", environment(t), program(t, "data/bin/python"), "-c",
		"import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))", name))
}

// absolute makes the path of a program or a script independent of the working folder.
func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The programs.

func TestInteropAWSSDKForGo(t *testing.T) {
	name := absolute(t, program(t, "bin/aws-sdk-go-v2"))
	onBothSides(t, "aws-sdk-go-v2, service/s3 "+goVersion(t, "bin/aws-sdk-go-v2", "github.com/aws/aws-sdk-go-v2/service/s3"), everywhere,
		func(t *testing.T, s *side) { s.lines(t, name) })
}

func TestInteropMinioGo(t *testing.T) {
	name := absolute(t, program(t, "bin/minio-go"))
	onBothSides(t, "minio-go "+goVersion(t, "bin/minio-go", "github.com/minio/minio-go/v7"), withPlain,
		func(t *testing.T, s *side) { s.lines(t, name) })
}

// The JVM reads authorities from a store, which keytool writes.
func TestInteropJava(t *testing.T) {
	jars, err := filepath.Glob(filepath.Join(program(t, "java"), "lib", "s3-[0-9]*.jar"))
	if err != nil || len(jars) != 1 {
		t.Fatalf("%d jars of the SDK: %v", len(jars), err)
	}
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(jars[0]), "s3-"), ".jar")
	path := absolute(t, program(t, "java"))
	onBothSides(t, "AWS SDK for Java "+version, withPlain, func(t *testing.T, s *side) {
		store := filepath.Join(s.home, "authorities")
		run(t, "", s.env, systemProgram(t, "keytool"), "-importcert", "-noprompt", "-alias", "relay", "-file", s.ca,
			"-keystore", store, "-storepass", "authorities")
		s.lines(t, systemProgram(t, "java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8",
			"-Dsun.jnu.encoding=UTF-8", "-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword=authorities",
			"-cp", path+string(filepath.ListSeparator)+filepath.Join(path, "lib", "*"), "Job")
	})
}

// python runs a job of interop/clients, with the packages for data.
func (s *side) python(t *testing.T, job string) {
	t.Helper()
	s.lines(t, absolute(t, program(t, "data/bin/python")), absolute(t, filepath.Join("clients", job)))
}

func TestInteropPyArrow(t *testing.T) {
	onBothSides(t, "pyarrow "+dataVersion(t, "pyarrow"), everywhere, func(t *testing.T, s *side) { s.python(t, "pyarrow_job.py") })
}

func TestInteropDeltaLake(t *testing.T) {
	onBothSides(t, "deltalake "+dataVersion(t, "deltalake"), everywhere, func(t *testing.T, s *side) { s.python(t, "deltalake_job.py") })
}

func TestInteropS3fs(t *testing.T) {
	onBothSides(t, "s3fs "+dataVersion(t, "s3fs"), everywhere, func(t *testing.T, s *side) { s.python(t, "s3fs_job.py") })
}

// sourceTree makes a folder of 30 small files and a large one.
func sourceTree(t *testing.T) string {
	t.Helper()
	dir := tree(t, 30)
	if err := os.WriteFile(filepath.Join(dir, "large.bin"), noise(t, 12*mib+345), 0o666); err != nil {
		t.Fatal(err)
	}
	// mc -a and rclone record the times of files.
	day := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, day, day))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestInteropMC(t *testing.T) {
	source := sourceTree(t)
	name := absolute(t, program(t, "bin/mc"))
	onBothSides(t, "mc "+goVersion(t, "bin/mc", ""), withPlain, func(t *testing.T, s *side) {
		mc := func(args ...string) string { return s.run(t, name, append(args, "--disable-pager", "--no-color")...) }
		s.step(t, "`alias set`, `mb --ignore-existing`", func() {
			s.quietly(t, name, "alias", "set", "s", s.url, s.id, s.secret)
			mc("mb", "--ignore-existing", "s/photos")
		})
		s.step(t, "`mirror -a`, and back", func() {
			s.quietly(t, name, "mirror", "-a", "--quiet", source, "s/photos/tree")
			s.quietly(t, name, "mirror", "-a", "--quiet", "s/photos/tree", "down")
			s.files(t, "down")
		})
		s.step(t, "`mirror --overwrite --remove`", func() {
			s.quietly(t, name, "cp", "--quiet", filepath.Join(source, "large.bin"), "s/photos/tree/too much")
			s.quietly(t, name, "mirror", "--overwrite", "--remove", "--quiet", source, "s/photos/tree")
			mc("diff", source, "s/photos/tree")
		})
		s.step(t, "`cp`, and on the server; `cat`", func() {
			s.quietly(t, name, "cp", "--quiet", "--attr", "colour=blue;Cache-Control=max-age=60", filepath.Join(source, "large.bin"), "s/photos/dir/large ü+.bin")
			s.quietly(t, name, "cp", "--quiet", "s/photos/dir/large ü+.bin", "s/backups/copy.bin")
			s.quietly(t, name, "cp", "--quiet", "s/backups/copy.bin", "copy.bin")
			s.note("%s", fileDigest(t, filepath.Join(s.home, "copy.bin")))
			mc("cat", "s/photos/tree/dir 3/1/file +10 ü&.txt")
		})
		s.step(t, "`ls`, `find`, `du`", func() {
			mc("ls", "s")
			mc("ls", "--recursive", "s/photos")
			mc("ls", "s/photos/")
			mc("find", "s/photos", "--name", "*1*.txt")
			mc("du", "s/photos")
		})
		s.step(t, "`stat`", func() {
			s.sorted(t, name, "stat", "s/photos/dir/large ü+.bin")
			s.sorted(t, name, "stat", "--recursive", "s/photos/dir")
			s.sorted(t, name, "stat", "s/photos")
		})
		s.step(t, "`tag set`, `tag list`", func() {
			clear(s.known) // tags are in no list
			mc("tag", "set", "s/photos/dir/large ü+.bin", "a=b")
			mc("tag", "list", "s/photos/dir/large ü+.bin")
		})
		s.step(t, "`ilm rule add`, `ilm rule ls`", func() {
			s.quietly(t, name, "ilm", "rule", "add", "--expire-days", "30", "s/photos")
			var rules struct {
				Config struct {
					Rules []struct {
						Expiration struct{ Days int }
						Status     string
					}
				}
			}
			if err := json.Unmarshal([]byte(s.quietly(t, name, "ilm", "rule", "ls", "--json", "s/photos")), &rules); err != nil {
				s.fails(t, "no rules: %v", err)
			}
			s.note("%v", rules)
		})
		s.step(t, "`version info`, `anonymous get`", func() {
			mc("version", "info", "s/photos")
			mc("anonymous", "get", "s/photos")
		})
		s.step(t, "`share download`, then curl", func() {
			out := s.quietly(t, name, "share", "download", "--json", "s/photos/tree/dir 3/1/file +10 ü&.txt")
			var shared struct{ Share string }
			if err := json.Unmarshal([]byte(out), &shared); err != nil {
				s.fails(t, "no link: %v", err)
				return
			}
			s.fetch(t, shared.Share)
		})
		s.step(t, "`mv`, `rm --recursive`", func() {
			s.quietly(t, name, "mv", "--quiet", "s/photos/tree/large.bin", "s/backups/moved.bin")
			mc("rm", "--recursive", "--force", "s/photos/tree")
		})
	})
}

func TestInteropS5cmd(t *testing.T) {
	source := sourceTree(t)
	name := absolute(t, program(t, "data/bin/s5cmd"))
	version, _, _ := strings.Cut(run(t, "", environment(t), name, "version"), "-")
	onBothSides(t, "s5cmd "+strings.TrimPrefix(version, "v"), everywhere, func(t *testing.T, s *side) {
		sorted := func(args ...string) {
			s.sorted(t, name, append([]string{"--endpoint-url", s.url, "--retry-count", "0"}, args...)...)
		}
		s.step(t, "`sync`, and back", func() {
			sorted("sync", source+"/", "s3://photos/tree/")
			sorted("sync", "s3://photos/tree/*", "down/")
			s.files(t, "down")
			sorted("sync", source+"/", "s3://photos/tree/")
		})
		s.step(t, "`cp` in parts, and back", func() {
			sorted("cp", "--part-size", "5", "--concurrency", "3", "--content-type", "image/x-noise", "--metadata", "colour=blue",
				filepath.Join(source, "large.bin"), "s3://photos/dir/large-ü.bin")
			sorted("cp", "--part-size", "5", "--concurrency", "3", "s3://photos/dir/large-ü.bin", "large.bin")
			s.note("%s", fileDigest(t, filepath.Join(s.home, "large.bin")))
		})
		s.step(t, "`ls`, `du`, `cat`, `head`", func() {
			sorted("ls")
			sorted("ls", "--etag", "s3://photos/tree/*1*")
			sorted("ls", "s3://photos/")
			sorted("du", "s3://photos/*")
			sorted("head", "s3://photos/dir/large-ü.bin")
			sorted("cat", "s3://photos/tree/dir 3/1/file +10 ü&.txt")
		})
		s.step(t, "`cp` and `mv` on the server", func() {
			sorted("cp", "s3://photos/dir/*", "s3://backups/copy/")
			sorted("mv", "s3://photos/dir/large-ü.bin", "s3://backups/moved")
		})
		s.step(t, "`cp` on the server of a key with a space", func() {
			sorted("cp", "s3://photos/tree/dir 3/1/file +10 ü&.txt", "s3://backups/with a space")
			if got := s.object(t, "backups", "with a space"); !strings.HasPrefix(got, "170 bytes, ") {
				s.fails(t, "the copy: %s", got)
			}
			s.direct.call(t, "delete_object", arguments{"Bucket": "backups", "Key": "with a space"})
		})
		s.step(t, "`presign`, then curl", func() {
			s.fetch(t, s.quietly(t, name, "--endpoint-url", s.url, "presign", "s3://photos/tree/dir 3/1/file +10 ü&.txt"))
		})
		s.step(t, "`rm`", func() {
			sorted("rm", "s3://photos/*")
			sorted("rm", "s3://photos/nowhere")
		})
	})
}

func TestInteropRestic(t *testing.T) {
	source := sourceTree(t)
	name := absolute(t, program(t, "bin/restic"))
	onBothSides(t, "restic "+strings.Fields(run(t, "", environment(t), name, "version"))[1], everywhere, func(t *testing.T, s *side) {
		s.env = append(s.env, "RESTIC_PASSWORD=password", "RESTIC_REPOSITORY=s3:"+s.url+"/photos/repo", "RESTIC_CACERT="+s.ca)
		restic := func(args ...string) string {
			return s.quietly(t, name, append(args, "--no-cache", "--quiet")...)
		}
		// A copy, in which a file changes between two backups.
		work := filepath.Join(s.home, "work")
		if err := os.CopyFS(work, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		s.step(t, "`init`", func() { restic("init") })
		s.step(t, "`backup`, twice", func() {
			restic("backup", "work")
			if err := os.WriteFile(filepath.Join(work, "large.bin"), noise(t, 2*mib), 0o666); err != nil {
				t.Fatal(err)
			}
			restic("backup", "work", "--tag", "second")
		})
		s.step(t, "`snapshots`, `ls`", func() {
			var snapshots []struct{ Tags []string }
			if err := json.Unmarshal([]byte(restic("snapshots", "--json")), &snapshots); err != nil {
				s.fails(t, "snapshots: %v", err)
			}
			s.note("%v", snapshots)
			s.note("%s", restic("ls", "latest"))
		})
		s.step(t, "`check --read-data`", func() { restic("check", "--read-data") })
		s.step(t, "`restore`", func() {
			restic("restore", "latest", "--target", "restored")
			s.files(t, "restored")
		})
		s.step(t, "`forget --prune`", func() {
			restic("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
			restic("check", "--read-data")
			restic("unlock")
		})
	})
}

// Clients of interop_clients_test.go, at MinIO too.

func TestInteropAWSCLIAtMinIO(t *testing.T) {
	source := sourceTree(t)
	name := absolute(t, program(t, "venv/bin/aws"))
	version, _, _ := strings.Cut(run(t, "", environment(t), name, "--version"), " ")
	onBothSides(t, "AWS CLI "+strings.TrimPrefix(version, "aws-cli/"), onlyMinIO, func(t *testing.T, s *side) {
		config := tempFile(t, "[default]\ns3 =\n  signature_version = s3v4\n")
		s.env = append(s.env, "AWS_CONFIG_FILE="+config)
		aws := func(args ...string) string { return s.quietly(t, name, append(args, "--endpoint-url", s.url)...) }
		s.step(t, "`s3 sync`, and back", func() {
			aws("s3", "sync", "--only-show-errors", source, "s3://photos/tree")
			aws("s3", "sync", "--only-show-errors", "s3://photos/tree", "down")
			s.files(t, "down")
			s.note("again: %s", aws("s3", "sync", "--size-only", source, "s3://photos/tree"))
		})
		s.step(t, "`s3 mv`, `s3 ls`", func() {
			aws("s3", "mv", "--only-show-errors", "s3://photos/tree/large.bin", "s3://backups/moved ü+")
			s.note("%s", aws("s3", "ls", "--recursive", "s3://backups"))
		})
		s.step(t, "`s3 presign`, then curl", func() {
			s.fetch(t, s.quietly(t, name, "s3", "presign", "s3://backups/moved ü+", "--endpoint-url", s.url))
		})
		s.step(t, "`s3 rm --recursive`", func() { aws("s3", "rm", "--only-show-errors", "--recursive", "s3://photos") })
	})
}

func TestInteropRcloneAtMinIO(t *testing.T) {
	source := sourceTree(t)
	name := absolute(t, program(t, "bin/rclone"))
	version := strings.TrimPrefix(strings.TrimSuffix(firstLine(run(t, "", environment(t), name, "version")), "-DEV"), "rclone v")
	onBothSides(t, "rclone "+version, onlyMinIO, func(t *testing.T, s *side) {
		s.env = append(s.env, "RCLONE_CA_CERT="+s.ca, "RCLONE_CONFIG_S_TYPE=s3", "RCLONE_CONFIG_S_PROVIDER=Other", "RCLONE_CONFIG_S_ENDPOINT="+s.url,
			"RCLONE_CONFIG_S_REGION="+region, "RCLONE_CONFIG_S_ENV_AUTH=true", "RCLONE_S3_UPLOAD_CUTOFF=5Mi", "RCLONE_S3_CHUNK_SIZE=5Mi")
		rclone := func(args ...string) { s.sorted(t, name, append(args, "--retries", "1", "--low-level-retries", "1")...) }
		s.step(t, "`sync`, `check`, and back", func() {
			rclone("sync", source, "s:photos/tree")
			rclone("check", "--download", source, "s:photos/tree")
			rclone("sync", "s:photos/tree", "down")
			s.files(t, "down")
		})
		s.step(t, "`lsf`, `hashsum`, `cat --offset`", func() {
			rclone("lsf", "--recursive", "--format", "psth", "s:photos")
			rclone("hashsum", "md5", "s:photos/tree/dir 1")
			rclone("cat", "s:photos/tree/large.bin", "--offset", "12345", "--count", "1")
		})
		s.step(t, "`copy`, `moveto` on the server", func() {
			rclone("copy", "s:photos/tree/dir 3", "s:backups/copy")
			rclone("moveto", "s:photos/tree/large.bin", "s:backups/moved ü+")
		})
		s.step(t, "`rcat`, `link`, then curl", func() {
			s.quietly(t, "/bin/sh", "-c", `"$0" cat "s:backups/moved ü+" | "$0" rcat s:photos/piped`, name)
			s.fetch(t, s.quietly(t, name, "link", "s:photos/piped", "--expire", "1m"))
		})
		s.step(t, "`delete`", func() { rclone("delete", "s:photos") })
	})
}

func TestInteropBoto3AtMinIO(t *testing.T) {
	content := noise(t, 12*mib+345)
	onBothSides(t, "boto3 "+pythonVersion(t, "boto3"), onlyMinIO, func(t *testing.T, s *side) {
		s3 := startBoto3(t, s.url, s.id, s.secret, "AWS_CA_BUNDLE="+s.ca)
		call := func(name string, a arguments) reply {
			r := s3.call(t, name, a)
			s.note("%s = %d %s", name, r.Status, r.Code)
			if r.Status/100 != 2 {
				s.fails(t, "%s = %d %s", name, r.Status, r.Code)
			}
			return r
		}
		key := func(key string) arguments { return arguments{"Bucket": "photos", "Key": key} }
		with := func(a arguments, more arguments) arguments { maps.Copy(a, more); return a }
		s.step(t, "`upload_fileobj`, managed `copy`", func() {
			call("upload_fileobj", with(key("large ü+"), arguments{"Body": content, "ExtraArgs": arguments{"ContentType": "image/x-noise", "Metadata": arguments{"realm_id": "2"}}}))
			call("copy", with(key("copy"), arguments{"CopySource": key("large ü+")}))
		})
		for _, algorithm := range []string{"CRC32", "SHA1", "SHA256"} {
			s.step(t, "`put_object`, "+algorithm, func() {
				call("put_object", with(key(algorithm), arguments{"Body": content[:70_000], "ChecksumAlgorithm": algorithm}))
				r := call("get_object", with(key(algorithm), arguments{"ChecksumMode": "ENABLED"}))
				s.note("%s %s", r.Header["etag"], r.Header["x-amz-checksum-"+strings.ToLower(algorithm)])
			})
		}
		s.step(t, "tags, paginators", func() {
			call("put_object_tagging", with(key("copy"), arguments{"Tagging": arguments{"TagSet": []arguments{{"Key": "a +=", "Value": "b -@"}}}}))
			s.note("%v", call("get_object_tagging", key("copy")).Result.TagSet)
			for _, list := range []string{"list_objects", "list_objects_v2"} {
				pages := s3.pages(t, list, arguments{"Bucket": "photos", "PaginationConfig": arguments{"PageSize": 2}})
				s.note("%d pages: %q", len(pages), keysOf(pages...))
			}
		})
		s.step(t, "presigned PUT and GET, by curl", func() {
			sign := func(method string) string {
				return s3.call(t, "generate_presigned_url", arguments{"ClientMethod": method, "Params": key("dir/a +ü")}).Result.URL
			}
			put := curl(t, sign("put_object"), "--cacert", s.ca, "--upload-file", tempFile(t, "presigned"))
			got := curl(t, sign("get_object"), "--cacert", s.ca)
			s.note("%d, %d %s", put.status, got.status, got.body)
		})
		s.step(t, "`delete_objects`", func() {
			call("delete_objects", arguments{"Bucket": "photos", "Delete": arguments{"Objects": []arguments{{"Key": "large ü+"}, {"Key": "copy"}, {"Key": "never"}}}})
		})
	})
}
