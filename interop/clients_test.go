//go:build interop

// S3 clients as people have them, with nothing but an endpoint and a key pair:
// the name of a user and that user's API key. What they did is written down as
// a table, in interop/.cache/results.md or where INTEROP_RESULTS says.

package interop

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientRegion is not the backends' region: a client may name any.
const clientRegion = "eu-west-1"

// Results.

// A step is a row of the table of results.
type step struct{ client, what string }

// results are what the clients did in this run.
var results = struct {
	mu    sync.Mutex
	steps []step                     // in the order in which they were first taken
	cells map[step]map[string]string // by server
	wire  map[string]map[string]bool // by client: its words in x-amz-content-sha256
	jobs  map[string]*jobRow         // by client: those of interop_programs_test.go
}{cells: map[step]map[string]string{}, wire: map[string]map[string]bool{}, jobs: map[string]*jobRow{}}

// try runs one thing that a client does as a subtest and writes down how it
// went.
func (b *backend) try(t *testing.T, client, what string, do func(t *testing.T)) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		b.result(t, client, what, "failed")
		do(t)
		if !t.Failed() {
			b.result(t, client, what, "")
		}
	})
}

// result sets a cell of the table. A cell that says more than yes and no was
// set by the test itself, and is kept if the test passes.
func (b *backend) result(t *testing.T, client, what, cell string) {
	t.Helper()
	results.mu.Lock()
	defer results.mu.Unlock()
	s := step{client, what}
	if results.cells[s] == nil {
		results.steps = append(results.steps, s)
		results.cells[s] = map[string]string{}
	}
	if cell == "" {
		cell = results.cells[s][b.name]
		if cell == "failed" {
			cell = "yes"
		}
	}
	results.cells[s][b.name] = cell
	writeResults(t)
}

// writeResults writes the table anew. It requires that results.mu is held.
func writeResults(t *testing.T) {
	t.Helper()
	var text strings.Builder
	text.WriteString("| client | what was run |")
	for _, server := range servers {
		fmt.Fprintf(&text, " %s |", server.title)
	}
	text.WriteString("\n| --- | --- |" + strings.Repeat(" --- |", len(servers)) + "\n")
	for _, s := range results.steps {
		fmt.Fprintf(&text, "| %s | %s |", s.client, s.what)
		for _, server := range servers {
			fmt.Fprintf(&text, " %s |", results.cells[s][server.name])
		}
		text.WriteString("\n")
	}
	writeJobs(&text)
	text.WriteString("\n| client | `x-amz-content-sha256` of its uploads |\n| --- | --- |\n")
	for _, client := range slices.Sorted(maps.Keys(results.wire)) {
		fmt.Fprintf(&text, "| %s | %s |\n", client, strings.Join(slices.Sorted(maps.Keys(results.wire[client])), ", "))
	}
	path := os.Getenv("INTEROP_RESULTS")
	if path == "" {
		path = installed("results.md")
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o666); err != nil {
		t.Error(err)
	}
}

// The wire.

// wire returns the URL of a relay before the gateway, and the file with the
// certificate that it shows.
func (g *gateway) wire(t *testing.T, client string) (url, ca string) {
	t.Helper()
	return wire(t, g.url, client)
}

// wire returns the URL of a relay before another, and the file with the certificate
// that it shows. The relay ends TLS, as a proxy in front would, passes on every byte,
// and writes down what the client says of its payloads: over plain HTTP, SDKs sign the
// digest of all they send; over TLS they send aws-chunked with trailers. Nothing is
// written down of a client without a name.
func wire(t *testing.T, to, client string) (url, ca string) {
	t.Helper()
	certificate, ca := issued(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	startRelay(t, l, to, client)
	return "https://" + l.Addr().String(), ca
}

// plainWire is wire without TLS.
func plainWire(t *testing.T, to, client string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	startRelay(t, l, to, client)
	return "http://" + l.Addr().String()
}

func startRelay(t *testing.T, l net.Listener, to, client string) {
	var conns sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { relay(conn.(halfCloser), strings.TrimPrefix(to, "http://"), client) })
		}
	})
}

// A halfCloser is a connection of either kind.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relay passes on both directions of a connection until the gateway ends it, or
// the client.
func relay(from halfCloser, addr, client string) {
	defer from.Close()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	to := conn.(*net.TCPConn)
	defer to.Close()
	seen, heard := io.Pipe()
	var both sync.WaitGroup
	both.Go(func() { notePayloads(seen, client) })
	both.Go(func() {
		io.Copy(to, io.TeeReader(from, heard))
		heard.Close()
		to.CloseWrite()
	})
	io.Copy(from, to)
	from.CloseWrite()
	from.SetReadDeadline(time.Now()) // the gateway is done with this connection
	both.Wait()
}

// issued returns a new certificate for 127.0.0.1, and a file with that of the authority
// which signed it: rustls refuses an authority's own certificate as a server's. Each
// authority has a name of its own, so that one is never looked up in place of another.
func issued(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "interop authority " + cryptorand.Text()},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageCertSign,

		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "interop"},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		BasicConstraintsValid: true,
	}
	authorityKey, serverKey := privateKey(t), privateKey(t)
	ca := certificate(t, authority, authority, authorityKey, authorityKey)
	der := certificate(t, server, authority, serverKey, authorityKey)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: serverKey}, tempFile(t, string(text))
}

func privateKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate returns the DER of a certificate of this key, signed with the other.
func certificate(t *testing.T, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(cryptorand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// notePayloads reads what a client sends, line by line, objects too: a line of
// theirs is not likely to be a header.
func notePayloads(r io.Reader, client string) {
	lines := bufio.NewReaderSize(r, 64<<10)
	upload := false
	for {
		line, err := lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return
		}
		if bytes.HasSuffix(line, []byte(" HTTP/1.1\r\n")) {
			upload = bytes.HasPrefix(line, []byte("PUT "))
		}
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if !ok || !upload || client == "" || len(name) > 40 || !strings.EqualFold(string(name), "x-amz-content-sha256") {
			continue
		}
		word := string(bytes.TrimSpace(value))
		if len(word) == 64 {
			word = "digest"
		}
		results.mu.Lock()
		if results.wire[client] == nil {
			results.wire[client] = map[string]bool{}
		}
		results.wire[client]["`"+word+"`"] = true
		results.mu.Unlock()
	}
}

// Two servers.

// startTwo starts a gateway in front of this backend, with its buckets photos
// and backups, and of the next of servers, whose photos are called elsewhere.
func (b *backend) startTwo(t *testing.T) (g *gateway, other *backend) {
	t.Helper()
	next := (slices.IndexFunc(servers, func(s server) bool { return s.name == b.name }) + 1) % len(servers)
	other = startBackend(t, next)
	c := b.config()
	account := maps.Clone(other.config()["accounts"].(config)["backend"].(config))
	account["buckets"] = []config{{"name": "elsewhere", "bucket": "photos"}}
	c["accounts"].(config)["other"] = account
	c["nested_keys"] = true
	return startGateway(t, c), other
}

// keys is the environment of a client that has nothing but a key pair.
func keys(t *testing.T, more ...string) []string {
	return environment(t, append([]string{"AWS_ACCESS_KEY_ID=alice", "AWS_SECRET_ACCESS_KEY=" + aliceKey,
		"AWS_DEFAULT_REGION=" + clientRegion, "AWS_REGION=" + clientRegion,
		"AWS_EC2_METADATA_DISABLED=true"}, more...)...)
}

// firstLine is what a program says its version is.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}

// tree makes a folder of so many small files with names that people have.
func tree(t *testing.T, files int) string {
	t.Helper()
	dir := t.TempDir()
	content := noise(t, 10_000)
	for i := range files {
		path := filepath.Join(dir, fmt.Sprintf("dir %d", i%7), fmt.Sprint(i%3), fmt.Sprintf("file +%d ü&.txt", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content[:i*17%len(content)], 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// AWS CLI, versions 1 and 2.

func TestInteropAWSCLI(t *testing.T) {
	t.Run("v1", func(t *testing.T) {
		eachBackend(t, func(t *testing.T, b *backend) { testAWSCLI(t, b, program(t, "venv/bin/aws"), "aws-cli/1.") })
	})
	t.Run("v2", func(t *testing.T) {
		eachBackend(t, func(t *testing.T, b *backend) { testAWSCLI(t, b, "/usr/bin/aws", "aws-cli/2.") })
	})
}

func testAWSCLI(t *testing.T, b *backend, path, major string) {
	full := run(t, "", environment(t), path, "--version")
	version, _, _ := strings.Cut(full, " ") // aws-cli/1.45.11
	if !strings.HasPrefix(version, major) {
		t.Fatalf("%s is %s, want %s", path, version, major)
	}
	client := "AWS CLI " + strings.TrimPrefix(version, "aws-cli/")
	g, _ := b.startTwo(t)
	endpoint, ca := g.wire(t, client)
	// Version 1 presigns with Signature Version 2, which S3 has left behind,
	// unless its configuration says otherwise.
	settings := "[default]\ns3 =\n  signature_version = s3v4\n"
	if b.name == "rclone" { // which loses a file now and then when two uploads make one folder at once
		settings += "  max_concurrent_requests = 1\n"
	}
	file := tempFile(t, settings)
	env := keys(t, "AWS_CONFIG_FILE="+file, "AWS_CA_BUNDLE="+ca)
	aws := func(t *testing.T, args ...string) string {
		t.Helper()
		return run(t, "", env, path, append(args, "--endpoint-url", endpoint, "--output", "json")...)
	}

	large := tempFile(t, string(noise(t, 64*mib)))
	b.try(t, client, "`s3 cp` of 64 MiB by multipart, and back", func(t *testing.T) {
		aws(t, "s3", "cp", "--only-show-errors", large, "s3://photos/large.bin")
		want := fileDigest(t, large)
		if got := b.files(t, "photos")["large.bin"]; got != want {
			t.Errorf("the server has an object with SHA-256 %s, want %s", got, want)
		}
		g.wantAccessLine(t, map[string]any{"user": "alice", "operation": "CompleteMultipartUpload", "status": 200.0})
		down := tempFile(t, "")
		aws(t, "s3", "cp", "--only-show-errors", "s3://photos/large.bin", down)
		if got := fileDigest(t, down); got != want {
			t.Errorf("s3 cp brings back SHA-256 %s, want %s", got, want)
		}
	})
	b.try(t, client, "`s3 sync` of 500 files, and back", func(t *testing.T) {
		up, down := tree(t, 500), t.TempDir()
		aws(t, "s3", "sync", "--only-show-errors", up, "s3://backups/tree")
		aws(t, "s3", "sync", "--only-show-errors", "s3://backups/tree", down)
		if got, want := digests(t, down), digests(t, up); len(want) != 500 || !maps.Equal(got, want) {
			t.Errorf("s3 sync brings back %d files, want the same %d", len(got), len(want))
		}
		// One of the files is empty. After the answer to an upload that asked and
		// has nothing to send, botocore waits in vain for the next answer on that
		// connection, for a minute, unless the first was "100 Continue":
		// https://github.com/boto/botocore/issues/3755
		puts := 0
		for _, line := range g.logSoFar(t) {
			if line["operation"] == "PutObject" && line["status"] == 200.0 {
				puts++
			}
		}
		if puts != 500 {
			t.Errorf("500 files took %d uploads", puts)
		}
		// Nothing has changed, so there is nothing to do.
		if again := aws(t, "s3", "sync", up, "s3://backups/tree", "--size-only"); again != "" {
			t.Errorf("a second s3 sync does\n%.500s", again)
		}
	})
	b.try(t, client, "`s3 mv`, in the account and to another", func(t *testing.T) {
		small := tempFile(t, "moved")
		aws(t, "s3", "cp", "--only-show-errors", small, "s3://photos/from/a")
		aws(t, "s3", "mv", "--only-show-errors", "s3://photos/from/a", "s3://backups/to/b")
		aws(t, "s3", "mv", "--only-show-errors", "s3://backups/to/b", "s3://elsewhere/to/c")
		if got := aws(t, "s3", "cp", "--only-show-errors", "s3://elsewhere/to/c", "-"); got != "moved" {
			t.Errorf("after s3 mv the object is %q", got)
		}
		for _, bucket := range []string{"photos", "backups"} {
			for name := range b.files(t, bucket) {
				if strings.HasPrefix(name, "from/") || strings.HasPrefix(name, "to/") {
					t.Errorf("after s3 mv the server still has %s/%s", bucket, name)
				}
			}
		}
	})
	b.try(t, client, "`s3 rm --recursive`", func(t *testing.T) {
		aws(t, "s3", "rm", "--only-show-errors", "--recursive", "s3://backups/tree")
		if left := b.files(t, "backups"); len(left) > 0 {
			t.Errorf("after s3 rm the server has %d files", len(left))
		}
	})
	b.try(t, client, "`s3 presign`, then curl", func(t *testing.T) {
		aws(t, "s3", "cp", "--only-show-errors", tempFile(t, "presigned"), "s3://photos/dir/a +ü.txt")
		url := strings.TrimSpace(aws(t, "s3", "presign", "s3://photos/dir/a +ü.txt"))
		if a := curl(t, url, "--cacert", ca); a.status != 200 || a.body != "presigned" {
			t.Errorf("GET of the presigned URL = %d %s", a.status, a.body)
		}
		if a := curl(t, url, "--cacert", ca, "--request", "DELETE"); a.status != 403 {
			t.Errorf("DELETE of a URL presigned for GET = %d, want 403", a.status)
		}
	})
	const conditional = "`s3api put-object --if-none-match '*'` twice"
	b.try(t, client, conditional, func(t *testing.T) {
		put := []string{"s3api", "put-object", "--bucket", "photos", "--key", "once", "--body", tempFile(t, "once"), "--if-none-match", "*"}
		if fails := func() string { return failing(t, env, path, append(put, "--endpoint-url", endpoint)...) }; olderThan(version, "aws-cli/2.17.35") {
			// The option is of August 2024.
			if got := fails(); !strings.Contains(got, "Unknown options: --if-none-match") {
				t.Errorf("%s has --if-none-match after all: %s", version, got)
			}
			b.result(t, client, conditional, "the client has no such option")
		} else {
			aws(t, put...)
			if got := fails(); !strings.Contains(got, "PreconditionFailed") {
				t.Errorf("the second put-object says %q, want PreconditionFailed", got)
			}
		}
	})
	b.try(t, client, "a wrong secret", func(t *testing.T) {
		got := failing(t, append(slices.Clone(env), "AWS_SECRET_ACCESS_KEY="+wrongSecret), path, "s3api", "list-objects-v2", "--bucket", "photos", "--endpoint-url", endpoint)
		if !strings.Contains(got, "SignatureDoesNotMatch") {
			t.Errorf("list-objects-v2 says %q, want SignatureDoesNotMatch", got)
		}
	})
}

// failing runs a program that must fail, and returns what it says.
func failing(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = env
	output, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("%s %q succeeds, want failure", filepath.Base(name), args)
	}
	return string(output)
}

// olderThan compares versions of one form, as aws-cli/2.9.19.
func olderThan(a, b string) bool {
	numbers := func(s string) (n [3]int) {
		fmt.Sscanf(s[strings.Index(s, "/")+1:], "%d.%d.%d", &n[0], &n[1], &n[2])
		return n
	}
	x, y := numbers(a), numbers(b)
	return a[:9] == b[:9] && slices.Compare(x[:], y[:]) < 0
}

// boto3, as it comes: default checksums, its transfer manager, presigning.
func TestInteropSignedBoto3(t *testing.T) {
	client := "boto3 " + pythonVersion(t, "boto3")
	eachBackend(t, func(t *testing.T, b *backend) {
		g, other := b.startTwo(t)
		// The same calls through the gateway, and to the server itself: what it
		// can't do, the gateway can't either.
		endpoint, ca := g.wire(t, client)
		s3 := startBoto3(t, endpoint, "alice", aliceKey, "AWS_CA_BUNDLE="+ca)
		direct := b.boto3(t)
		ok := func(t *testing.T, name string, a arguments) reply {
			t.Helper()
			r := s3.call(t, name, a)
			if r.Status/100 != 2 {
				t.Fatalf("%s = %d %s", name, r.Status, r.Code)
			}
			return r
		}
		large := noise(t, 20*mib)

		b.try(t, client, "`upload_fileobj` of a stream that can't seek, 20 MiB", func(t *testing.T) {
			ok(t, "upload_fileobj", arguments{"Body": large, "Bucket": "photos", "Key": "dir/large",
				"ExtraArgs": arguments{"Metadata": arguments{"colour": "blue", "two-words": "a b"}, "ContentType": "image/x-noise"}})
			if got := read(t, filepath.Join(b.dir, "photos", "dir", "large")); got != string(large) {
				t.Errorf("the server has %d other bytes", len(got))
			}
		})
		b.try(t, client, "metadata, names in lower case", func(t *testing.T) {
			ok(t, "put_object", arguments{"Body": []byte("x"), "Bucket": "photos", "Key": "dir/meta",
				"Metadata": arguments{"MixedCase": "Value", "two-words": "a b"}})
			got := ok(t, "head_object", arguments{"Bucket": "photos", "Key": "dir/meta"}).Result.Metadata
			want := direct.call(t, "head_object", arguments{"Bucket": "photos", "Key": "dir/meta"}).Result.Metadata
			if !maps.Equal(got, want) || got["mixedcase"] != "Value" || got["two-words"] != "a b" {
				t.Errorf("metadata = %q, directly %q", got, want)
			}
		})
		for _, target := range []struct{ what, bucket string }{
			{"managed `copy` in the account", "backups"},
			{"managed `copy` to another account", "elsewhere"},
		} {
			b.try(t, client, target.what, func(t *testing.T) {
				ok(t, "copy", arguments{"CopySource": arguments{"Bucket": "photos", "Key": "dir/large"}, "Bucket": target.bucket, "Key": "copy/large"})
				dir := filepath.Join(b.dir, "backups")
				if target.bucket == "elsewhere" {
					dir = filepath.Join(other.dir, "photos")
				}
				if got := read(t, filepath.Join(dir, "copy", "large")); got != string(large) {
					t.Errorf("the copy has %d other bytes", len(got))
				}
			})
		}
		b.try(t, client, "`copy_object` to another account and back, metadata kept", func(t *testing.T) {
			ok(t, "put_object", arguments{"Body": []byte("kept"), "Bucket": "photos", "Key": "dir/kept",
				"ContentType": "text/x-kept", "Metadata": arguments{"colour": "blue"}})
			ok(t, "copy_object", arguments{"CopySource": arguments{"Bucket": "photos", "Key": "dir/kept"}, "Bucket": "elsewhere", "Key": "dir/kept"})
			ok(t, "copy_object", arguments{"CopySource": arguments{"Bucket": "elsewhere", "Key": "dir/kept"}, "Bucket": "backups", "Key": "dir/back"})
			for bucket, key := range map[string]string{"elsewhere": "dir/kept", "backups": "dir/back"} {
				r := ok(t, "get_object", arguments{"Bucket": bucket, "Key": key})
				if string(r.Result.Body) != "kept" || r.Result.Metadata["colour"] != "blue" || r.Header["content-type"] != "text/x-kept" {
					t.Errorf("%s/%s is %q, %q, %s", bucket, key, r.Result.Body, r.Result.Metadata, r.Header["content-type"])
				}
			}
		})
		b.try(t, client, "paginator of `list_objects_v2`", func(t *testing.T) {
			for i := range 12 {
				ok(t, "put_object", arguments{"Body": []byte("x"), "Bucket": "backups", "Key": fmt.Sprintf("many/%02d", i)})
			}
			a := arguments{"Bucket": "backups", "Prefix": "many/", "PaginationConfig": arguments{"PageSize": 5}}
			got, want := s3.pages(t, "list_objects_v2", a), direct.pages(t, "list_objects_v2", a)
			if len(got) != 3 || !slices.Equal(keysOf(got...), keysOf(want...)) || len(keysOf(got...)) != 12 {
				t.Errorf("list_objects_v2 = %d pages, %q, want %d, %q", len(got), keysOf(got...), len(want), keysOf(want...))
			}
		})
		upload := ok(t, "create_multipart_upload", arguments{"Bucket": "backups", "Key": "pending"}).Result.UploadID
		for _, call := range []string{"list_object_versions", "list_multipart_uploads"} {
			what := "paginator of `" + call + "`"
			b.try(t, client, what, func(t *testing.T) {
				a := map[string]any{"call": call, "pages": true, "arguments": arguments{"Bucket": "backups", "PaginationConfig": arguments{"PageSize": 5}}}
				got, want := s3.send(t, a), direct.send(t, a)
				if call == "list_object_versions" && b.name == "rclone" && got.Status == 502 {
					// Its document is a ListBucketVersionsResult; S3's is a
					// ListVersionsResult, and nothing else will do.
					b.result(t, client, what, "not S3's document")
					return
				}
				if got.Status != want.Status || got.Code != want.Code || fmt.Sprint(got.Pages) != fmt.Sprint(want.Pages) {
					t.Errorf("%s = %d %s %v, directly %d %s %v", call, got.Status, got.Code, got.Pages, want.Status, want.Code, want.Pages)
				}
				if want.Status/100 != 2 {
					b.result(t, client, what, fmt.Sprintf("like the server: %d `%s`", want.Status, want.Code))
				} else if len(want.Pages) == 0 || len(want.Pages[0].Versions)+len(want.Pages[0].Uploads) == 0 {
					t.Errorf("directly, %s has nothing: %v", call, want.Pages)
				}
			})
		}
		ok(t, "abort_multipart_upload", arguments{"Bucket": "backups", "Key": "pending", "UploadId": upload})
		const tagging = "`put_object_tagging`, `get_`, `delete_`"
		b.try(t, client, tagging, func(t *testing.T) {
			tagged := arguments{"Bucket": "photos", "Key": "dir/meta"}
			put := maps.Clone(tagged)
			put["Tagging"] = arguments{"TagSet": []arguments{{"Key": "a b", "Value": "1 + 2"}}}
			want := direct.call(t, "put_object_tagging", put)
			if r := s3.call(t, "put_object_tagging", put); r.Status != want.Status || r.Code != want.Code {
				t.Errorf("put_object_tagging = %d %s, directly %d %s", r.Status, r.Code, want.Status, want.Code)
			}
			if want.Status/100 != 2 {
				b.result(t, client, tagging, fmt.Sprintf("like the server: %d `%s`", want.Status, want.Code))
				return
			}
			for _, call := range []string{"get_object_tagging", "delete_object_tagging", "get_object_tagging"} {
				got, want := s3.call(t, call, tagged), direct.call(t, call, tagged)
				if got.Status != want.Status || !slices.Equal(got.Result.TagSet, want.Result.TagSet) {
					t.Errorf("%s = %d %v, directly %d %v", call, got.Status, got.Result.TagSet, want.Status, want.Result.TagSet)
				}
			}
		})
		b.try(t, client, "presigned GET and PUT, by curl", func(t *testing.T) {
			sign := func(method string) string {
				return ok(t, "generate_presigned_url", arguments{"ClientMethod": method, "Params": arguments{"Bucket": "photos", "Key": "dir/a +ü"}}).Result.URL
			}
			if a := curl(t, sign("put_object"), "--cacert", ca, "--upload-file", tempFile(t, "presigned")); a.status != 200 {
				t.Errorf("PUT = %d %s", a.status, a.body)
			}
			if a := curl(t, sign("get_object"), "--cacert", ca); a.status != 200 || a.body != "presigned" {
				t.Errorf("GET = %d %s", a.status, a.body)
			}
		})
		b.try(t, client, "`delete_objects`", func(t *testing.T) {
			var objects []arguments
			for i := range 12 {
				objects = append(objects, arguments{"Key": fmt.Sprintf("many/%02d", i)})
			}
			ok(t, "delete_objects", arguments{"Bucket": "backups", "Delete": arguments{"Objects": objects}})
			for name := range b.files(t, "backups") {
				if strings.HasPrefix(name, "many/") {
					t.Errorf("after delete_objects the server has %s", name)
				}
			}
		})
	})
}

// pythonVersion returns the version of an installed package.
func pythonVersion(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "", environment(t), program(t, "venv/bin/python"), "-c",
		"import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))", name))
}

// One user, two doors: a client that sends x-api-key too is let in by it, whatever
// it signs with.
func TestInteropBothAuthenticationMethods(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		g := startGateway(t, b.config())
		first, second := g.boto3(t, bobKey), startBoto3(t, g.url, "bob", bobKey)
		b.try(t, "boto3 "+pythonVersion(t, "boto3"), "`x-api-key` and a key pair of nobody; then a key pair alone", func(t *testing.T) {
			for i, s3 := range []*boto{first, second} {
				content := fmt.Sprintf("door %d", i+1)
				if r := s3.call(t, "put_object", arguments{"Bucket": "photos", "Key": "k", "Body": []byte(content)}); r.Status != 200 {
					t.Errorf("%s: put_object = %d %s", content, r.Status, r.Code)
				}
				for _, reader := range []*boto{first, second} {
					if r := reader.call(t, "get_object", arguments{"Bucket": "photos", "Key": "k"}); string(r.Result.Body) != content {
						t.Errorf("%s: get_object = %d %s %q", content, r.Status, r.Code, r.Result.Body)
					}
				}
				if r := s3.call(t, "list_objects_v2", arguments{"Bucket": "backups"}); r.Status != 403 {
					t.Errorf("%s: list_objects_v2 of a bucket of others = %d %s, want 403", content, r.Status, r.Code)
				}
			}
			// With the key of another in x-api-key, the signature counts for nothing.
			if r := startBoto3(t, g.url, "alice", aliceKey, "X_API_KEY="+eveKey).call(t, "delete_object", arguments{"Bucket": "photos", "Key": "k"}); r.Status != 403 {
				t.Errorf("delete_object with a reader's x-api-key, signed by an admin = %d %s, want 403", r.Status, r.Code)
			}
			if r := startBoto3(t, g.url, "alice", aliceKey, "X_API_KEY=nobody-0123456789abcdef").call(t, "get_object", arguments{"Bucket": "photos", "Key": "k"}); r.Status != 401 {
				t.Errorf("get_object with nobody's x-api-key, signed by an admin = %d %s, want 401", r.Status, r.Code)
			}
		})
	})
}

// rclone, which is made with the AWS SDK for Go.
func TestInteropSignedRclone(t *testing.T) {
	client := strings.TrimSuffix(firstLine(run(t, "", environment(t), program(t, "bin/rclone"), "version")), "-DEV")
	client = strings.Replace(client, "rclone v", "rclone ", 1)
	eachBackend(t, func(t *testing.T, b *backend) {
		g, other := b.startTwo(t)
		endpoint, ca := g.wire(t, client)
		env := environment(t, "RCLONE_CA_CERT="+ca, "RCLONE_CONFIG_GW_TYPE=s3", "RCLONE_CONFIG_GW_PROVIDER=Other", "RCLONE_CONFIG_GW_ENDPOINT="+endpoint,
			"RCLONE_CONFIG_GW_ACCESS_KEY_ID=alice", "RCLONE_CONFIG_GW_SECRET_ACCESS_KEY="+aliceKey)
		rclone := func(t *testing.T, args ...string) string {
			t.Helper()
			// See TestInteropRclone for the one attempt and the one transfer.
			return run(t, "", env, program(t, "bin/rclone"), append(args, "--transfers", "1", "--retries", "1", "--low-level-retries", "1")...)
		}
		source := tree(t, 60)
		large := noise(t, 20*mib)
		if err := os.WriteFile(filepath.Join(source, "large.bin"), large, 0o666); err != nil {
			t.Fatal(err)
		}
		want := digests(t, source)

		b.try(t, client, "`sync`, and back", func(t *testing.T) {
			// From 5 MiB on in parts.
			rclone(t, "sync", source, "gw:photos", "--s3-upload-cutoff", "5Mi", "--s3-chunk-size", "5Mi")
			if got := b.files(t, "photos"); !maps.Equal(got, want) {
				t.Errorf("after rclone sync the server has %d files, want the same %d", len(got), len(want))
			}
			down := t.TempDir()
			rclone(t, "sync", "gw:photos", down)
			if got := digests(t, down); !maps.Equal(got, want) {
				t.Errorf("rclone sync brings back %d files, want the same %d", len(got), len(want))
			}
		})
		b.try(t, client, "`check`", func(t *testing.T) { rclone(t, "check", source, "gw:photos") })
		b.try(t, client, "`cat --offset`", func(t *testing.T) {
			if got := rclone(t, "cat", "gw:photos/large.bin", "--offset", "12345", "--count", "10"); got != string(large[12345:12355]) {
				t.Errorf("rclone cat of a range = %q, want %q", got, large[12345:12355])
			}
		})
		b.try(t, client, "`copy` on the server, in the account", func(t *testing.T) {
			rclone(t, "copy", "gw:photos", "gw:backups/copy")
			if got := digests(t, filepath.Join(b.dir, "backups", "copy")); !maps.Equal(got, want) {
				t.Errorf("after rclone copy the server has %d files, want the same %d", len(got), len(want))
			}
			g.wantAccessLine(t, map[string]any{"user": "alice", "operation": "CopyObject", "bucket": "backups", "status": 200.0})
		})
		b.try(t, client, "`copy` on the server, to another account", func(t *testing.T) {
			rclone(t, "copy", "gw:photos", "gw:elsewhere")
			if got := other.files(t, "photos"); !maps.Equal(got, want) {
				t.Errorf("after rclone copy the other server has %d files, want the same %d", len(got), len(want))
			}
			g.wantAccessLine(t, map[string]any{"user": "alice", "operation": "CopyObject", "bucket": "elsewhere", "status": 200.0})
		})
		b.try(t, client, "`delete`", func(t *testing.T) {
			rclone(t, "delete", "gw:photos")
			if left := b.files(t, "photos"); len(left) > 0 {
				t.Errorf("after rclone delete the server has %d files", len(left))
			}
		})
	})
}

// s3cmd, which signs for itself.
func TestInteropS3cmd(t *testing.T) {
	client := "s3cmd " + pythonVersion(t, "s3cmd")
	eachBackend(t, func(t *testing.T, b *backend) {
		g, other := b.startTwo(t)
		endpoint, ca := g.wire(t, client)
		host := strings.TrimPrefix(endpoint, "https://")
		// Without a placeholder for the bucket in host_bucket, it is in the path.
		file := tempFile(t, fmt.Sprintf("[default]\naccess_key = alice\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nca_certs_file = %s\n", aliceKey, host, host, ca))
		env := environment(t)
		s3cmd := func(t *testing.T, args ...string) string {
			t.Helper()
			return run(t, "", env, program(t, "venv/bin/python"), append([]string{program(t, "venv/bin/s3cmd"), "--config", file, "--no-progress"}, args...)...)
		}
		large := tempFile(t, string(noise(t, 20*mib)))
		want := fileDigest(t, large)

		b.try(t, client, "`put` of 20 MiB by multipart", func(t *testing.T) {
			s3cmd(t, "put", "--multipart-chunk-size-mb=5", large, "s3://photos/dir/large ü.bin")
			if got := b.files(t, "photos")["dir/large ü.bin"]; got != want {
				t.Errorf("the server has an object with SHA-256 %s, want %s", got, want)
			}
			g.wantAccessLine(t, map[string]any{"user": "alice", "operation": "CompleteMultipartUpload", "status": 200.0})
		})
		b.try(t, client, "`get`", func(t *testing.T) {
			down := tempFile(t, "")
			s3cmd(t, "get", "--force", "s3://photos/dir/large ü.bin", down)
			if got := fileDigest(t, down); got != want {
				t.Errorf("s3cmd get brings back SHA-256 %s, want %s", got, want)
			}
		})
		b.try(t, client, "`ls`", func(t *testing.T) {
			if got := s3cmd(t, "ls"); !strings.Contains(got, "s3://photos") || !strings.Contains(got, "s3://elsewhere") {
				t.Errorf("s3cmd ls = %q", got)
			}
			if got := s3cmd(t, "ls", "s3://photos/dir/"); !strings.HasSuffix(got, fmt.Sprintf(" %d  s3://photos/dir/large ü.bin\n", 20*mib)) {
				t.Errorf("s3cmd ls of a folder = %q", got)
			}
		})
		b.try(t, client, "`cp`, in the account and to another", func(t *testing.T) {
			small := tempFile(t, "copied")
			s3cmd(t, "put", small, "s3://photos/small")
			s3cmd(t, "cp", "s3://photos/small", "s3://backups/to/small")
			s3cmd(t, "cp", "s3://backups/to/small", "s3://elsewhere/to/small")
			if got := read(t, filepath.Join(other.dir, "photos", "to", "small")); got != "copied" {
				t.Errorf("the copy is %q", got)
			}
		})
		b.try(t, client, "`del`", func(t *testing.T) {
			s3cmd(t, "del", "s3://photos/small")
			s3cmd(t, "del", "--recursive", "--force", "s3://photos/dir/")
			if left := b.files(t, "photos"); len(left) > 0 {
				t.Errorf("after s3cmd del the server has %q", left)
			}
		})
	})
}

// The AWS SDK for JavaScript, with its transfer manager.
func TestInteropJavaScript(t *testing.T) {
	client := "@aws-sdk/client-s3 " + nodeVersion(t, "client-s3") + ", lib-storage " + nodeVersion(t, "lib-storage")
	eachBackend(t, func(t *testing.T, b *backend) {
		g, other := b.startTwo(t)
		endpoint, ca := g.wire(t, client)
		call := startNode(t, endpoint, "NODE_EXTRA_CA_CERTS="+ca)
		content := noise(t, 20*mib)
		file := tempFile(t, string(content))
		want := fileDigest(t, file)

		b.try(t, client, "`Upload` of a stream by multipart, 20 MiB", func(t *testing.T) {
			call(t, arguments{"call": "upload", "bucket": "photos", "key": "dir/large ü", "file": file})
			if got := b.files(t, "photos")["dir/large ü"]; got != want {
				t.Errorf("the server has an object with SHA-256 %s, want %s", got, want)
			}
			g.wantAccessLine(t, map[string]any{"user": "alice", "operation": "CompleteMultipartUpload", "status": 200.0})
		})
		b.try(t, client, "`PutObject` of a stream, 20 MiB", func(t *testing.T) {
			call(t, arguments{"call": "stream", "bucket": "photos", "key": "stream", "file": file})
			if got := b.files(t, "photos")["stream"]; got != want {
				t.Errorf("the server has an object with SHA-256 %s, want %s", got, want)
			}
		})
		b.try(t, client, "`GetObject`", func(t *testing.T) {
			got := call(t, arguments{"call": "get", "bucket": "photos", "key": "dir/large ü"})
			if got.SHA256 != want || got.Metadata["colour"] != "blue" {
				t.Errorf("GetObject = SHA-256 %s, metadata %q, want %s, blue", got.SHA256, got.Metadata, want)
			}
		})
		var names []string
		b.try(t, client, "`PutObject`, `paginateListObjectsV2`", func(t *testing.T) {
			for i := range 7 {
				names = append(names, fmt.Sprintf("many/%d", i))
				call(t, arguments{"call": "put", "bucket": "backups", "key": names[i], "body": "x"})
			}
			got := call(t, arguments{"call": "list", "bucket": "backups", "size": 3}).Pages
			if len(got) != 3 || !slices.Equal(slices.Concat(got...), names) {
				t.Errorf("pages = %q, want 3 with %q", got, names)
			}
		})
		b.try(t, client, "`CopyObject`, in the account and to another", func(t *testing.T) {
			call(t, arguments{"call": "copy", "source": "photos/dir/large%20%C3%BC", "bucket": "photos", "key": "copy"})
			call(t, arguments{"call": "copy", "source": "/photos/copy", "bucket": "elsewhere", "key": "copy"})
			if got, there := b.files(t, "photos")["copy"], other.files(t, "photos")["copy"]; got != want || there != want {
				t.Errorf("the copies have SHA-256 %s and %s, want %s", got, there, want)
			}
		})
		b.try(t, client, "`DeleteObjects`", func(t *testing.T) {
			call(t, arguments{"call": "delete", "bucket": "backups", "keys": names})
			if left := b.files(t, "backups"); len(left) > 0 {
				t.Errorf("after DeleteObjects the server has %q", left)
			}
		})
		b.try(t, client, "`getSignedUrl`, by curl", func(t *testing.T) {
			put := call(t, arguments{"call": "sign", "method": "PUT", "bucket": "photos", "key": "a +ü"}).URL
			if a := curl(t, put, "--cacert", ca, "--upload-file", tempFile(t, "presigned")); a.status != 200 {
				t.Errorf("PUT = %d %s", a.status, a.body)
			}
			if got := call(t, arguments{"call": "head", "bucket": "photos", "key": "a +ü"}); got.Metadata["realm_id"] != "2" {
				t.Errorf("the object has the metadata %q, want realm_id 2", got.Metadata)
			}
			get := call(t, arguments{"call": "sign", "method": "GET", "bucket": "photos", "key": "a +ü"}).URL
			if a := curl(t, get, "--cacert", ca); a.status != 200 || a.body != "presigned" {
				t.Errorf("GET = %d %s", a.status, a.body)
			}
		})
	})
}

// A nodeResult is what the JavaScript program answers.
type nodeResult struct {
	SHA256   string
	URL      string
	Metadata map[string]string
	Pages    [][]string
}

// startNode starts interop/s3calls.cjs and returns the function that makes one
// call, which must succeed.
func startNode(t *testing.T, endpoint string, more ...string) func(t *testing.T, a arguments) nodeResult {
	t.Helper()
	cmd := exec.Command(systemProgram(t, "node"), "s3calls.cjs")
	modules, err := filepath.Abs(program(t, "node/node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = keys(t, append(more, "NODE_PATH="+modules, "S3_ENDPOINT="+endpoint)...)
	in, out := converse(t, cmd)
	return func(t *testing.T, a arguments) nodeResult {
		t.Helper()
		if err := in.Encode(a); err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Status        int
			Code, Message string
			Result        nodeResult
		}
		if err := out.Decode(&answer); err != nil {
			t.Fatalf("%v: %v", a, err)
		}
		if answer.Status/100 != 2 {
			t.Fatalf("%v = %d %s %s", a, answer.Status, answer.Code, answer.Message)
		}
		return answer.Result
	}
}

func nodeVersion(t *testing.T, name string) string {
	t.Helper()
	var manifest struct{ Version string }
	if err := json.Unmarshal([]byte(read(t, program(t, "node/node_modules/@aws-sdk/"+name+"/package.json"))), &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Version
}
