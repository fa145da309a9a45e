package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestMemoryLeavesSomeForEveryUser(t *testing.T) {
	m := &memory{limit: 60}
	greedy, second, late := memoryShare{of: m}, memoryShare{of: m}, memoryShare{of: m}
	take := func(s *memoryShare) {
		for s.reserve(1) {
		}
	}
	take(&greedy)
	if greedy.used != 30 {
		t.Errorf("one user has %d of 60, want half", greedy.used)
	}
	take(&second)
	if second.used != 15 {
		t.Errorf("the second has %d of the 30 that were left, want half of them", second.used)
	}
	take(&late)
	if late.used < 1 || greedy.used+second.used+late.used > m.limit {
		t.Errorf("a third has %d, and all have %d of %d", late.used, m.used, m.limit)
	}
	for _, s := range []*memoryShare{&greedy, &second, &late} {
		s.reserve(-s.used)
	}
	if m.used != 0 {
		t.Errorf("%d bytes are used when all are given back", m.used)
	}
}

// The memory of a document grows with what was written, and shrinks with what was
// read.
func TestDocumentIsChargedForWhatItHolds(t *testing.T) {
	m := &memory{limit: 4 << 20}
	share := memoryShare{of: m}
	d := &heldDocument{memory: holding{share: &share}}
	if m.used != 0 {
		t.Errorf("an empty document takes %d bytes", m.used)
	}
	text := []byte(strings.Repeat("0123456789abcdef", 60_000)) // 960 KB
	for written := range 960 {
		if _, err := d.Write(text[written*1000 : written*1000+1000]); err != nil {
			t.Fatal(err)
		}
		if d.size > m.used || m.used > d.size+largeBuffer {
			t.Fatalf("a document of %d bytes takes %d", d.size, m.used)
		}
	}
	sum := sha256.New()
	if d.sum(sum); !bytes.Equal(sum.Sum(nil), sha256Of(text)) {
		t.Error("the digest is of something else than what was written")
	}
	var read []byte
	for part := make([]byte, 7000); ; {
		n, err := d.Read(part)
		if read = append(read, part[:n]...); err == io.EOF {
			break
		}
		if m.used > d.size+2*largeBuffer {
			t.Fatalf("%d bytes are left to read, and %d are used", d.size, m.used)
		}
	}
	if !bytes.Equal(read, text) || m.used != 0 || d.memory.held != 0 {
		t.Errorf("read %d bytes of %d, and %d are still used", len(read), len(text), m.used)
	}
	if _, err := d.Write(make([]byte, 3<<20)); !isOutOfMemory(err) {
		t.Errorf("3 MiB of a budget of 4, of which a user may have half: %v, want SlowDown", err)
	}
	if d.free(); m.used != 0 {
		t.Errorf("%d bytes are used after free", m.used)
	}
}

func sha256Of(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// The memory for elements is counted too, by a scanner that was told to.
func TestScannerCountsItsMemory(t *testing.T) {
	if size := unsafe.Sizeof(element{}); size > elementSize {
		t.Errorf("an element has %d bytes, elementSize is %d", size, elementSize)
	}
	list := "<a>" + strings.Repeat("<b/>", 50_000) + "</a>"
	m := &memory{limit: 64 << 20}
	share := memoryShare{of: m}
	h := holding{share: &share}
	s := newScanner(strings.NewReader(list))
	s.memory = &h
	if _, err := s.document("a"); err != nil {
		t.Fatal(err)
	}
	if want := int64(50_000*elementSize + len(list)); h.held < want {
		t.Errorf("a list that takes %d bytes or more was counted as %d", want, h.held)
	}
	if h.free(); m.used != 0 {
		t.Errorf("%d bytes are used after free", m.used)
	}
	m.limit = 1 << 20
	s = newScanner(strings.NewReader(list))
	s.memory = &h
	if _, err := s.document("a"); !isOutOfMemory(err) {
		t.Errorf("a list larger than the budget: %v, want SlowDown", err)
	}
}

// liveHeap is what is in use when further collections free nothing, in bytes. What ended a moment
// ago may take several: the pools keep what they have for one, and a goroutine what it refers to
// until it has run to its end.
func liveHeap() int64 {
	held := int64(math.MaxInt64)
	for same := 0; same < 3; same++ {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if freed := held - int64(m.HeapAlloc); freed > 64<<10 {
			same = 0
		}
		held = int64(m.HeapAlloc)
	}
	return held
}

// A largeDelete is a DeleteObjects of 1.8 MB.
var largeDelete = func() string {
	var b strings.Builder
	b.WriteString("<Delete>")
	for i := range maxDeleteKeys {
		fmt.Fprintf(&b, "<Object><Key>%04d%s</Key></Object>", i, strings.Repeat("&amp;", 350))
	}
	return b.String() + "</Delete>"
}()

// sendDelete sends the head of a DeleteObjects and n bytes of the document.
func sendDelete(t *testing.T, g *testGateway, key string, n int) net.Conn {
	t.Helper()
	conn := g.dial()
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute)) // it outlives many others
	fmt.Fprintf(conn, "POST /photos?delete HTTP/1.1\r\nHost: gateway.example\r\nx-api-key: %s\r\nContent-Length: %d\r\n\r\n", key, len(largeDelete))
	io.WriteString(conn, largeDelete[:n])
	return conn
}

// waitUntil waits for what another goroutine is about to do.
func waitUntil(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func (m *memory) inUse() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

const manyClients = 64

func TestDocumentOfOneWhoMayNotIsNotRead(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for range manyClients {
		conn := sendDelete(t, g, readOnlyKey, 0)
		if resp, body := readAnswer(t, "POST", conn); resp.StatusCode != 403 {
			t.Fatalf("before a byte of the document was sent: %d %s, want 403", resp.StatusCode, body)
		}
	}
	if used := g.gw.memory.inUse(); used != 0 {
		t.Errorf("%d bytes are used for documents that were refused", used)
	}
	backend.wantNone(t)
}

// Clients that send nearly all of a document, and no more, hold what the budget
// allows and not what they have announced. The next one is told to come again.
func TestSlowSendersOfDocumentsStayWithinTheBudget(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	idle := liveHeap()
	var conns []net.Conn
	refused := 0
	blocks := int64(smallBuffer + (len(largeDelete)-smallBuffer+largeBuffer-1)/largeBuffer*largeBuffer) // of the whole document
	for range manyClients {
		used := g.gw.memory.inUse()
		conn := sendDelete(t, g, userKey, len(largeDelete)-1)
		// Either it is held now, or it was answered.
		answer := make(chan *http.Response, 1)
		go func() {
			resp, _ := http.ReadResponse(bufio.NewReader(conn), nil)
			answer <- resp
		}()
		waitUntil(t, "reading the document", func() bool {
			select {
			case resp := <-answer:
				if refused++; resp == nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
					t.Fatalf("a document over the budget: %v, want 503 with Retry-After", resp)
				}
				return true
			default:
				return g.gw.memory.inUse() >= used+blocks
			}
		})
		conns = append(conns, conn)
	}
	held := liveHeap() - idle
	t.Logf("%d slow senders, of whom %d were refused, hold %d KiB", manyClients, refused, held>>10)
	if held > 64<<20 || refused == 0 || refused == manyClients {
		t.Errorf("%d slow senders hold %d bytes, want less than 64 MiB, and some refused (%d)", manyClients, held, refused)
	}
	if used := g.gw.memory.inUse(); used > documentMemory/2 {
		t.Errorf("one user holds %d bytes of %d", used, documentMemory)
	}
	// Another user's document finds its place all the same.
	if resp, body := g.do("POST", "/photos?delete", adminKey, largeDelete); resp.StatusCode != 200 {
		t.Errorf("another user's document = %d %s, want 200", resp.StatusCode, body)
	}
	for _, conn := range conns {
		conn.Close()
	}
	waitUntil(t, "giving back the memory", func() bool { return g.gw.memory.inUse() == 0 })
	if resp, body := g.do("POST", "/photos?delete", userKey, largeDelete); resp.StatusCode != 200 {
		t.Errorf("when the others have gone: %d %s, want 200", resp.StatusCode, body)
	}
}

// Of a document that a backend has, nothing is left in memory while the backend
// takes its time.
func TestDocumentIsFreedBeforeTheBackendAnswers(t *testing.T) {
	arrived, finish := make(chan bool), make(chan bool)
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		arrived <- true
		<-finish
	})
	g := startGateway(t, testConfig(endpoint))
	idle := liveHeap()
	for range manyClients {
		sendDelete(t, g, userKey, len(largeDelete))
		<-arrived
	}
	held := liveHeap() - idle
	t.Logf("%d documents of %d bytes that were sent hold %d KiB", manyClients, len(largeDelete), held>>10)
	if held > 64<<20 {
		t.Errorf("%d documents of %d bytes hold %d bytes, want less than 64 MiB", manyClients, len(largeDelete), held)
	}
	waitUntil(t, "giving back the memory", func() bool { return g.gw.memory.inUse() == 0 })
	close(finish)
}

// Answers whose backend stops in the middle hold what the budget allows. The others are
// told to come again, and a usual list has its place all the same.
func TestStalledAnswersStayWithinTheBudget(t *testing.T) {
	for name, test := range map[string]struct{ target, root, rest string }{
		"a list":     {"/photos?list-type=2", "ListBucketResult", strings.Repeat("<Contents><Key>"+strings.Repeat("k", 1000)+"</Key></Contents>", 15_000)},
		"a document": {"/photos/k?acl", "AccessControlPolicy", strings.Repeat("<Grant/>", 150_000) + strings.Repeat(" ", 14_000_000)},
	} {
		t.Run(name, func(t *testing.T) {
			document := "<" + test.root + ">" + test.rest + "</" + test.root + ">"
			settled, finish := make(chan bool, manyClients), make(chan bool)
			defer close(finish)
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				if strings.HasPrefix(req.URL.Path, "/photos/usual") {
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n<Tagging/>")
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(document), document[:len(document)-1])
				settled <- true
				<-finish
			})
			g := startGateway(t, testConfig(endpoint))
			idle := liveHeap()
			for range manyClients {
				conn := g.dial()
				defer conn.Close()
				fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", test.target, userKey)
			}
			for range manyClients {
				<-settled
			}
			held := liveHeap() - idle
			t.Logf("%d answers of %d bytes that were not ended hold %d KiB", manyClients, len(document), held>>10)
			if bound := int64(2 * (manyClients*readAllowance + documentMemory)); held > bound { // twice: what grows is copied
				t.Errorf("%d answers of %d bytes that were not ended hold %d bytes, want at most %d", manyClients, len(document), held, bound)
			}
			if used := g.gw.memory.inUse(); used > documentMemory/2 {
				t.Errorf("one user holds %d bytes of %d", used, documentMemory)
			}
			if resp, body := g.do("GET", "/photos/usual?tagging", userKey, ""); resp.StatusCode != 200 {
				t.Errorf("a small document of the same user = %d %s, want 200", resp.StatusCode, body)
			}
		})
	}
}

// A download that the kernel moves, and that waits for its backend, holds no buffer of the
// gateway. It holds what a request that waits for its answer does, and the 32 KiB that net/http's
// ReadFrom takes in any case.
func TestSplicedAnswersThatWaitHoldNoBuffer(t *testing.T) {
	if !countsBytes {
		t.Skip("nothing is spliced on this system")
	}
	const size, part = 1 << 20, 2 * minSplice
	asked, finish := make(chan bool, manyClients), make(chan bool)
	defer close(finish)
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.URL.Path == "/photos/part" {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, pattern(part))
		}
		asked <- true
		<-finish
	})
	g := startGateway(t, testConfig(endpoint))
	hold := func(key string, want int64) int64 {
		before := liveHeap()
		for range manyClients {
			conn := g.dial()
			t.Cleanup(func() { conn.Close() })
			fmt.Fprintf(conn, "GET /photos/%s HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", key, userKey)
			<-asked
			if want > 0 {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.CopyN(io.Discard, resp.Body, want); err != nil {
					t.Fatal(err)
				}
			}
		}
		return (liveHeap() - before) / manyClients
	}
	nothing, spliced := hold("nothing", 0), hold("part", part)
	t.Logf("each of %d requests holds %d KiB before its answer, and %d KiB within it", manyClients, nothing>>10, spliced>>10)
	if spliced-nothing >= largeBuffer {
		t.Errorf("a download that waits holds %d bytes, a request that waits for its answer %d", spliced, nothing)
	}
}

// Usual lists are charged nothing.
func TestUsualListsTakeNothingOfTheBudget(t *testing.T) {
	list := aPage()
	m := &memory{limit: 0}
	share := memoryShare{of: m}
	p := pageBuffers.Get().(*listedPage)
	p.memory = &holding{share: &share, allowance: readAllowance}
	if err := p.read(strings.NewReader(list), int64(len(list)), answerSpecs["ListObjectsV2"], nil); err != nil {
		t.Errorf("a page of 1,000 keys without a budget: %v", err)
	}
	if len(list) > sentAllowance {
		t.Errorf("a page of 1,000 keys has %d bytes, more than %d", len(list), sentAllowance)
	}
}
