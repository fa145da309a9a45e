package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// askBackend sends a request directly to the backend, signed for it, and returns the body
// of the answer.
func askBackend(t *testing.T, backend *httptest.Server, method, path, query string) (string, error) {
	t.Helper()
	params, err := parseQuery(query)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(method, backend.URL, nil)
	if err != nil {
		return "", err
	}
	req.URL.Path, req.URL.RawPath, req.URL.RawQuery = path, uriEncode(path, false), canonicalQuery(params)
	s := signer{region: "us-east-1"}
	s.sign(req, &testCredentials, emptyPayload, time.Now())
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%s %s = %d %s", method, path, resp.StatusCode, body)
	}
	return string(body), err
}

// fillDemo puts empty objects into the bucket photos.
func fillDemo(t *testing.T, backend *httptest.Server, keys ...string) {
	t.Helper()
	var writers sync.WaitGroup
	next := make(chan string)
	for range 8 {
		writers.Go(func() {
			for key := range next {
				if _, err := askBackend(t, backend, "PUT", "/photos/"+key, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, key := range keys {
		next <- key
	}
	close(next)
	writers.Wait()
}

// A listedDocument is a list as a client reads it.
type listedDocument struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                string
	Marker                *string
	NextMarker            *string
	StartAfter            *string
	ContinuationToken     *string
	NextContinuationToken *string
	KeyCount              *int
	MaxKeys               *int
	Delimiter             *string
	EncodingType          string
	IsTruncated           *bool
	Contents              []listedObject
	CommonPrefixes        []struct{ Prefix string }
}

type listedObject struct {
	Key, LastModified, ETag, Size, StorageClass string
	Owner                                       *struct{ ID, DisplayName string }
}

// readList parses a list, and decodes it if it says that it is encoded.
func readList(t testing.TB, body string) *listedDocument {
	t.Helper()
	var d listedDocument
	if err := xml.Unmarshal([]byte(body), &d); err != nil {
		t.Fatalf("a list that is not XML: %v\n%.2000s", err, body)
	}
	if d.EncodingType == "" {
		return &d
	}
	fields := []*string{&d.Prefix, d.Marker, d.NextMarker, d.StartAfter, d.Delimiter}
	for i := range d.Contents {
		fields = append(fields, &d.Contents[i].Key)
	}
	for i := range d.CommonPrefixes {
		fields = append(fields, &d.CommonPrefixes[i].Prefix)
	}
	for _, field := range fields {
		if field == nil {
			continue
		}
		text, err := url.QueryUnescape(*field)
		if err != nil {
			t.Fatalf("%q is not encoded as encoding-type=url wants it", *field)
		}
		*field = text
	}
	return &d
}

func (d *listedDocument) keys() []string {
	keys := []string{}
	for _, c := range d.Contents {
		keys = append(keys, c.Key)
	}
	return keys
}

func (d *listedDocument) prefixes() []string {
	prefixes := []string{}
	for _, p := range d.CommonPrefixes {
		prefixes = append(prefixes, p.Prefix)
	}
	return prefixes
}

// ownedBy replaces the owner of each object that has one.
func (d *listedDocument) ownedBy(user string) *listedDocument {
	for i := range d.Contents {
		if o := d.Contents[i].Owner; o != nil {
			o.ID, o.DisplayName = user, user
		}
	}
	return d
}

// listBackend returns a list as the backend itself sends it.
func listBackend(t *testing.T, backend *httptest.Server, query string) *listedDocument {
	t.Helper()
	body, err := askBackend(t, backend, "GET", "/photos", query)
	if err != nil {
		t.Fatal(err)
	}
	return readList(t, body)
}

func (g *testGateway) list(query string) *listedDocument {
	g.t.Helper()
	target := "/photos"
	if query != "" {
		target += "?" + query
	}
	resp, body := g.do("GET", target, readOnlyKey, "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/xml" || resp.Header.Get("Test-Error") != "" {
		g.t.Fatalf("GET %s = %d %s, %v", target, resp.StatusCode, body, resp.Header)
	}
	checkHardened(g.t, resp)
	return readList(g.t, body)
}

// A page through the gateway has the entries of the backend's own page, for each
// parameter, both versions of the operation, and all pages of a list. The order of encoded
// keys may differ from that of plain ones.
func TestListPagesAreTheBackends(t *testing.T) {
	backend := startDemoBackend(t)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	fillDemo(t, backend, "a", "a b", "a+b", "a/1", "a/2", "a/b/3", "b%2Fc", "b/1", "c&d<e>", "é/x", "é/y", "z", "z\x01", "😀")
	for _, query := range []string{
		"list-type=2", "list-type=2&max-keys=3", "list-type=2&max-keys=1000", "list-type=2&max-keys=0",
		"list-type=2&prefix=a", "list-type=2&prefix=a/&max-keys=1", "list-type=2&delimiter=/", "list-type=2&delimiter=/&max-keys=2",
		"list-type=2&prefix=a/&delimiter=/", "list-type=2&start-after=a/1", "list-type=2&start-after=a%20b&max-keys=2",
		"list-type=2&fetch-owner=true&max-keys=4", "list-type=2&prefix=nothing", "list-type=2&delimiter=b&prefix=a%2B",
		"max-keys=1000", "max-keys=3", "max-keys=0", "marker=a/1", "marker=a%20b&max-keys=3", "max-keys=2&delimiter=/",
		"max-keys=5&prefix=a", "marker=&delimiter=/", "max-keys=1&delimiter=/&prefix=a/",
	} {
		t.Run(query, func(t *testing.T) {
			g.t = t
			for page := 0; ; page++ {
				got := g.list(query + "&encoding-type=url")
				want := listBackend(t, backend, query+"&encoding-type=url").ownedBy("ro")
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("page %d of %s =\n%s, want\n%s", page, query, listText(got), listText(want))
				}
				if query = nextPage(query, want); query == "" {
					return
				}
				if page > 20 {
					t.Fatal("no end")
				}
			}
		})
	}
}

func listText(d *listedDocument) string {
	text, _ := xml.Marshal(d)
	return string(text)
}

// nextPage returns the query for the page after d, or "" if d is the last.
func nextPage(query string, d *listedDocument) string {
	if d.IsTruncated == nil || !*d.IsTruncated {
		return ""
	}
	without := func(name string) string {
		return strings.Join(slices.DeleteFunc(strings.Split(query, "&"), func(p string) bool { return strings.HasPrefix(p, name+"=") }), "&")
	}
	if d.NextContinuationToken != nil {
		return without("continuation-token") + "&continuation-token=" + uriEncode(*d.NextContinuationToken, true)
	}
	next := ""
	if n := len(d.Contents); n > 0 { // without a delimiter the next marker is the last key
		next = d.Contents[n-1].Key
	}
	if d.NextMarker != nil {
		next = *d.NextMarker
	}
	return without("marker") + "&marker=" + uriEncode(next, true)
}

// A client that sends no encoding-type gets plain keys and no EncodingType, although the
// gateway asks the backend for encoded keys.
func TestListPageWithoutEncoding(t *testing.T) {
	backend := startDemoBackend(t)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	fillDemo(t, backend, "a b", "a%20b", "a+b", "c/d e", "é&<>")
	for _, query := range []string{"list-type=2", "list-type=2&delimiter=/", "max-keys=3", "marker=a%20b&delimiter=%20"} {
		got, want := g.list(query), listBackend(t, backend, query).ownedBy("ro")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s =\n%s, want\n%s", query, listText(got), listText(want))
		}
	}
}

// 2,500 keys on three pages become one document: V1, not truncated, in order.
func TestListAllInOneDocument(t *testing.T) {
	backend := startDemoBackend(t)
	recording := startRecorder(t, backend.Config.Handler.ServeHTTP)
	g := startGateway(t, testConfig(recording.URL, with("nested_keys", true)))
	var keys []string
	for i := range 2500 {
		keys = append(keys, fmt.Sprintf("dir %d/%05d", i%2, i))
	}
	fillDemo(t, backend, keys...)
	slices.Sort(keys)

	got := g.list("")
	if !slices.Equal(got.keys(), keys) {
		t.Errorf("%d keys, want all %d in order", len(got.keys()), len(keys))
	}
	if got.IsTruncated == nil || *got.IsTruncated || got.NextMarker != nil || got.NextContinuationToken != nil || got.Name != "photos" || got.Marker == nil {
		t.Errorf("the head = %s, want a V1 list of photos that is not truncated", listText(&listedDocument{Name: got.Name, IsTruncated: got.IsTruncated}))
	}
	pages := recording.requests()
	if len(pages) != 3 {
		t.Errorf("%d pages asked for, want 3: %+v", len(pages), pages)
	}
	for _, page := range pages {
		if !strings.Contains(page.uri, "encoding-type=url") || !strings.Contains(page.uri, "list-type=2") {
			t.Errorf("page %s, want list-type=2 and encoding-type=url", page.uri)
		}
	}

	half := g.list("prefix=dir%201/&encoding-type=url")
	if len(half.Contents) != 1250 || half.Prefix != "dir 1/" || half.EncodingType != "url" {
		t.Errorf("the list of a prefix: %d keys, prefix %q, want 1250 keys of dir 1/", len(half.Contents), half.Prefix)
	}
	groups := g.list("delimiter=/")
	if !slices.Equal(groups.prefixes(), []string{"dir 0/", "dir 1/"}) || len(groups.Contents) != 0 || groups.Delimiter == nil || *groups.Delimiter != "/" {
		t.Errorf("the list with a delimiter = %s, want two common prefixes", listText(groups))
	}
	empty := g.list("prefix=none")
	if len(empty.Contents) != 0 || empty.IsTruncated == nil || *empty.IsTruncated {
		t.Errorf("the list of nothing = %s", listText(empty))
	}
}

// The client gets the first page before the gateway has the second: the backend sends the
// second only after the client has read the first.
func TestListAllStreams(t *testing.T) {
	firstRead := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("continuation-token") {
			io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t/2+=</NextContinuationToken><Contents><Key>first</Key></Contents></ListBucketResult>`)
			return
		}
		select {
		case <-firstRead:
		case <-time.After(10 * time.Second):
			t.Error("the second page was asked for, and the first is not with the client")
		}
		if token := r.URL.Query().Get("continuation-token"); token != "t/2+=" {
			t.Errorf("continuation-token = %q, want t/2+=", token)
		}
		io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>second</Key></Contents></ListBucketResult>`)
	})
	g := startGateway(t, testConfig(backend.URL))
	req, _ := http.NewRequest("GET", g.url+"/photos", nil)
	req.Header.Set("X-Api-Key", userKey)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var read []byte
	for buffer := make([]byte, 1024); !strings.Contains(string(read), "<Key>first</Key>"); {
		n, err := resp.Body.Read(buffer)
		if read = append(read, buffer[:n]...); err != nil {
			t.Fatalf("%s: %v", read, err)
		}
	}
	close(firstRead)
	rest, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := readList(t, string(read)+string(rest)).keys(); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("keys = %q, want first and second", got)
	}
}

// The parameters of lists, and those that are refused before a backend is asked.
func TestListParameters(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, test := range []struct {
		query  string
		status int
		code   string
	}{
		{"list-type=1", 400, "InvalidArgument"},
		{"list-type=", 400, "InvalidArgument"},
		{"list-type=2&encoding-type=xml", 400, "InvalidArgument"},
		{"encoding-type=", 400, "InvalidArgument"},
		{"max-keys=-1", 400, "InvalidArgument"},
		{"max-keys=ten", 400, "InvalidArgument"},
		{"max-keys=", 400, "InvalidArgument"},
		{"max-keys=2147483648", 400, "InvalidArgument"},
		{"list-type=2&max-keys=1e3", 400, "InvalidArgument"},
		{"list-type=2&marker=a", 501, "NotImplemented"},
		{"nosuch", 501, "NotImplemented"},
		{"versions&marker=a", 501, "NotImplemented"},
		{"versions&list-type=2", 501, "NotImplemented"},
		{"versions&max-keys=ten", 400, "InvalidArgument"},
		{"versions&encoding-type=xml", 400, "InvalidArgument"},
		{"uploads&encoding-type=xml", 400, "InvalidArgument"},
		{"uploads&max-keys=1", 501, "NotImplemented"},
		{"prefix=a&prefix=b", 400, "InvalidArgument"},
	} {
		resp, body := g.do("GET", "/photos?"+test.query, userKey, "")
		var e struct{ Code string }
		if err := xml.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != test.status || e.Code != test.code {
			t.Errorf("GET /photos?%s = %d %s, want %d %s", test.query, resp.StatusCode, body, test.status, test.code)
		}
		checkHardened(t, resp)
	}
	backend.wantNone(t)
	for _, test := range []struct{ query, want string }{
		{"", "/photos?encoding-type=url&list-type=2"},
		{"prefix=a%20b", "/photos?encoding-type=url&list-type=2&prefix=a%20b"},
		{"max-keys=7", "/photos?encoding-type=url&max-keys=7"},
		{"marker=m", "/photos?encoding-type=url&marker=m"},
		{"start-after=m", "/photos?encoding-type=url&list-type=2&start-after=m"},
		{"continuation-token=a%2Bb%3D", "/photos?continuation-token=a%2Bb%3D&encoding-type=url&list-type=2"},
		{"list-type=2&fetch-owner=true&max-keys=2147483647", "/photos?encoding-type=url&fetch-owner=true&list-type=2&max-keys=2147483647"},
	} {
		g.do("GET", "/photos?"+test.query, userKey, "")
		seen := backend.requests()
		if len(seen) == 0 || seen[len(seen)-1].uri != test.want {
			t.Errorf("GET /photos?%s asks the backend for %v, want %s", test.query, seen, test.want)
		}
	}
}

// ListBuckets answers with the buckets that the user may see, sorted, and in pages if the
// client asks for them.
func TestListBuckets(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL,
		with("accounts.main.buckets", []any{"photos", "secret", "b-2", "b-1", "b-3"}),
		with("users.user.allowed_buckets", []any{"photos", "b-2"})))
	for _, test := range []struct {
		query, key string
		want       string // the buckets, and the continuation token after a colon
	}{
		{"", adminKey, "b-1 b-2 b-3 photos secret:"},
		{"", userKey, "b-2 photos:"},
		{"", noneKey, ":"},
		{"prefix=b-", adminKey, "b-1 b-2 b-3:"},
		{"prefix=x", adminKey, ":"},
		{"prefix=s", userKey, ":"},
		{"max-buckets=2", adminKey, "b-1 b-2:b-2"},
		{"max-buckets=2&continuation-token=b-2", adminKey, "b-3 photos:photos"},
		{"max-buckets=2&continuation-token=photos", adminKey, "secret:"},
		{"max-buckets=5", adminKey, "b-1 b-2 b-3 photos secret:"},
		{"max-buckets=10000", adminKey, "b-1 b-2 b-3 photos secret:"},
		{"max-buckets=2&prefix=b-", adminKey, "b-1 b-2:b-2"},
		{"max-buckets=2&prefix=b-&continuation-token=b-2", adminKey, "b-3:"},
		{"max-buckets=1", userKey, "b-2:b-2"},
		{"max-buckets=1&continuation-token=b-2", userKey, "photos:"},
		{"continuation-token=zzz", adminKey, ":"},
		{"x-id=ListBuckets", userKey, "b-2 photos:"},
	} {
		resp, body := g.do("GET", "/?"+test.query, test.key, "")
		var doc struct {
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
			Owner   struct{ ID, DisplayName string }
			Buckets struct {
				Bucket []struct{ Name, CreationDate string }
			}
			ContinuationToken, Prefix string
		}
		if err := xml.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 {
			t.Errorf("GET /?%s = %d %s, %v", test.query, resp.StatusCode, body, err)
			continue
		}
		checkHardened(t, resp)
		var names []string
		for _, b := range doc.Buckets.Bucket {
			names = append(names, b.Name)
			if _, err := time.Parse("2006-01-02T15:04:05.000Z", b.CreationDate); err != nil {
				t.Errorf("CreationDate %q: %v", b.CreationDate, err)
			}
		}
		if got := strings.Join(names, " ") + ":" + doc.ContinuationToken; got != test.want {
			t.Errorf("GET /?%s by %s = %q, want %q", test.query, doc.Owner.ID, got, test.want)
		}
	}
	for _, query := range []string{"max-buckets=0", "max-buckets=10001", "max-buckets=-1", "max-buckets=x", "max-buckets="} {
		resp, body := g.do("GET", "/?"+query, adminKey, "")
		if resp.StatusCode != 400 || !strings.Contains(body, "<Code>InvalidArgument</Code>") {
			t.Errorf("GET /?%s = %d %s, want 400 InvalidArgument", query, resp.StatusCode, body)
		}
	}
	backend.wantNone(t)
}

// A page is passed on only if the whole answer is a list.
func TestListPageIsWhole(t *testing.T) {
	const list = `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key></Contents></ListBucketResult>`
	for _, test := range []struct {
		name, body string
		length     int // announced
		status     int
	}{
		{"whole", list, len(list), 200},
		{"white space after", list + " \n", len(list) + 2, 200},
		{"cut in the list", list[:50], len(list), 502},
		{"cut after the list", list, len(list) + 1, 502},
		{"two lists", list + list, 2 * len(list), 502},
		{"text after", list + "x", len(list) + 1, 502},
	} {
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err == nil {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", test.length, test.body)
			}
		})
		g := startGateway(t, testConfig(endpoint))
		for _, query := range []string{"", "?list-type=2"} {
			if resp, body := g.do("GET", "/photos"+query, userKey, ""); resp.StatusCode != test.status {
				t.Errorf("%s: GET /photos%s = %d %s, want %d", test.name, query, resp.StatusCode, body, test.status)
			}
		}
	}
}

// Lists that are read concurrently, and in memory that is used again, do not mix, even if
// some of them break off.
func TestListPagesDoNotMix(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		prefix := r.URL.Query().Get("prefix")
		fmt.Fprintf(w, `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>`)
		for i := range 100 {
			fmt.Fprintf(w, `<Contents><Key>%s%%20%d</Key><ETag>&quot;%s&quot;</ETag></Contents>`, prefix, i, prefix)
		}
		if !strings.HasPrefix(prefix, "cut") {
			io.WriteString(w, `</ListBucketResult>`)
		}
	})
	g := startGateway(t, testConfig(backend.URL))
	var clients sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			for i := range 20 {
				prefix := fmt.Sprintf("client%d-%d", client, i)
				if i%5 == 4 {
					g.do("GET", "/photos?list-type=2&prefix=cut"+prefix, userKey, "")
				}
				_, body := g.do("GET", "/photos?"+[]string{"list-type=2&", ""}[i%2]+"prefix="+prefix, userKey, "")
				keys := strings.Count(body, "<Key>"+prefix+" ")
				if tags := strings.Count(body, "<ETag>&#34;"+prefix+"&#34;"); keys != 100 || tags != 100 || strings.Count(body, "<Key>") != 100 {
					t.Errorf("the list of %s has %d keys and %d ETags of its own, want 100: %.300s", prefix, keys, tags, body)
				}
			}
		})
	}
	clients.Wait()
}

// aPage returns a page of 1,000 keys, as S3 sends it.
func aPage() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
		`<Name>photos</Name><Prefix></Prefix><KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>`)
	for i := range 1000 {
		fmt.Fprintf(&b, `<Contents><Key>2026/%02d/photo-%06d.jpg</Key><LastModified>2026-11-23T12:00:00.000Z</LastModified>`+
			`<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, i%12+1, i, i*1000)
	}
	return b.String() + `</ListBucketResult>`
}

// BenchmarkListPage measures a page of 1,000 keys: reading it and writing it anew, only
// writing it, with and without its keys, and a whole request, including what client and
// backend do.
func BenchmarkListPage(b *testing.B) {
	doc := aPage()
	b.Run("part=rewrite", func(b *testing.B) {
		w := &answerWriter{user: "user", bucket: "photos", encodeURL: true}
		b.SetBytes(int64(len(doc)))
		b.ReportAllocs()
		for b.Loop() {
			p := pageBuffers.Get().(*listedPage)
			if err := p.read(strings.NewReader(doc), int64(len(doc)), answerSpecs["ListObjectsV2"], nil); err != nil {
				b.Fatal(err)
			}
			buffer := listBuffers.Get().(*[]byte)
			if *buffer = w.appendRoot((*buffer)[:0], &p.element, p.form); len(*buffer) < len(doc)*9/10 {
				b.Fatalf("%d bytes are written of %d", len(*buffer), len(doc))
			}
			p.free()
			freeListBuffer(buffer)
		}
	})
	for _, keys := range []int{1000, 0} {
		b.Run(fmt.Sprintf("part=render/keys=%d", keys), func(b *testing.B) {
			w := &answerWriter{user: "user", bucket: "photos", encodeURL: true}
			query := []parameter{{"list-type", "2"}, {"encoding-type", "url"}}
			p := new(listedPage)
			if err := p.read(strings.NewReader(doc), int64(len(doc)), answerSpecs["ListObjectsV2"], nil); err != nil {
				b.Fatal(err)
			}
			if keys == 0 {
				p.children = slices.DeleteFunc(p.children, func(e element) bool { return e.name == "Contents" })
			}
			var buffer []byte
			b.ReportAllocs()
			for b.Loop() {
				buffer = w.appendPage(buffer[:0], "ListObjectsV2", &p.element, &p.form.root, query)
			}
		})
	}
	b.Run("part=request", func(b *testing.B) {
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s", len(doc), doc)
		endpoint := startRawBackend(b, func(n int, conn net.Conn, r *bufio.Reader) {
			for {
				if _, _, err := readHead(r); err != nil {
					return
				}
				if _, err := io.WriteString(conn, answer); err != nil {
					return
				}
			}
		})
		g := startGateway(b, testConfig(endpoint, with("rate_limit.requests", 1000000), with("rate_limit.window_seconds", 1)))
		conn := g.dial()
		defer conn.Close()
		conn.SetDeadline(time.Time{})
		request := []byte("GET /photos?list-type=2&encoding-type=url HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n\r\n")
		reader := bufio.NewReader(conn)
		b.SetBytes(int64(len(doc)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := conn.Write(request); err != nil {
				b.Fatal(err)
			}
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); n < int64(len(doc))*9/10 || resp.StatusCode != 200 || err != nil {
				b.Fatal(n, resp.Status, err)
			}
		}
	})
}

// A list of all pages is one of V1: each object has an owner, who is the user, and MaxKeys
// is that of S3.
func TestWholeListHasWhatV1Has(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents><Contents><Key>b</Key><Owner><ID>x</ID></Owner></Contents></ListBucketResult>")
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, query := range []string{"", "max-keys=1000"} {
		list := g.list(query)
		for _, object := range list.Contents {
			if object.Owner == nil || object.Owner.ID != "ro" || object.Owner.DisplayName != "ro" {
				t.Errorf("%q: the owner of %s is %v, want the user", query, object.Key, object.Owner)
			}
		}
		if len(list.Contents) != 2 || query == "" && (list.MaxKeys == nil || *list.MaxKeys != 1000) {
			t.Errorf("%q: %s, want two objects and MaxKeys", query, listText(list))
		}
	}
	if list := g.list("list-type=2"); list.Contents[0].Owner != nil || list.Contents[1].Owner.ID != "ro" {
		t.Errorf("a page of V2 = %s, want the owner where the backend has one", listText(list))
	}
	if list := g.list("prefix=%0a"); list.Prefix != "\n" {
		t.Errorf("the prefix is %q, want a line feed", list.Prefix)
	}
}

// The prefix of a V1 list is what the client sent, whether the client decodes it or not,
// except for the few characters for which that is impossible: botocore does not decode it,
// and other SDKs do.
func TestPrefixOfV1IsReadAsItIsSent(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	for prefix, want := range map[string]string{
		"\n": "\n", "a b/é&<": "a b/é&<", "100%": "100%25", "a+b": "a%2Bb", "a\x01b": "a%01b", "%41": "%2541", "": "",
	} {
		for _, query := range []string{"", "max-keys=5&", "marker=a&"} {
			_, body := g.do("GET", "/photos?"+query+"encoding-type=url&prefix="+uriEncode(prefix, true), userKey, "")
			var list struct{ Prefix string }
			if err := xml.Unmarshal([]byte(body), &list); err != nil || list.Prefix != want {
				t.Errorf("the prefix %q is %q, %v, want %q", prefix, list.Prefix, err, want)
			}
			if decoded, err := url.QueryUnescape(list.Prefix); err != nil || decoded != prefix {
				t.Errorf("the prefix %q is decoded as %q, %v", prefix, decoded, err)
			}
		}
	}
}
