package main

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A demoListing is how a bucket is listed.
type demoListing struct {
	prefix, delimiter string
	size              int
	v2, encode        bool
}

// A demoListDocument is what a client reads of either version.
type demoListDocument struct {
	IsTruncated                       bool
	KeyCount                          *int
	MaxKeys                           int
	NextMarker, NextContinuationToken string
	Contents                          []struct{ Key string }
	CommonPrefixes                    []struct{ Prefix string }
}

// page asks for one page of photos, without a socket: there are many. It returns
// keys and prefixes alike.
func (c *demoClient) page(l demoListing, position string) (names []string, doc demoListDocument) {
	c.t.Helper()
	params := []parameter{{"prefix", l.prefix}, {"delimiter", l.delimiter}, {"max-keys", strconv.Itoa(l.size)}}
	switch {
	case l.v2 && position != "":
		params = append(params, parameter{"list-type", "2"}, parameter{"continuation-token", position})
	case l.v2:
		params = append(params, parameter{"list-type", "2"})
	default:
		params = append(params, parameter{"marker", position})
	}
	if l.encode {
		params = append(params, parameter{"encoding-type", "url"})
	}
	req := httptest.NewRequest("GET", "/photos?"+canonicalQuery(params), nil)
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, c.sign(req, ""))
	if err := xml.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 {
		c.t.Fatalf("%+v: %d %v\n%s", l, w.Code, err, w.Body)
	}
	decode := func(name string) string {
		if l.encode {
			name, _ = url.QueryUnescape(name)
		}
		return name
	}
	for i := range doc.Contents {
		doc.Contents[i].Key = decode(doc.Contents[i].Key)
		names = append(names, doc.Contents[i].Key)
	}
	for _, p := range doc.CommonPrefixes {
		names = append(names, decode(p.Prefix))
	}
	doc.NextMarker = decode(doc.NextMarker)
	slices.Sort(names)
	return names, doc
}

// listAll follows the pages to the end.
func (c *demoClient) listAll(l demoListing) []string {
	c.t.Helper()
	var all []string
	position := ""
	for {
		names, doc := c.page(l, position)
		all = append(all, names...)
		switch {
		case doc.MaxKeys != l.size, l.v2 != (doc.KeyCount != nil), l.v2 && *doc.KeyCount != len(names),
			doc.IsTruncated && len(names) != l.size,
			(doc.NextMarker != "") != (!l.v2 && doc.IsTruncated && l.delimiter != ""),
			(doc.NextContinuationToken != "") != (l.v2 && doc.IsTruncated):
			c.t.Fatalf("%+v at %q: %d names in %+v", l, position, len(names), doc)
		case !doc.IsTruncated:
			return all
		case l.v2:
			position = doc.NextContinuationToken
		case l.delimiter != "":
			position = doc.NextMarker
		default:
			position = doc.Contents[len(doc.Contents)-1].Key
		}
	}
}

// demoModel is a list in one page, made in the simplest way.
func demoModel(keys []string, prefix, delimiter string) []string {
	var names []string
	for _, key := range slices.Sorted(slices.Values(keys)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if before, _, found := strings.Cut(key[len(prefix):], delimiter); found && delimiter != "" {
			key = prefix + before + delimiter
		}
		if !slices.Contains(names, key) {
			names = append(names, key)
		}
	}
	return names
}

// For many prefixes, delimiters and sizes of pages, both versions list what a
// simple model does.
func TestDemoListsAgreeWithModel(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "b", "a", "b", "/", "/", "é", "~", " ", "+", "&", "\U0001f5dd", "\uff61"}
	seen := map[string]bool{}
	var keys []string
	for len(keys) < 80 {
		key := ""
		for range 1 + random.IntN(7) {
			key += alphabet[random.IntN(len(alphabet))]
		}
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
			c.want(200, "", "PUT", "/photos/"+key, "", nil, "")
		}
	}
	for _, prefix := range []string{"", "a", "a/", "é", "none"} {
		for _, delimiter := range []string{"", "/", "ab", "é"} {
			want := demoModel(keys, prefix, delimiter)
			for _, size := range []int{1, 2, 3, 6, 1000} {
				for _, v2 := range []bool{false, true} {
					l := demoListing{prefix, delimiter, size, v2, size%2 == 0}
					if got := c.listAll(l); !slices.Equal(got, want) {
						t.Fatalf("%+v = %q, want %q", l, got, want)
					}
				}
			}
		}
	}
}

func TestDemoListDocuments(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	for _, key := range []string{"a", "dir/x", "dir/y", "dir0", "z+ &/\x01"} {
		c.want(200, "", "PUT", "/photos/"+key, "", nil, "")
	}
	token := uriEncode(base64.URLEncoding.EncodeToString([]byte("dir0")), true)
	for query, wants := range map[string][]string{
		"": {"<Key>a</Key>", "<Key>dir/y</Key>", "<Key>z+ &amp;/\ufffd</Key>", "<Marker></Marker>", "<MaxKeys>1000</MaxKeys>",
			"<IsTruncated>false<", "<StorageClass>STANDARD<", "<Owner>", "!KeyCount", "!Delimiter"},
		"list-type=2":                     {"<KeyCount>5</KeyCount>", "!<Owner>", "!Marker", "!Token"},
		"fetch-owner=true&list-type=2":    {"<Owner>"},
		"encoding-type=url":               {"<Key>z%2B+%26/%01</Key>", "<EncodingType>url<", "<Key>dir/x</Key>"},
		"max-keys=0":                      {"<MaxKeys>0<", "<IsTruncated>false<", "!<Key>"},
		"list-type=2&max-keys=0":          {"<KeyCount>0<", "<IsTruncated>false<"},
		"max-keys=5000":                   {"<MaxKeys>1000<"},
		"marker=dir%2Fx":                  {"!<Key>dir/x<", "<Key>dir/y<"},
		"marker=dir%2F":                   {"<Key>dir/x<"},
		"marker=A&prefix=dir":             {"<Key>dir/x<"},
		"marker=z&prefix=dir":             {"!<Key>"},
		"delimiter=%2F&marker=dir%2F":     {"!<Prefix>dir/<", "<Key>dir0<"}, // the end of a page before
		"delimiter=%2F&marker=dir%2Fx":    {"<Prefix>dir/<", "!<Key>a<"},    // inside of a common prefix
		"list-type=2&start-after=dir%2Fy": {"<StartAfter>dir/y<", "<Key>dir0<", "!<Key>dir/y<"},
		"delimiter=%2B&encoding-type=url&marker=d%20&prefix=z%2B":    {"<Delimiter>%2B<", "<Marker>d+<", "<Prefix>z%2B<"},
		"continuation-token=" + token + "&list-type=2&start-after=a": {"<KeyCount>1<", "<ContinuationToken>"},
	} {
		c.want(200, "", "GET", "/photos", query, nil, "").has(t, wants...)
	}
	for _, query := range []string{"max-keys=-1", "max-keys=x", "max-keys=1.5", "max-keys=9999999999", "encoding-type=html", "list-type=3",
		"continuation-token=&list-type=2", "continuation-token=dir0%2B&list-type=2"} {
		c.want(400, "InvalidArgument", "GET", "/photos", query, nil, "")
	}
	if a := c.want(200, "", "GET", "/photos", "location=", nil, ""); !strings.HasSuffix(a.body, "></LocationConstraint>") {
		t.Errorf("GetBucketLocation = %s", a.body)
	}
}

func TestDemoDeletesManyObjects(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	for _, key := range []string{"a", "b", "x<&>y", "stays"} {
		c.want(200, "", "PUT", "/photos/"+key, "", nil, "")
	}
	c.want(200, "", "POST", "/photos", "delete=", nil, `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>a</Key></Object><Object><Key>x&lt;&amp;&gt;y</Key></Object><Object><Key>none</Key></Object></Delete>`).
		has(t, "<DeleteResult", "<Deleted><Key>a</Key></Deleted>", "<Deleted><Key>x&lt;&amp;&gt;y</Key></Deleted>", "<Deleted><Key>none</Key></Deleted>", "!<Error>")
	const quiet = `<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>`
	sum := md5.Sum([]byte(quiet))
	right := base64.StdEncoding.EncodeToString(sum[:])
	many := func(n int) string {
		return "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", n) + "</Delete>"
	}
	for _, test := range []struct {
		doc    string
		header http.Header
		status int
		code   string
	}{
		{quiet, demoHeader("Content-Md5", "x"), 400, "BadDigest"},
		{quiet, demoHeader("Content-Md5", "AAAAAAAAAAAAAAAAAAAAAA=="), 400, "BadDigest"},
		{quiet, demoHeader("X-Amz-Checksum-Crc32", "AAAAAA=="), 400, "BadDigest"},
		{quiet, demoHeader("Content-Md5", right), 200, ""},
		{many(1000), nil, 200, ""},
		{many(1001), nil, 400, "MalformedXML"},
		{many(0), nil, 400, "MalformedXML"},
		{"<Delete><Object><Key>stays</Key></Object>", nil, 400, "MalformedXML"},
		{"<Remove><Object><Key>stays</Key></Object></Remove>", nil, 400, "MalformedXML"},
		{"<Delete><Object><Key>stays</Key></Object><Object><Key></Key></Object></Delete>", nil, 400, "MalformedXML"},
		{"<Delete><Object><Key>stays</Key><VersionId>null</VersionId></Object></Delete>", nil, 501, "NotImplemented"},
		{"<Delete><Object><Key>stays</Key><ETag>x</ETag></Object></Delete>", nil, 501, "NotImplemented"},
	} {
		a := c.want(test.status, test.code, "POST", "/photos", "delete=", test.header, test.doc)
		if test.doc == quiet {
			a.has(t, "!<Deleted>")
		}
	}
	if got := c.listAll(demoListing{size: 1000, v2: true}); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("left: %q", got)
	}
}
