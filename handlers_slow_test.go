package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// A slowCall is an operation that may take minutes.
type slowCall struct {
	name, request, body string
	root                string // of the answer
}

var slowCalls = []slowCall{
	{"CopyObject", "PUT /photos/k", "", "CopyObjectResult"},
	{"UploadPartCopy", "PUT /photos/k?partNumber=1&uploadId=u", "", "CopyPartResult"},
	{"CompleteMultipartUpload", "POST /photos/k?uploadId=u", completeDocument, "CompleteMultipartUploadResult"},
}

// begin sends the request of a slow call. The source of a copy is in the bucket source.
func (c slowCall) begin(g *testGateway, source, version string) (conn io.ReadCloser) {
	g.t.Helper()
	header := "X-Api-Key: " + adminKey + "\r\n"
	if c.body == "" {
		header += "X-Amz-Copy-Source: /" + source + "/from\r\n"
	}
	client := g.dial()
	g.t.Cleanup(func() { client.Close() })
	fmt.Fprintf(client, "%s %s\r\nHost: g\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s", c.request, version, len(c.body), header, c.body)
	return client
}

// slowAnswers returns a backend that answers writes once release is closed, with what
// answer writes.
func slowAnswers(t *testing.T, release <-chan struct{}, answer func(w http.ResponseWriter)) *recorder {
	return startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("tagging"):
			io.WriteString(w, "<Tagging><TagSet/></Tagging>")
		case r.Method == "GET":
			io.WriteString(w, "the source")
		default:
			select {
			case <-release:
			case <-r.Context().Done():
			}
			answer(w)
		}
	})
}

// readBeginning reads headers with the status 200, the XML declaration and white space.
func readBeginning(t *testing.T, conn io.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("while the backend is silent: %v, %v, want a 200", resp, err)
	}
	checkHardened(t, resp)
	beginning := make([]byte, len(xmlHeader)+3)
	if _, err := io.ReadFull(resp.Body, beginning); err != nil || string(beginning) != xmlHeader+"   " {
		t.Fatalf("the answer begins with %q, %v, want the declaration and white space", beginning, err)
	}
	return resp
}

// While the backend is silent, or sends white space, the client gets the beginning of an
// answer and white space.
func TestSlowOperationsGiveSignsOfLife(t *testing.T) {
	for _, call := range slowCalls {
		for _, silent := range []string{"before its answer", "within its document"} {
			t.Run(call.name+" "+silent, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				document := "<" + call.root + "><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag><Key>k</Key></" + call.root + ">"
				backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
					if silent == "within its document" {
						io.WriteString(w, document[:len(call.root)+2]+" ")
						w.(http.Flusher).Flush()
					}
					<-release
					io.WriteString(w, strings.TrimPrefix(document, map[bool]string{true: document[:len(call.root)+2]}[silent == "within its document"]))
				})
				g := startGateway(t, testConfig(backend.URL))
				g.gw.beats = beats{first: 20 * time.Millisecond, next: 20 * time.Millisecond}
				resp := readBeginning(t, call.begin(g, "photos", "HTTP/1.1"))
				close(release)
				rest, err := io.ReadAll(resp.Body)
				var doc struct {
					XMLName xml.Name
					ETag    string
				}
				if failure := xml.Unmarshal(rest, &doc); err != nil || failure != nil || doc.XMLName.Local != call.root || doc.ETag != `"e"` {
					t.Errorf("the answer goes on with %q, %v, %v", rest, err, failure)
				}
				if n := len(backend.requests()); n != 1 {
					t.Errorf("the backend got %d requests, want 1", n)
				}
			})
		}
	}
}

// A copy between accounts is slow itself. An error after the answer has begun is a
// document Error under the status 200, and is counted with its own status.
func TestCopyBetweenAccountsGivesSignsOfLife(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   string // in the rest of the answer
		status float64
	}{
		{"stored", func(w http.ResponseWriter) { w.Header().Set("ETag", `"e"`) }, "<ETag>&#34;e&#34;</ETag>", 200},
		{"refused", func(w http.ResponseWriter) {
			w.WriteHeader(403)
			io.WriteString(w, "<Error><Code>QuotaExceeded</Code></Error>")
		}, "<Error><Code>QuotaExceeded</Code>", 403},
		{"broken off", func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, "<Error><Code>BadGateway</Code>", 502},
	} {
		for _, call := range slowCalls[:2] {
			t.Run(test.name+" "+call.name, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				source := slowAnswers(t, release, nil)
				target := slowAnswers(t, release, test.answer)
				g := startGateway(t, twoAccounts(target.URL, source.URL))
				g.gw.beats = beats{first: 20 * time.Millisecond, next: 20 * time.Millisecond}
				resp := readBeginning(t, call.begin(g, "faraway", "HTTP/1.1"))
				close(release)
				if rest, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(rest), test.want) {
					t.Errorf("the answer goes on with %q, %v, want %s", rest, err, test.want)
				}
				await(t, "the log line", func() bool { return len(g.lines()) == 1 })
				if line := g.lines()[0]; line["status"] != test.status || line["aborted"] == true {
					t.Errorf("log = %v, want the status %v", line, test.status)
				}
			})
		}
	}
}

// An error before the answer has begun has its own status. An HTTP/1.0 client gets one
// answer with a length, however long it takes.
func TestSlowOperationsKeepTheirStatusWhileTheyCan(t *testing.T) {
	for _, call := range slowCalls {
		release := make(chan struct{})
		close(release)
		backend := slowAnswers(t, release, func(w http.ResponseWriter) {
			w.WriteHeader(404)
			io.WriteString(w, "<Error><Code>NoSuchUpload</Code></Error>")
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, body := readAnswer(t, "PUT", call.begin(g, "photos", "HTTP/1.1"))
		wantError(t, resp, body, 404, "NoSuchUpload")

		backend = startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			for range 10 {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				<-time.After(10 * time.Millisecond)
			}
			io.WriteString(w, "<"+call.root+"><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>e</ETag></"+call.root+">")
		})
		g = startGateway(t, testConfig(backend.URL))
		g.gw.beats = beats{first: 20 * time.Millisecond, next: 20 * time.Millisecond}
		resp, body = readAnswer(t, "PUT", call.begin(g, "photos", "HTTP/1.0"))
		if resp.StatusCode != 200 || resp.ContentLength != int64(len(body)) || !strings.HasSuffix(body, "</"+call.root+">") {
			t.Errorf("%s by HTTP/1.0 = %d with the length %d, %q, want the whole document and its length", call.name, resp.StatusCode, resp.ContentLength, body)
		}
	}
}

// A brokenWriter panics with what a peer sent.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Header() http.Header { panic(textproto.ProtocolError("canary")) }

func TestPanicOfASignOfLifeIsLoggedInOwnWords(t *testing.T) {
	var log syncBuffer
	x := &exchange{log: slog.New(slog.NewTextHandler(&log, nil)), id: "1", answer: answer{ResponseWriter: brokenWriter{httptest.NewRecorder()}}}
	(&heartbeat{x: x}).beat()
	if text := log.String(); !strings.Contains(text, "msg=panic request_id=1") || strings.Contains(text, "panic=canary") {
		t.Errorf("the log has %.300q, want a panic without its text", text)
	}
}
