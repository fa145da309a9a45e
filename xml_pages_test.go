package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// pagedLists are all kinds of lists, with what a page has that is not the last.
var pagedLists = []struct {
	name, target string
	before       string // in the root, and in the element that the page is in
	after        string
	next         []string // each is enough to go on
	notEnough    []string
}{
	{"V2", "/photos?list-type=2", "<ListBucketResult>", "</ListBucketResult>",
		[]string{"<NextContinuationToken>t</NextContinuationToken>"}, []string{"", "<NextMarker>m</NextMarker>", "<NextContinuationToken/>", "<Contents><Key>k</Key></Contents>"}},
	{"V1 with V2's parameters", "/photos?start-after=a", "<ListBucketResult>", "</ListBucketResult>",
		[]string{"<NextContinuationToken>t</NextContinuationToken>"}, []string{"", "<NextMarker>m</NextMarker>"}},
	{"V1", "/photos?max-keys=2", "<ListBucketResult>", "</ListBucketResult>",
		[]string{"<NextMarker>m</NextMarker>", "<Contents><Key>k</Key></Contents>"}, []string{"", "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>", "<NextContinuationToken>t</NextContinuationToken>"}},
	{"V1 with a delimiter", "/photos?max-keys=2&delimiter=/", "<ListBucketResult>", "</ListBucketResult>",
		[]string{"<NextMarker>m</NextMarker>"}, []string{"", "<Contents><Key>k</Key></Contents>"}},
	{"versions", "/photos?versions", "<ListVersionsResult>", "</ListVersionsResult>",
		[]string{"<NextKeyMarker>k</NextKeyMarker>", "<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"}, []string{"", "<NextVersionIdMarker>v</NextVersionIdMarker>"}},
	{"uploads", "/photos?uploads", "<ListMultipartUploadsResult>", "</ListMultipartUploadsResult>",
		[]string{"<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>", "<NextUploadIdMarker>u</NextUploadIdMarker>",
			"<NextKeyMarker>p/</NextKeyMarker><CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"},
		[]string{"", "<NextKeyMarker>k</NextKeyMarker>", "<CommonPrefixes><Prefix></Prefix></CommonPrefixes>"}},
	{"parts", "/photos/k?uploadId=u", "<ListPartsResult>", "</ListPartsResult>",
		[]string{"<NextPartNumberMarker>1</NextPartNumberMarker>"}, []string{"", "<NextPartNumberMarker>0</NextPartNumberMarker>", "<NextPartNumberMarker>x</NextPartNumberMarker>"}},
	{"parts of an object", "/photos/k?attributes", "<GetObjectAttributesResponse><ObjectParts>", "</ObjectParts></GetObjectAttributesResponse>",
		[]string{"<NextPartNumberMarker>1</NextPartNumberMarker>"}, []string{"", "<NextPartNumberMarker>0</NextPartNumberMarker>"}},
	{"metrics", "/photos?metrics", "<ListMetricsConfigurationsResult>", "</ListMetricsConfigurationsResult>",
		[]string{"<NextContinuationToken>t</NextContinuationToken>"}, []string{""}},
	{"analytics", "/photos?analytics", "<ListBucketAnalyticsConfigurationResult>", "</ListBucketAnalyticsConfigurationResult>",
		[]string{"<NextContinuationToken>t</NextContinuationToken>"}, []string{""}},
	{"inventory", "/photos?inventory", "<ListInventoryConfigurationsResult>", "</ListInventoryConfigurationsResult>",
		[]string{"<NextContinuationToken>t</NextContinuationToken>"}, []string{""}},
	{"intelligent tiering", "/photos?intelligent-tiering", "<ListBucketIntelligentTieringConfigurationsOutput>", "</ListBucketIntelligentTieringConfigurationsOutput>",
		[]string{"<NextContinuationToken>t</NextContinuationToken>"}, []string{""}},
	{"all", "/photos", "<ListBucketResult>", "</ListBucketResult>", nil, []string{"", "<NextMarker>m</NextMarker>"}},
}

// A page is passed on only if it says that it is the last, or where the next begins. A
// client would take any other for the whole list.
func TestPagesThatDoNotSayWhetherTheyAreTheLast(t *testing.T) {
	tested := map[*listForm]bool{}
	for _, list := range pagedLists {
		document := ""
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, document)
			if a := answerSpecs[operationAt(r)]; len(a.forms) > 0 {
				tested[a.forms[len(a.forms)-1].list] = true
			}
		})
		g := startGateway(t, testConfig(backend.URL))
		get := func(page string, want int) {
			t.Helper()
			document = list.before + page + list.after
			if resp, body := g.do("GET", list.target, adminKey, "", "x-amz-object-attributes: ObjectParts"); resp.StatusCode != want {
				t.Errorf("%s, a page %q = %d %s, want %d", list.name, page, resp.StatusCode, body, want)
			}
		}
		get("<IsTruncated>false</IsTruncated>", 200)
		for _, next := range list.next {
			get("<IsTruncated>true</IsTruncated>"+next, 200)
			get("<IsTruncated>false</IsTruncated>"+next, 200)
		}
		for _, next := range list.notEnough {
			get("<IsTruncated>true</IsTruncated>"+next, 502)
		}
		for _, next := range append(list.next, "") {
			for _, unclear := range []string{"", "<IsTruncated/>", "<IsTruncated>True</IsTruncated>", "<IsTruncated>FALSE</IsTruncated>", "<IsTruncated>1</IsTruncated>", "<IsTruncated>no</IsTruncated>",
				"<IsTruncated> true</IsTruncated>", "<IsTruncated>false</IsTruncated><IsTruncated>true</IsTruncated>", "<Truncated>false</Truncated>", "<IsTruncated><x>false</x></IsTruncated>"} {
				get(unclear+next, 502)
			}
		}
	}
	for name, a := range answerSpecs {
		for _, form := range a.forms {
			if form.list != nil && !tested[form.list] {
				t.Errorf("the list of %s is not in this test", name)
			}
		}
	}
}

// A page that says that the next one begins where it began itself is refused: the list
// would have no end.
func TestPagesThatRepeat(t *testing.T) {
	for _, test := range []struct{ target, page string }{
		{"/photos?list-type=2&continuation-token=t", "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"},
		{"/photos?marker=m", "<ListBucketResult><IsTruncated>true</IsTruncated><NextMarker>m</NextMarker></ListBucketResult>"},
		{"/photos?versions&key-marker=k", "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker></ListVersionsResult>"},
		{"/photos?uploads&key-marker=k&upload-id-marker=u", "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker></ListMultipartUploadsResult>"},
		{"/photos/k?uploadId=u&part-number-marker=7", "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>7</NextPartNumberMarker></ListPartsResult>"},
		{"/photos?metrics&continuation-token=t", "<ListMetricsConfigurationsResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListMetricsConfigurationsResult>"},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, test.page) })
		g := startGateway(t, testConfig(backend.URL))
		if resp, body := g.do("GET", test.target, adminKey, ""); resp.StatusCode != 502 {
			t.Errorf("GET %s = %d %s, want 502", test.target, resp.StatusCode, body)
		}
		// The same page as another one's answer goes on.
		target := strings.NewReplacer("token=t", "token=s", "marker=m", "marker=l", "key-marker=k", "key-marker=j", "marker=7", "marker=6").Replace(test.target)
		if resp, body := g.do("GET", target, adminKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET %s = %d %s, want 200", target, resp.StatusCode, body)
		}
	}
}

// Some servers say that a page is encoded and leave some elements as they are. The client
// gets its own parameters back, and markers and prefixes with which it finds the next page.
func TestPagesThatAreNotEncodedThroughout(t *testing.T) {
	const head = "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
	for _, test := range []struct{ name, target, page, want string }{
		{"echoes that are raw", "/photos?max-keys=1&prefix=100%25&delimiter=%25&marker=1%2b0", head + "<Prefix>100%</Prefix><Delimiter>%</Delimiter><Marker>1+0</Marker><NextMarker>100%2541</NextMarker></ListBucketResult>",
			"<Prefix>100%</Prefix><Marker>1+0</Marker><Delimiter>%</Delimiter><NextMarker>100%41</NextMarker>"},
		{"a marker that is raw", "/photos?max-keys=1", head + "<NextMarker>a%20b</NextMarker><Contents><Key>a%2520b</Key></Contents></ListBucketResult>", "<NextMarker>a%20b</NextMarker>"},
		{"a marker that is encoded", "/photos?max-keys=1", head + "<NextMarker>a%2520b</NextMarker><Contents><Key>a%2520b</Key></Contents></ListBucketResult>", "<NextMarker>a%20b</NextMarker>"},
		{"a marker that is raw, with a plus sign", "/photos?max-keys=1", head + "<NextMarker>a+b</NextMarker><Contents><Key>a%2Bb</Key></Contents></ListBucketResult>", "<NextMarker>a+b</NextMarker>"},
		{"a marker that can't be encoded", "/photos?max-keys=1", head + "<NextMarker>a%</NextMarker><Contents><Key>a%25</Key></Contents></ListBucketResult>", "<NextMarker>a%</NextMarker>"},
		{"a marker with what MinIO adds", "/photos?max-keys=1", head + "<NextMarker>a%20b%5Bminio_cache%3Av2%5D</NextMarker><Contents><Key>a%20b</Key></Contents></ListBucketResult>", "<NextMarker>a b[minio_cache:v2]</NextMarker>"},
		{"common prefixes that are raw", "/photos?max-keys=1&delimiter=/", head + "<NextMarker>b%20/</NextMarker><CommonPrefixes><Prefix>a b/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>b%20/</Prefix></CommonPrefixes></ListBucketResult>",
			"<NextMarker>b%20/</NextMarker><CommonPrefixes><Prefix>a b/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>b%20/</Prefix></CommonPrefixes>"},
		{"common prefixes that are encoded", "/photos?max-keys=1&delimiter=/", head + "<NextMarker>b%20/</NextMarker><CommonPrefixes><Prefix>b%20/</Prefix></CommonPrefixes></ListBucketResult>",
			"<NextMarker>b /</NextMarker><CommonPrefixes><Prefix>b /</Prefix></CommonPrefixes>"},
		{"nothing said", "/photos?max-keys=1", "<ListBucketResult><IsTruncated>true</IsTruncated><NextMarker>a%20b</NextMarker><Contents><Key>a%20b</Key></Contents></ListBucketResult>", "<NextMarker>a%20b</NextMarker>"},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, test.page) })
		g := startGateway(t, testConfig(backend.URL))
		resp, body := g.do("GET", test.target, userKey, "")
		body = strings.NewReplacer("<IsTruncated>true</IsTruncated>", "", "<MaxKeys>1</MaxKeys>", "").Replace(body)
		if resp.StatusCode != 200 || !strings.Contains(body, test.want) {
			t.Errorf("%s: GET %s = %d %s, want %s", test.name, test.target, resp.StatusCode, body, test.want)
		}
	}
}
