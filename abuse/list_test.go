package abuse

// Lists: whatever a key holds and however a backend writes and breaks its documents, a
// client gets every key as it is, or no complete list.

import (
	"bufio"
	"compress/gzip"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// oddKeys are keys at which S3 servers and clients have stumbled.
var oddKeys = []string{
	" leading", "trailing ", "a b", "a+b", "a%2Fb", "a%20b", "%", "100%", "&amp;", `&<>"'`, "]]>", "<![CDATA[x]]>", "<!--x-->", "</Key><Key>forged",
	"\x01", "a\x1fb\x7f", "\t", "a\nb", "a\r\nb", "a\rb", "\u0085", "\u2028", "\ufffe", "\uffff", "\ufffd", "\ufeffbom", "é", "e\u0301", "日本", "😀", "a//b", "dir/", "?a=b&c#d",
	`a\b`, "a;b", "a=b", "~", "(x)", "*", "$", ",", "@", ":",
}

// xmlReference is a numeric reference, which is how keys are written that
// XML has no way to hold.
var xmlReference = regexp.MustCompile(`&(#x[0-9a-fA-F]+|#[0-9]+|lt|gt|amp|quot|apos);`)

// listedKeys reads the keys of a list as a lenient client does, which takes
// every numeric reference for what it says.
func listedKeys(t *testing.T, body string) []string {
	t.Helper()
	keys := []string{}
	encoded := strings.Contains(body, "<EncodingType>url</EncodingType>")
	for _, match := range regexp.MustCompile(`(?s)<Key>(.*?)</Key>`).FindAllStringSubmatch(body, -1) {
		key := xmlReference.ReplaceAllStringFunc(match[1], func(ref string) string {
			switch name := ref[1 : len(ref)-1]; {
			case strings.HasPrefix(name, "#x"):
				n, _ := strconv.ParseInt(name[2:], 16, 32)
				return string(rune(n))
			case name[0] == '#':
				n, _ := strconv.Atoi(name[1:])
				return string(rune(n))
			default:
				return map[string]string{"lt": "<", "gt": ">", "amp": "&", "quot": `"`, "apos": "'"}[name]
			}
		})
		if encoded {
			plain, err := url.QueryUnescape(key)
			if err != nil {
				t.Errorf("the key %q is not encoded as encoding-type=url wants it", key)
			}
			key = plain
		}
		keys = append(keys, key)
	}
	return keys
}

// One odd key neither breaks a list nor comes out as another key, in the whole
// list or in pages of either version; and what it is listed as is what it is
// fetched by.
func TestOddKeysAreListedAndFetched(t *testing.T) {
	backend := startStore(t)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	for _, key := range oddKeys {
		if resp, body := g.do("PUT", "/photos/"+escape(key), userKey, "body of "+key); resp.StatusCode != 200 {
			t.Fatalf("PUT %q = %d %s", key, resp.StatusCode, body)
		}
	}
	want := slices.Sorted(slices.Values(oddKeys))
	for _, encoding := range []string{"", "encoding-type=url&"} {
		for _, query := range []string{"", "list-type=2&max-keys=7&", "max-keys=7&"} {
			var got []string
			position := ""
			for range 20 {
				resp, body := g.do("GET", "/photos?"+query+encoding+position, readOnlyKey, "")
				if resp.StatusCode != 200 || resp.Header.Get("Test-Error") != "" {
					t.Fatalf("GET ?%s%s%s = %d %s", query, encoding, position, resp.StatusCode, body)
				}
				page := listedKeys(t, body)
				got = append(got, page...)
				if encoding != "" {
					var list struct { // for a strict parser too
						XMLName xml.Name `xml:"ListBucketResult"`
					}
					if err := xml.Unmarshal([]byte(body), &list); err != nil {
						t.Errorf("GET ?%s%s%s: %v", query, encoding, position, err)
					}
				}
				if !strings.Contains(body, "<IsTruncated>true</IsTruncated>") {
					break
				}
				position = "marker=" + escape(page[len(page)-1])
				if token := regexp.MustCompile(`<NextContinuationToken>(.*)</NextContinuationToken>`).FindStringSubmatch(body); token != nil {
					position = "continuation-token=" + escape(token[1])
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("the keys of ?%s%s = %q, want %q", query, encoding, got, want)
			}
		}
	}
	for _, key := range want {
		resp, body := g.do("GET", "/photos/"+escape(key), readOnlyKey, "")
		if resp.StatusCode != 200 || body != "body of "+key {
			t.Errorf("GET %q = %d %q, want its own body", key, resp.StatusCode, body)
		}
		for _, query := range []string{"prefix=", "list-type=2&prefix="} {
			_, body := g.do("GET", "/photos?"+query+escape(key), readOnlyKey, "")
			if !slices.Contains(listedKeys(t, body), key) {
				t.Errorf("GET ?%s%q = %s, want the key in it", query, key, body)
			}
		}
	}
}

// Servers differ in how they write a list. The keys are the same: those of a
// document that says it is encoded are decoded, others are not touched, so that
// "a%2Fb" stays a key of five characters.
func TestKeysAreTheSameHoweverABackendWritesThem(t *testing.T) {
	document := func(encoding, contents string) string {
		return xml.Header + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>photos</Name><Prefix></Prefix>` +
			encoding + `<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>` + contents + `</ListBucketResult>`
	}
	contents := func(keys ...string) string {
		var b strings.Builder
		for _, key := range keys {
			b.WriteString("<Contents><Key>" + key + "</Key><LastModified>2026-01-02T03:04:05Z</LastModified><Size>0</Size></Contents>")
		}
		return b.String()
	}
	const yes = "<EncodingType>url</EncodingType>"
	for _, test := range []struct {
		name string
		doc  string
		want []string
	}{
		{"encoded, as S3 does", document(yes, contents("a+b", "a%2Bb", "a%252Fb", "dir/x", "%01", "%26%3C%3E%22%27", "%5D%5D%3E", "%0D%0A", "%EF%BF%BE", "%F0%9F%98%80", "+leading")),
			[]string{"a b", "a+b", "a%2Fb", "dir/x", "\x01", `&<>"'`, "]]>", "\r\n", "\ufffe", "😀", " leading"}},
		{"encoded, as a path is", document(yes, contents("a%20b", "a%2Bb", "a%252Fb", "dir%2Fx", "%f0%9f%98%80")), []string{"a b", "a+b", "a%2Fb", "dir/x", "😀"}},
		{"the encoding named at the end", document("", contents("a%20b")+yes), []string{"a b"}},
		{"not encoded", document("", contents("a+b", "a%2Fb", "a%20b", "100%", "%zz", " leading", "&amp;&lt;&gt;&quot;&apos;", "]]&gt;", "&#13;&#10;", "&#x1F600;", "😀")),
			[]string{"a+b", "a%2Fb", "a%20b", "100%", "%zz", " leading", `&<>"'`, "]]>", "\r\n", "😀", "😀"}},
		{"sections of characters", document("", contents("<![CDATA[a&b<c>]]>", "<![CDATA[]]]]><![CDATA[>]]>")), []string{"a&b<c>", "]]>"}},
		{"white space between the elements", "\n" + strings.ReplaceAll(document("", contents(" a ")), "><", ">\n  <"), []string{" a "}},
		{"an empty encoding", document("<EncodingType></EncodingType>", contents("a%20b")), []string{"a%20b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("encoding-type") != "url" {
					t.Errorf("the backend is asked for %s, want encoding-type=url", r.RequestURI)
				}
				io.WriteString(w, strings.TrimPrefix(test.doc, "\n"))
			})
			g := startGateway(t, testConfig(backend.URL))
			for _, query := range []string{"", "?encoding-type=url", "?list-type=2", "?list-type=2&encoding-type=url", "?max-keys=1000", "?marker=&encoding-type=url"} {
				resp, body := g.do("GET", "/photos"+query, readOnlyKey, "")
				if got := listedKeys(t, body); resp.StatusCode != 200 || !slices.Equal(got, test.want) {
					t.Errorf("GET %q = %d with the keys %q, want %q", query, resp.StatusCode, got, test.want)
				}
				if asked := strings.Contains(query, "encoding-type"); strings.Contains(body, yes) != asked {
					t.Errorf("GET %q = %s; EncodingType is to be there if it was asked for", query, body)
				}
			}
		})
	}
}

// MinIO, and many a proxy in front of a server, compresses lists for clients
// that take it, as Go's own and most browsers do. The gateway reads the list,
// so what it can read is what it has to ask for.
func TestCompressedListIsNotAskedFor(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			io.WriteString(w, twoKeyList)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, twoKeyList)
		z.Close()
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, target := range []string{"/photos", "/photos?list-type=2", "/photos?max-keys=10"} {
		for _, header := range []string{"Accept-Encoding: gzip", "Accept-Encoding: gzip, deflate, br", "X-None: x"} {
			resp, body := g.do("GET", target, readOnlyKey, "", header)
			if got := listedKeys(t, body); resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "" || !slices.Equal(got, []string{"a", "b&c"}) {
				t.Errorf("GET %s, %s = %d %s, want the keys a and b&c", target, header, resp.StatusCode, body)
			}
		}
	}
}

// A prefix that no key can have, because it is not UTF-8, is refused, or at
// least does not make a document that no parser reads.
func TestInvalidUTF8InListParametersMakesNoBrokenXML(t *testing.T) {
	g := startGateway(t, testConfig(startStore(t).URL))
	for _, target := range []string{
		"/photos?prefix=%ff", "/photos?delimiter=%ff", "/photos?list-type=2&prefix=%c0%af", "/photos?marker=%ed%a0%80",
		"/photos?list-type=2&start-after=%ff", "/?prefix=%ff",
	} {
		_, body := g.do("GET", target, readOnlyKey, "")
		var any struct{ XMLName xml.Name }
		if err := xml.Unmarshal([]byte(body), &any); err != nil {
			t.Errorf("GET %s = %q: %v, want XML", target, body, err)
		}
	}
}

const twoKeyList = xml.Header + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>photos</Name><IsTruncated>false</IsTruncated><KeyCount>2</KeyCount>` +
	`<Contents><Key>a</Key></Contents><Contents><Key>b&amp;c</Key></Contents></ListBucketResult>`

// A list that was cut is a 502, wherever it was cut and however its length was
// told: a client that syncs by a shorter list deletes what is not in it.
func TestListCutIsBadGateway(t *testing.T) {
	var cut atomic.Int64
	var framing atomic.Value
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		n := int(cut.Load())
		switch framing.Load() {
		case "length of the whole":
			w.Header().Set("Content-Length", strconv.Itoa(len(twoKeyList)))
			io.WriteString(w, twoKeyList[:n])
			w.(http.Flusher).Flush()
			if n < len(twoKeyList) {
				panic(http.ErrAbortHandler)
			}
		case "length of the part":
			w.Header().Set("Content-Length", strconv.Itoa(n))
			io.WriteString(w, twoKeyList[:n])
		case "chunks, broken":
			w.(http.Flusher).Flush()
			io.WriteString(w, twoKeyList[:n])
			w.(http.Flusher).Flush()
			if n < len(twoKeyList) {
				panic(http.ErrAbortHandler)
			}
		case "chunks, ended":
			w.(http.Flusher).Flush()
			io.WriteString(w, twoKeyList[:n])
		case "the end of the connection":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Type: application/xml\r\n\r\n"+twoKeyList[:n])
			conn.Close()
		}
	})
	g := startGateway(t, testConfig(backend.URL))
	targets := []string{"/photos", "/photos?list-type=2", "/photos?max-keys=10"}
	for i, how := range []string{"length of the whole", "length of the part", "chunks, broken", "chunks, ended", "the end of the connection"} {
		framing.Store(how)
		for n := range len(twoKeyList) {
			cut.Store(int64(n))
			target := targets[(n+i)%len(targets)]
			resp, body := g.do("GET", target, readOnlyKey, "")
			if code := refusalCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
				t.Fatalf("GET %s of a list cut after %d of %d bytes (%s) = %d %s, want 502", target, n, len(twoKeyList), how, resp.StatusCode, body)
			}
		}
		cut.Store(int64(len(twoKeyList)))
		resp, body := g.do("GET", targets[i%len(targets)], readOnlyKey, "")
		if how == "the end of the connection" { // which is no end, whatever came before it
			if code := refusalCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
				t.Errorf("the whole list (%s) = %d %s, want 502", how, resp.StatusCode, body)
			}
			continue
		}
		if got := listedKeys(t, body); resp.StatusCode != 200 || !slices.Equal(got, []string{"a", "b&c"}) {
			t.Errorf("the whole list (%s) = %d %s, want a and b&c", how, resp.StatusCode, body)
		}
	}
}

// A whole list whose next page does not come, or leads nowhere, breaks off: the
// document has no end, and the connection no proper one.
func TestListBreaksOffWhenALaterPageIsMissing(t *testing.T) {
	page := func(head, keys string) string {
		return `<ListBucketResult><Name>photos</Name>` + head + `<Contents><Key>` + keys + `</Key></Contents></ListBucketResult>`
	}
	more := func(token string) string {
		return "<IsTruncated>true</IsTruncated><NextContinuationToken>" + token + "</NextContinuationToken>"
	}
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code); io.WriteString(w, body) }
	}
	for _, test := range []struct {
		name string
		next http.HandlerFunc // the second page
	}{
		{"500", status(500, "")},
		{"403", status(403, "<Error><Code>AccessDenied</Code></Error>")},
		{"404", status(404, "<Error><Code>NoSuchBucket</Code></Error>")},
		{"redirect", status(301, "")},
		{"204", status(204, "")},
		{"nothing", write("")},
		{"not XML", write("oops")},
		{"an error with status 200", write("<Error><Code>InternalError</Code></Error>")},
		{"cut", write(page("<IsTruncated>false</IsTruncated>", "b")[:60])},
		{"broken", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, page("", "b")[:60])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{"no answer", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
		{"the same token again", write(page(more("2"), "b"))},
		{"truncated, no token", write(page("<IsTruncated>true</IsTruncated>", "b"))},
		{"truncated, an empty token", write(page(more(""), "b"))},
		{"a key that is not properly encoded", write(page("<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>", "%zz"))},
		{"too many elements", write(page("<IsTruncated>false</IsTruncated>", "b"+strings.Repeat("<a/>", 160_000)))},
		{"nested tags", write(page("<IsTruncated>false</IsTruncated>", strings.Repeat("<a>", 1_000_000)))},
		{"silence", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("continuation-token") {
					test.next(w, r)
					return
				}
				io.WriteString(w, page(more("2"), "a"))
			})
			g := startGateway(t, testConfig(backend.URL, with("server.idle_timeout", "1s")))
			resp, body := g.do("GET", "/photos", readOnlyKey, "")
			if resp.StatusCode != 200 || resp.Header.Get("Test-Error") == "" {
				t.Errorf("GET = %d %q, want a 200 that breaks off", resp.StatusCode, body)
			}
			var any struct{ XMLName xml.Name }
			if err := xml.Unmarshal([]byte(body), &any); err == nil || strings.Contains(body, "</ListBucketResult>") {
				t.Errorf("%q: want a document without its end", body)
			}
			if !strings.Contains(body, "<Key>a</Key>") {
				t.Errorf("%q: want the first page in it", body)
			}
			if line := g.lines(1)[0]; line["aborted"] != true || line["cause"] == nil {
				t.Errorf("log = %v, want aborted and a cause", line)
			}
			if n := len(backend.requests()); n > 7 { // three attempts, each of which net/http may have made twice
				t.Errorf("the backend got %d requests, want at most 7", n)
			}
		})
	}
}

// A page says whether there are more in one of the forms of an XML boolean, or
// by a token for the next. A list that stops there would be a shorter one.
func TestListHasAllPagesHoweverMoreIsSaid(t *testing.T) {
	for _, more := range []string{
		"<IsTruncated>true</IsTruncated>", "<IsTruncated>1</IsTruncated>", "<IsTruncated> true </IsTruncated>", "<IsTruncated>True</IsTruncated>", "",
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("continuation-token") {
				io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>b</Key></Contents></ListBucketResult>`)
				return
			}
			io.WriteString(w, `<ListBucketResult>`+more+`<NextContinuationToken>2</NextContinuationToken><Contents><Key>a</Key></Contents></ListBucketResult>`)
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, body := g.do("GET", "/photos", readOnlyKey, "")
		whole := resp.StatusCode == 200 && resp.Header.Get("Test-Error") == ""
		if whole && !slices.Equal(listedKeys(t, body), []string{"a", "b"}) {
			t.Errorf("a first page with %q and a token = %s, want both pages, or no end", more, body)
		}
	}
}

// A page beyond the bounds is a 502, and costs little more than its bytes.
func TestListPageIsBounded(t *testing.T) {
	const million = 1_000_000
	for _, test := range []struct{ name, begin, repeat string }{
		{"nested tags", "<ListBucketResult>", "<a>"},
		{"tags", "<ListBucketResult>", "<a></a>"},
		{"a name", "<", "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			thousand := strings.Repeat(test.repeat, 1000)
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, test.begin)
				for range million / 1000 {
					if _, err := io.WriteString(w, thousand); err != nil {
						return
					}
				}
			})
			g := startGateway(t, testConfig(backend.URL))
			idle := processMemory(t, g.process.Pid, "VmRSS")
			if resp, _ := g.do("GET", "/photos", readOnlyKey, ""); resp.StatusCode != 502 {
				t.Errorf("GET = %d, want 502", resp.StatusCode)
			}
			if peak := processMemory(t, g.process.Pid, "VmHWM"); peak-idle > memoryBound() {
				t.Errorf("memory grew by %d MiB, want less than %d", (peak-idle)>>20, memoryBound()>>20)
			}
			if n := len(g.log()); n > 64<<10 {
				t.Errorf("the log has %d bytes of it, want a few", n)
			}
		})
	}
}

// What a backend sends is in the log in part only: a line of it has an end.
func TestLineOfTheLogIsBounded(t *testing.T) {
	long := strings.Repeat("a", 60_000)
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 60026\r\n\r\n<ListBucketResult><" + long + "></b>",
		"HTTP/1.1 200 OK\r\n" + long + "\r\n\r\n",
		long + "\r\n\r\n",
	} {
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, answer)
		})
		g := startGateway(t, testConfig(endpoint))
		resp, body := g.do("GET", "/photos", readOnlyKey, "")
		if code := refusalCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
			t.Errorf("GET = %d %s, want 502", resp.StatusCode, body)
		}
		await(t, "the line in the log", func() bool { return strings.Contains(g.log(), `"msg":"request"`) })
		for line := range strings.Lines(g.log()) {
			if len(line) > 16<<10 {
				t.Errorf("a line of the log has %d bytes, want a few hundred: %.200s", len(line), line)
			}
		}
	}
}
