//go:build interop

// The status page in a browser: headless Chromium, driven over its DevTools protocol. The
// pictures go to INTEROP_PICTURES, if it is set, for somebody to look at.
// https://chromedevtools.github.io/devtools-protocol/
package interop

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A browser is Chromium with one page. Each message is JSON and ends with a zero byte.
type browser struct {
	cmd     *exec.Cmd
	output  *record
	session string
	to      io.Writer

	mu      sync.Mutex // guards the rest
	last    int        // the id of the last call
	results map[int]chan message
	events  []message
}

// A message is a call, a result or an event of the protocol.
type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// startBrowser starts Chromium with an empty page, of which every error is an event.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) })
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{output: new(record), to: to, results: map[int]chan message{}}
	// A sandbox needs rights that a container does not have; the page is the gateway's own.
	b.cmd = exec.CommandContext(t.Context(), systemProgram(t, "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	b.cmd.Env = environment(t)
	b.cmd.Stdout, b.cmd.Stderr = b.output, b.output
	b.cmd.ExtraFiles = []*os.File{in, out} // 3 and 4
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	t.Cleanup(func() { b.cmd.Wait(); to.Close(); from.Close() })
	go b.read(from)
	var target struct{ TargetID, SessionID string }
	b.call(t, "Target.createTarget", config{"url": "about:blank"}, &target)
	b.call(t, "Target.attachToTarget", config{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(t, domain+".enable", config{}, nil)
	}
	return b
}

// read gives results to those who wait for them, and keeps events.
func (b *browser) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		if m.ID == 0 {
			b.events = append(b.events, m)
		} else if result := b.results[m.ID]; result != nil {
			result <- m
			delete(b.results, m.ID)
		}
		b.mu.Unlock()
	}
}

// call calls a method and decodes its result, unless that is nil.
func (b *browser) call(t *testing.T, method string, params config, result any) {
	t.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	b.results[b.last] = answer
	call, _ := json.Marshal(message{ID: b.last, SessionID: b.session, Method: method, Params: text})
	_, err = b.to.Write(append(call, 0))
	b.mu.Unlock()
	if err != nil {
		t.Fatalf("%s: %v\n%s", method, err, b.output)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			t.Fatalf("%s: %s", method, m.Error)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				t.Fatalf("%s: %v: %s", method, err, m.Result)
			}
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: no answer\n%s", method, b.output)
	}
}

// eval returns the value of an expression in the page, as text.
func (b *browser) eval(t *testing.T, expression string) string {
	t.Helper()
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call(t, "Runtime.evaluate", config{"expression": expression, "returnByValue": true}, &answer)
	if answer.ExceptionDetails != nil {
		t.Fatalf("%s: %s", expression, answer.ExceptionDetails)
	}
	return fmt.Sprint(answer.Result.Value)
}

// becomes waits until an expression has a value.
func (b *browser) becomes(t *testing.T, expression, want string) {
	t.Helper()
	got := ""
	defer func() {
		if got != want {
			t.Errorf("%s = %q, want %q", expression, got, want)
		}
	}()
	await(t, expression, b.output, func() bool {
		got = b.eval(t, expression)
		return got == want
	})
}

// changes waits until the value of an expression is another.
func (b *browser) changes(t *testing.T, expression string) {
	t.Helper()
	before := b.eval(t, expression)
	await(t, expression+" to change", b.output, func() bool { return b.eval(t, expression) != before })
}

// open loads a page and waits until it has a <main>.
func (b *browser) open(t *testing.T, url string) {
	t.Helper()
	b.call(t, "Page.navigate", config{"url": url}, nil)
	b.becomes(t, "location.href + (document.querySelector('main') !== null)", url+"true")
}

// resize sets the size of the window.
func (b *browser) resize(t *testing.T, width, height int) {
	t.Helper()
	b.call(t, "Emulation.setDeviceMetricsOverride", config{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// prefer sets what the person prefers: light or dark.
func (b *browser) prefer(t *testing.T, scheme string) {
	t.Helper()
	b.call(t, "Emulation.setEmulatedMedia", config{"features": []config{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture saves what the page looks like, all of it.
func (b *browser) picture(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("INTEROP_PICTURES")
	if dir == "" {
		dir = t.TempDir()
	}
	var shot struct{ Data string }
	b.call(t, "Page.captureScreenshot", config{"format": "png", "captureBeyondViewport": true}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil || !bytes.HasPrefix(data, []byte("\x89PNG")) {
		t.Fatalf("no picture: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// happened returns the parameters of the events of a method.
func (b *browser) happened(method string) (params []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.events {
		if m.Method == method {
			params = append(params, string(m.Params))
		}
	}
	return params
}

// checkPage fails the test if the page had an error, broke its policy, or asked another server.
func (b *browser) checkPage(t *testing.T, origin string) {
	t.Helper()
	for _, method := range []string{"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"} {
		for _, params := range b.happened(method) {
			t.Errorf("%s: %s", method, params)
		}
	}
	asked := b.happened("Network.requestWillBeSent")
	for _, params := range asked {
		var sent struct{ Request struct{ URL string } }
		json.Unmarshal([]byte(params), &sent)
		if url := sent.Request.URL; !strings.HasPrefix(url, origin+"/") && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asks for %s", url)
		}
	}
	if len(asked) < 3 {
		t.Errorf("the page sent %d requests, want it alive", len(asked))
	}
}

// contrasts is an expression for the pairs of colours that are too close to be read, by the formula
// of https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
const contrasts = `(() => {
	const channels = c => c.match(/[\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
	const light = c => { const [r, g, b] = channels(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const paper = light(getComputedStyle(document.documentElement).backgroundColor);
	const bad = new Set();
	for (const e of document.querySelectorAll('main *')) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
		const ink = light(getComputedStyle(e).color);
		const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
		if (ratio < 4.5) bad.add(e.className + ' ' + e.tagName + ' ' + ratio.toFixed(1));
	}
	return [...bad].join(', ');
})()`

// Expressions for what a narrow window shows without being moved sideways: where texts of the page
// reach out of it, and the text of the last error of the failing account that is within it.
const (
	hidden = `(() => {
	const out = [document.documentElement, ...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.id || e.tagName);
	const texts = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const text = texts.currentNode, range = document.createRange();
		if (!text.data.trim() || text.parentElement.closest('thead, title')) continue;
		range.selectNodeContents(text);
		if ([...range.getClientRects()].some(r => r.left < 0 || r.right > innerWidth)) out.push(text.data.trim());
	}
	return out.join(', ');
})()`
	shown = `(() => {
	const cell = document.querySelector('.accounts tr:is(.failing, .refused) .cause');
	return [...cell.querySelectorAll('span, .remedy')].filter(e => {
		const box = e.getBoundingClientRect();
		return box.width > 0 && box.height > 0 && box.left >= 0 && box.right <= innerWidth && box.top < 844;
	}).map(e => e.textContent).join(' ');
})()`
)

// The page fills while it is looked at, without being loaded again; an account that dies turns red,
// and green when it is back.
func TestInteropStatusPage(t *testing.T) {
	dies := newRestartable(t)
	lives := startBackend(t, 0)
	c := dies.config()
	c["accounts"].(config)["archive"] = config{
		"endpoint_url": "http://" + lives.addr, "region": region, "access_key_id": accessKey, "secret_access_key": secretKey,
		"buckets": []config{{"name": "archive", "bucket": "photos"}}}
	c["users"].(config)["eve"].(config)["rate_limit"] = config{"requests": 20, "window_seconds": 3600}
	in := operate(t, c)
	b := startBrowser(t)
	b.resize(t, 1440, 900)
	b.prefer(t, "light")
	b.open(t, in.admin+"/")
	const (
		verdict  = "document.querySelector('.verdict').textContent.trim()"
		requests = "[...document.querySelectorAll('.users tbody tr')].find(r => r.cells[0].firstChild.data === 'bob').cells[5].textContent"
		drawing  = "document.querySelector('.accounts .requests .back').getAttribute('d')"
		color    = "getComputedStyle(document.querySelector('.accounts tbody .state')).color"
		clock    = "document.querySelector('footer time').textContent"
	)
	state := func(account string) string {
		return "[...document.querySelectorAll('.accounts tbody tr')].find(r => r.cells[0].firstChild.data === '" + account + "').className"
	}
	b.becomes(t, verdict, "– None of the 2 accounts has been asked yet.")
	b.becomes(t, requests, "0")
	b.picture(t, "1-start")

	client := newClient(t, "")
	load := gather(t, 4, func(i int) string {
		object := fmt.Sprintf("%s/%s/k%d", in.url, []string{"photos", "archive"}[i%2], i)
		key := []string{bobKey, aliceKey}[i%2]
		request(client, http.MethodPut, object, key, strings.Repeat("x", 1<<10*i))
		status, _ := request(client, http.MethodGet, object, key, "")
		return status
	})
	for range 25 {
		request(client, http.MethodDelete, in.url+"/photos/k", eveKey, "")
		request(client, http.MethodGet, in.url+"/photos/k", "nobody-0123456789abcdef", "")
	}
	b.becomes(t, verdict, "✓ All 2 accounts answer.")
	b.changes(t, requests)
	b.changes(t, drawing)
	b.changes(t, drawing)
	good := b.eval(t, color)
	if found := b.eval(t, contrasts); found != "" {
		t.Errorf("in the light, too pale: %s", found)
	}
	b.picture(t, "2-load")

	kill(dies.cmd)
	await(t, "the account to turn red", b.output, func() bool {
		s := b.eval(t, state("backend"))
		return s == "failing" || s == "refused"
	})
	b.becomes(t, verdict, "✗ 1 of 2 accounts fails: backend: connection refused.")
	b.becomes(t, state("backend"), "refused")
	b.becomes(t, state("archive"), "ok")
	if bad := b.eval(t, color); bad == good {
		t.Errorf("an account that is down has the colour of one that is not: %s", bad)
	}
	b.picture(t, "3-down")
	b.prefer(t, "dark")
	if found := b.eval(t, contrasts); found != "" {
		t.Errorf("in the dark, too pale: %s", found)
	}
	b.picture(t, "4-down-dark")

	// On a phone nothing is to the right of what can be seen, least of all what is wrong.
	b.resize(t, 400, 844)
	if found := b.eval(t, hidden); found != "" {
		t.Errorf("at 400 pixels, out of sight: %s", found)
	}
	for _, text := range []string{"connection refused", "To do: "} {
		if got := b.eval(t, shown); !strings.Contains(got, text) {
			t.Errorf("at 400 pixels the failing account shows %q, want %q in it", got, text)
		}
	}
	b.picture(t, "5-phone-dark")
	b.prefer(t, "light")
	b.picture(t, "6-phone")
	b.prefer(t, "dark")
	b.resize(t, 1440, 900)

	dies.start(t)
	b.becomes(t, state("backend"), "ok")
	b.becomes(t, verdict, "✓ All 2 accounts answer.")
	b.picture(t, "7-back-dark")
	b.prefer(t, "light")

	// A table that is wider than its box moves in it, and stays where it is moved to.
	b.resize(t, 1100, 900)
	b.eval(t, "document.body.style.width = '500px'")
	b.becomes(t, "document.documentElement.scrollWidth <= 1100", "true")
	b.eval(t, "document.getElementById('scroll-users').focus()")
	b.eval(t, "document.getElementById('scroll-accounts').scrollLeft = 150")
	b.changes(t, clock)
	if at := b.eval(t, "document.getElementById('scroll-accounts').scrollLeft + document.activeElement.id"); at != "150scroll-users" {
		t.Errorf("after the page was renewed: %s, want 150scroll-users", at)
	}
	b.eval(t, "document.body.style.width = ''")

	load.home()
	b.resize(t, 1440, 900)
	b.call(t, "Emulation.setScriptExecutionDisabled", config{"value": true}, nil)
	b.open(t, in.admin+"/")
	b.becomes(t, verdict, "✓ All 2 accounts answer.")
	b.changes(t, clock) // by the browser itself
	b.picture(t, "8-no-script")
	b.checkPage(t, in.admin)

	b.call(t, "Emulation.setScriptExecutionDisabled", config{"value": false}, nil)
	b.open(t, in.admin+"/")
	in.stop(t)
	b.becomes(t, "document.getElementById('lost').hidden", "false")
	b.picture(t, "9-gateway-gone")
}
