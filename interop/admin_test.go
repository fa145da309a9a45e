//go:build interop

// A day of an operator: the built program with TLS, a configuration that changes, a
// log that is rotated, servers that come and go, and Prometheus that looks on. Where
// something changes, clients send requests all the while, and every answer counts.
package interop

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	newKey        = "bob-rotated-0123456789" // the API key that takes the place of bobKey
	redisPassword = "interop-redis-0123456789"
)

// What the log says of a change.
const (
	configTaken   = "configuration applied"
	configRefused = "reload failed; keeping the previous configuration"
	pairTaken     = "TLS certificate loaded"
	storeLost     = "the shared limiter does not answer: each gateway limits by itself"
	storeBack     = "the shared limiter answers again"
)

// An instance is a gateway as an operator runs it: with an admin listener, a
// configuration file that is written anew, and a log file.
type instance struct {
	*gateway // its output is what does not go to the log
	cmd      *exec.Cmd
	admin    string // the URL of the admin listener
	config   string // path
	logFile  string
}

// operate starts the program with this configuration, to which it adds the admin
// listener, and waits until it listens. When the test ends the program must stop
// cleanly, having written no secret.
func operate(t *testing.T, c config, more ...string) *instance {
	t.Helper()
	if output, err := buildGateway(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	dir := t.TempDir()
	in := &instance{gateway: new(gateway), config: filepath.Join(dir, "config.json"), logFile: filepath.Join(dir, "s3-proxy.log")}
	in.configure(t, c)
	args := append([]string{"-config", in.config, "-log-file", in.logFile}, more...)
	in.cmd, in.output = start(t, environment(t), program(t, "bin/s3-proxy"), args...)
	t.Cleanup(func() { // it has its SIGTERM: the test's context is done
		in.cmd.Wait()
		if code := in.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("after SIGTERM the gateway exits with %d, want 0\n%s", code, in.output)
		}
		log := in.text(t) + in.output.String()
		checkNoSecret(t, "the gateway's log", log)
		for _, secret := range []string{newKey, redisPassword} {
			if strings.Contains(log, secret) {
				t.Errorf("the gateway's log holds %q", secret)
			}
		}
		if t.Failed() {
			t.Logf("the end of the gateway's log:\n%s", log[max(0, len(log)-4000):])
		}
	})
	scheme := "http://"
	if c["server"].(config)["tls_cert_file"] != nil {
		scheme = "https://"
	}
	await(t, "the gateway to listen", in.output, func() bool {
		for _, line := range in.log(t) {
			switch line["msg"] {
			case "admin pages":
				in.admin = fmt.Sprintf("http://%s", line["addr"])
			case "listening":
				in.url = fmt.Sprintf("%s%s", scheme, line["addr"])
			}
		}
		return in.url != ""
	})
	return in
}

// configure puts another configuration in the place of the one before, at once.
func (in *instance) configure(t *testing.T, c config) {
	t.Helper()
	c["server"].(config)["admin"] = config{"host": "127.0.0.1", "port": 0}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, in.config, text)
}

// replace writes a file beside the one at path and renames it.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// text returns what is in the log file and in those that were rotated.
func (in *instance) text(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(in.logFile + "*")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, file := range files {
		text.WriteString(read(t, file))
	}
	return text.String()
}

// log returns the lines of text.
func (in *instance) log(t *testing.T) []map[string]any {
	t.Helper()
	written := gateway{output: new(record)}
	io.WriteString(written.output, in.text(t))
	return written.log(t)
}

// logged returns how many lines of the log have this message.
func (in *instance) logged(t *testing.T, message string) int {
	t.Helper()
	return strings.Count(in.text(t), `"msg":"`+message+`"`)
}

// hangUp sends SIGHUP and waits for another line with this message.
func (in *instance) hangUp(t *testing.T, message string) {
	t.Helper()
	before := in.logged(t, message)
	if err := in.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(t, message, in.output, func() bool { return in.logged(t, message) > before })
}

// stop ends the gateway as systemd does, and waits for it.
func (in *instance) stop(t *testing.T) {
	t.Helper()
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	in.cmd.Wait()
}

// page returns the status and the text of a page of the admin listener.
func (in *instance) page(t *testing.T, path string) (status, text string) {
	t.Helper()
	status, text = request(http.DefaultClient, "GET", in.admin+path, "", "")
	checkNoSecret(t, path, text)
	if strings.Contains(text, redisPassword) {
		t.Errorf("%s holds the password of Redis", path)
	}
	return status, text
}

// metric returns the value of a sample, by its name and labels as they are written,
// or "" if there is none.
func (in *instance) metric(t *testing.T, sample string) string {
	t.Helper()
	_, text := in.page(t, "/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// deep is what /-/ready?deep=1 says of the account of backend.config.
func (in *instance) deep(t *testing.T) (status, account string) {
	t.Helper()
	status, text := in.page(t, "/-/ready?deep=1")
	var answer struct {
		Ready    bool
		Accounts map[string]string
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Ready != (status == "200") {
		t.Errorf("/-/ready?deep=1 = %s %q: %v", status, text, err)
	}
	return status, answer.Accounts["backend"]
}

// A crowd is clients that send one request after another until it is sent home.
type crowd struct {
	end     chan struct{}
	clients sync.WaitGroup

	mu      sync.Mutex
	answers map[string]int // guarded by mu: how many of each
}

// gather starts n clients. Each calls send with its number again and again, which
// returns what the answer was, such as "200".
func gather(t *testing.T, n int, send func(client int) string) *crowd {
	c := &crowd{end: make(chan struct{}), answers: map[string]int{}}
	for i := range n {
		c.clients.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond) // a loop that spins would measure the scheduler
			defer pace.Stop()
			for {
				select {
				case <-c.end:
					return
				case <-pace.C:
				}
				answer := send(i)
				c.mu.Lock()
				c.answers[answer]++
				c.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() { c.home() })
	return c
}

// count returns how many answers of a kind there were so far.
func (c *crowd) count(answer string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[answer]
}

// home ends the crowd and returns all answers.
func (c *crowd) home() map[string]int {
	select {
	case <-c.end:
	default:
		close(c.end)
	}
	c.clients.Wait()
	return c.answers
}

// request sends one request to the end of its answer, and returns its status and
// body; of one that fails, the error in place of the status.
func request(client *http.Client, method, url, key, body string) (status, got string) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err.Error(), ""
	}
	r.Header.Set("x-api-key", key)
	resp, err := client.Do(r)
	if err != nil {
		return err.Error(), ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), ""
	}
	return strconv.Itoa(resp.StatusCode), string(text)
}

// newClient returns a client of its own connections, which believes the authority
// in a file, if there is one, and then speaks HTTP/2.
func newClient(t *testing.T, ca string) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: true, TLSClientConfig: new(tls.Config)}
	if ca != "" {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(read(t, ca)))
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// writePair puts a new certificate for 127.0.0.1 and its key into two files, and
// returns a third with that of its authority, which stays.
func writePair(t *testing.T, certFile, keyFile string) (ca string) {
	t.Helper()
	certificate, ca := issued(t)
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}))
	replace(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return ca
}

// withTLS adds a new certificate to a configuration.
func (c config) withTLS(t *testing.T) (certFile, keyFile, ca string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca = writePair(t, certFile, keyFile)
	c["server"].(config)["tls_cert_file"] = certFile
	c["server"].(config)["tls_key_file"] = keyFile
	return certFile, keyFile, ca
}

// A restartable is versitygw, as a backend that can be started again on the same
// address, over the same objects.
type restartable struct {
	*backend
	flags []string // more than those of servers
	notes string
}

func newRestartable(t *testing.T, flags ...string) *restartable {
	t.Helper()
	r := &restartable{&backend{name: "versitygw", addr: freeAddr(t), dir: t.TempDir()}, flags, t.TempDir()}
	for _, bucket := range []string{"photos", "backups"} {
		if err := os.Mkdir(filepath.Join(r.dir, bucket), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	r.start(t)
	return r
}

func (r *restartable) start(t *testing.T) {
	t.Helper()
	command := servers[0].command(t, r.addr, r.dir, r.notes)
	command = slices.Insert(command, slices.Index(command, "posix"), r.flags...)
	r.cmd, r.output = start(t, environment(t), command[0], command[1:]...)
	awaitListener(t, r.name, r.addr, r.output)
}

// kill ends a program at once.
func kill(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

func awaitListener(t *testing.T, name, addr string, output *record) {
	t.Helper()
	await(t, name, output, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// startRedis starts redis-server, or a Valkey of that name, which keeps nothing on
// the disk.
func startRedis(t *testing.T, addr string) *exec.Cmd {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	cmd, output := start(t, environment(t), systemProgram(t, "redis-server"), "--bind", host, "--port", port,
		"--requirepass", redisPassword, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	awaitListener(t, "redis-server", addr, output)
	return cmd
}

// Two gateways before one Redis admit exactly the limit, however many ask at once.
// Redis is killed and started again under load: no request fails for it, each
// gateway limits by itself meanwhile, and then both together again.
//
// Where Redis takes longer than its deadline, because the machine stood still that long,
// gateways decide without it, and the count says nothing: then it is tried again.
func TestInteropSharedLimit(t *testing.T) {
	for range 5 {
		ok := false
		t.Run("try", func(t *testing.T) { ok = testSharedLimit(t) })
		if ok || t.Failed() {
			return
		}
	}
	t.Fatal("Redis was too slow each time")
}

// testSharedLimit returns false if a gateway has lost Redis though nobody killed it.
func testSharedLimit(t *testing.T) bool {
	const limit = 300
	redisAddr := freeAddr(t)
	redis := startRedis(t, redisAddr)
	b := startBackend(t, 0)
	c := b.config()
	c["rate_limit"] = config{"requests": limit, "window_seconds": 3600,
		"redis_url": "redis://:" + redisPassword + "@" + redisAddr + "/0"}
	gateways := []*instance{operate(t, c), operate(t, c)}
	if a := gateways[0].curl(t, aliceKey, "/photos/k", "--upload-file", tempFile(t, "x")); a.status != 200 {
		t.Fatalf("PUT = %d %s", a.status, a.body)
	}

	client := newClient(t, "")
	load := gather(t, 16, func(i int) string {
		status, body := request(client, "GET", gateways[i%2].url+"/photos/k", bobKey, "")
		if status == "200" && body != "x" {
			return "200 with " + body
		}
		return status
	})
	up := func(want string) func() bool {
		return func() bool {
			return !slices.ContainsFunc(gateways, func(in *instance) bool { return in.metric(t, "s3proxy_ratelimit_store_up") != want })
		}
	}
	// refusals waits for so many that whoever would be admitted has been.
	refusals := func() {
		before := load.count("429")
		await(t, "refusals", gateways[0].output, func() bool { return load.count("429") >= before+4*limit })
	}
	await(t, "the limit to be used up", gateways[0].output, func() bool { return load.count("200") >= limit })
	refusals()
	lost := func() int { return max(gateways[0].logged(t, storeLost), gateways[1].logged(t, storeLost)) }
	if lost() > 0 {
		return false
	}
	if n := load.count("200"); n != limit || !up("1")() {
		t.Errorf("two gateways admit %d requests, want %d, with the store in use", n, limit)
	}

	kill(redis)
	await(t, "both gateways to limit by themselves", gateways[0].output, up("0"))
	// What one has admitted is free at the other: another limit, for both together.
	await(t, "the limits of their own to be used up", gateways[0].output, func() bool { return load.count("200") >= 2*limit })
	refusals()
	startRedis(t, redisAddr)
	await(t, "both gateways to take up Redis again", gateways[0].output, up("1"))
	// It is empty, so there is one new window for both.
	await(t, "the new window to be used up", gateways[0].output, func() bool { return load.count("200") >= 3*limit })
	refusals()

	answers := load.home()
	t.Logf("answers: %v", answers)
	if len(answers) != 2 || answers["200"] == 0 || answers["429"] == 0 {
		t.Errorf("answers: %v; want 200 and 429 alone", answers)
	}
	if lost() > 1 {
		return false
	}
	if answers["200"] != 3*limit {
		t.Errorf("%d requests are admitted, want %d", answers["200"], 3*limit)
	}
	for i, in := range gateways {
		if lost, back := in.logged(t, storeLost), in.logged(t, storeBack); lost != 1 || back != 1 {
			t.Errorf("gateway %d logs the loss of Redis %d times and its return %d times, want once each", i, lost, back)
		}
	}
	return true
}

// quietPanels are the panels of the dashboard that have nothing to show of gateways without Redis,
// TLS, temporary credentials, limits and retries.
var quietPanels = map[string]bool{
	"Limiter store": true, "Refused by the rate limit, by user": true, "Retries by reason": true, "Credentials and certificates": true,
}

// dashboardQueries returns the queries of deploy/grafana.json by their panels, with every variable
// filled in.
func dashboardQueries(t *testing.T) map[string][]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../deploy/grafana.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	queries := map[string][]string{}
	fill := strings.NewReplacer("$__rate_interval", "10s", "$job", "s3-proxy", "$instance", ".*", "$account", ".*")
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries[p.Title] = append(queries[p.Title], fill.Replace(target.Expr))
		}
	}
	return queries
}

// Prometheus scrapes two gateways, with the alerts of deploy/.
func TestInteropPrometheus(t *testing.T) {
	b := startBackend(t, 0)
	c := b.config()
	c["accounts"].(config)["gone"] = config{"endpoint_url": "http://" + freeAddr(t), "region": region,
		"access_key_id": accessKey, "secret_access_key": secretKey, "buckets": []string{"lost"}}
	gateways := []*instance{operate(t, c), operate(t, c)}
	rules, err := filepath.Abs("../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, in := range gateways {
		targets = append(targets, strings.TrimPrefix(in.admin, "http://"))
	}
	text, err := json.Marshal(config{ // JSON is YAML
		"global":         config{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files":     []string{rules},
		"scrape_configs": []config{{"job_name": "s3-proxy", "static_configs": []config{{"targets": targets}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	_, output := start(t, environment(t), systemProgram(t, "prometheus"), "--config.file", tempFile(t, string(text)),
		"--storage.tsdb.path", t.TempDir(), "--web.listen-address", addr)
	awaitListener(t, "prometheus", addr, output)
	// ask decodes the data of an answer of the HTTP API, if there is one yet.
	ask := func(path string, data any) {
		t.Helper()
		var answer struct {
			Status, Error string
			Data          json.RawMessage
		}
		a := curl(t, "http://"+addr+"/api/v1/"+path)
		if a.status == 503 {
			return // it is still starting
		}
		if err := json.Unmarshal([]byte(a.body), &answer); err != nil || answer.Status != "success" {
			t.Fatalf("%s = %d %.500s: %v", path, a.status, a.body, err)
		}
		if err := json.Unmarshal(answer.Data, data); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	// query returns the values by the labels, in the order of their names.
	query := func(expr string) map[string]string {
		t.Helper()
		var data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
		ask("query?query="+url.QueryEscape(expr), &data)
		values := map[string]string{}
		for _, r := range data.Result {
			var labels []string
			for _, name := range slices.Sorted(maps.Keys(r.Metric)) {
				labels = append(labels, r.Metric[name])
			}
			values[strings.Join(labels, " ")] = fmt.Sprint(r.Value[1])
		}
		return values
	}
	becomes := func(expr string, want map[string]string) {
		t.Helper()
		var got map[string]string
		defer func() {
			if !maps.Equal(got, want) {
				t.Errorf("%s = %v, want %v", expr, got, want)
			}
		}()
		await(t, expr, output, func() bool {
			got = query(expr)
			return maps.Equal(got, want)
		})
	}

	for i, in := range gateways {
		if a := in.curl(t, bobKey, fmt.Sprintf("/photos/k%d", i), "--upload-file", tempFile(t, "12345")); a.status != 200 {
			t.Fatalf("PUT = %d %s", a.status, a.body)
		}
		for range 3 + i {
			in.curl(t, eveKey, fmt.Sprintf("/photos/k%d", i))
		}
		in.curl(t, eveKey, "/photos/k", "--request", "DELETE")
		in.curl(t, "nobody-0123456789abcdef", "/photos/k")
	}
	becomes("sum by (instance) (up)", map[string]string{targets[0]: "1", targets[1]: "1"})
	becomes(`sum by (instance, user, operation, code) (s3proxy_requests_total{job="s3-proxy", user!="alice"})`, map[string]string{
		"200 " + targets[0] + " PutObject bob":    "1",
		"200 " + targets[1] + " PutObject bob":    "1",
		"200 " + targets[0] + " GetObject eve":    "3",
		"200 " + targets[1] + " GetObject eve":    "4",
		"403 " + targets[0] + " DeleteObject eve": "1",
		"403 " + targets[1] + " DeleteObject eve": "1",
		"401 " + targets[0] + " other other":      "1",
		"401 " + targets[1] + " other other":      "1",
	})
	becomes(`sum(s3proxy_received_bytes_total{job="s3-proxy", user="bob", bucket="photos"})`, map[string]string{"": "10"})

	var groups struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	alerts := strings.Count(read(t, rules), "- alert:")
	await(t, "every alert to be evaluated, and none to be on", output, func() bool {
		ask("rules", &groups)
		well := 0
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				if rule.Health == "err" {
					t.Fatalf("%s: %s", rule.Name, rule.LastError)
				}
				if rule.Health == "ok" && rule.State == "inactive" {
					well++
				}
			}
		}
		return well == alerts
	})

	// An account that does not answer is seen beside one that does, and every panel of the dashboard
	// has something to show.
	await(t, "the account to be down", output, func() bool {
		gateways[0].curl(t, aliceKey, "/photos/k0")
		gateways[0].curl(t, aliceKey, "/lost/k")
		return maps.Equal(query(`min by (account) (s3proxy_upstream_up{job="s3-proxy"})`), map[string]string{"backend": "1", "gone": "0"})
	})
	for panel, queries := range dashboardQueries(t) {
		await(t, "something to show in the panel "+panel, output, func() bool {
			gateways[0].curl(t, aliceKey, "/lost/k")
			shown := 0
			for _, expr := range queries {
				shown += len(query(expr))
			}
			return shown > 0 || quietPanels[panel]
		})
	}

	// It sees one that is gone.
	gateways[1].stop(t)
	becomes("sum by (instance) (up)", map[string]string{targets[0]: "1", targets[1]: "0"})
}

// The gateway's own TLS, with HTTP/2, before clients that check its certificate,
// which is replaced meanwhile.
func TestInteropTLS(t *testing.T) {
	b := startBackend(t, 0)
	c := b.config()
	c["nested_keys"] = true
	certFile, keyFile, ca := c.withTLS(t)
	in := operate(t, c)

	// curl -w says which version of HTTP it was.
	h2 := func(ca, path string, args ...string) string {
		return run(t, "", environment(t), systemProgram(t, "curl"), append([]string{"--disable", "--silent", "--show-error", "--http2", "--cacert", ca,
			"--header", "x-api-key: " + aliceKey, "--write-out", "%{http_version} %{http_code}", in.url + path}, args...)...)
	}
	large := tempFile(t, string(noise(t, 20*mib)))
	down := tempFile(t, "")
	if got := h2(ca, "/photos/curl", "--upload-file", large); got != "2 200" {
		t.Errorf("PUT by curl --http2 = %q, want 2 200", got)
	}
	if got := h2(ca, "/photos/curl", "--output", down); got != "2 200" || fileDigest(t, down) != fileDigest(t, large) {
		t.Errorf("GET by curl --http2 = %q, want 2 200 and what was sent", got)
	}
	if a := in.curl(t, aliceKey, "/photos/curl", "--cacert", ca, "--http1.1", "--range", "0-9"); a.status != 206 || len(a.body) != 10 {
		t.Errorf("GET by curl --http1.1 = %d, %d bytes, want 206, 10", a.status, len(a.body))
	}

	for i, aws := range []string{program(t, "venv/bin/aws"), "/usr/bin/aws"} {
		env := keys(t, "AWS_CA_BUNDLE="+ca)
		object := fmt.Sprintf("s3://photos/aws/%d", i)
		run(t, "", env, aws, "--endpoint-url", in.url, "s3", "cp", "--only-show-errors", large, object)
		run(t, "", env, aws, "--endpoint-url", in.url, "s3", "cp", "--only-show-errors", object, down)
		if got, want := fileDigest(t, down), fileDigest(t, large); got != want {
			t.Errorf("%s s3 cp brings back SHA-256 %s, want %s", aws, got, want)
		}
	}
	boto := startBoto3(t, in.url, "alice", aliceKey, "AWS_CA_BUNDLE="+ca)
	if r := boto.call(t, "put_object", arguments{"Bucket": "photos", "Key": "boto3", "Body": []byte("x")}); r.Status != 200 {
		t.Errorf("put_object = %d %s", r.Status, r.Code)
	}
	if r := boto.call(t, "head_object", arguments{"Bucket": "photos", "Key": "boto3"}); r.Status != 200 || r.Header["content-length"] != "1" {
		t.Errorf("head_object = %d, %v", r.Status, r.Header)
	}

	// Nobody tells the gateway of the new certificate.
	old := newClient(t, ca)
	if status, _ := request(old, "GET", in.url+"/photos/boto3", aliceKey, ""); status != "200" {
		t.Fatalf("GET = %s", status)
	}
	taken := in.logged(t, pairTaken)
	newCA := writePair(t, certFile, keyFile)
	await(t, "the new certificate to be seen", in.output, func() bool { return in.logged(t, pairTaken) > taken })
	if got := h2(newCA, "/photos/boto3", "--output", down); got != "2 200" {
		t.Errorf("with the new certificate, GET = %q, want 2 200", got)
	}
	if got := failing(t, environment(t), systemProgram(t, "curl"), "--disable", "--silent", "--show-error", "--cacert", ca, in.url+"/photos/boto3"); !strings.Contains(got, "certificate") {
		t.Errorf("curl with the old certificate says %q", got)
	}
	if status, _ := request(old, "GET", in.url+"/photos/boto3", aliceKey, ""); status != "200" {
		t.Errorf("on the connection of before, GET = %s", status)
	}
}

// A key is rotated, and the log, under load: no request is lost and no line.
func TestInteropReload(t *testing.T) {
	b := startBackend(t, 0)
	c := b.config()
	_, _, ca := c.withTLS(t)
	bob := c["users"].(config)["bob"].(config)
	delete(bob, "api_key")
	bob["api_keys"] = []string{bobKey}
	in := operate(t, c)
	rotations := 0
	rotate := func(message string) {
		t.Helper()
		rotations++
		if err := os.Rename(in.logFile, fmt.Sprintf("%s.%d", in.logFile, rotations)); err != nil {
			t.Fatal(err)
		}
		in.hangUp(t, message)
	}

	const clients = 6
	var key atomic.Pointer[string]
	use := func(k string) { key.Store(&k) }
	use(bobKey)
	var sent [clients]atomic.Int64 // requests that are answered, of each
	client := newClient(t, ca)
	load := gather(t, clients, func(i int) string {
		k, n := *key.Load(), sent[i].Load()
		defer sent[i].Add(1)
		object := fmt.Sprintf("%s/photos/k%d", in.url, i)
		if n%2 == 0 {
			status, _ := request(client, "PUT", object, k, fmt.Sprint("version ", n))
			return status
		}
		status, body := request(client, "GET", object, k, "")
		if want := fmt.Sprint("version ", n-1); status == "200" && body != want {
			return fmt.Sprintf("200 with %q, want %q", body, want)
		}
		return status
	})
	// more waits until every client has begun a request from now on and has its answer.
	more := func() {
		t.Helper()
		for i := range sent {
			before := sent[i].Load()
			await(t, "the load", in.output, func() bool { return sent[i].Load() >= before+5 })
		}
	}

	more()
	bob["api_keys"] = []string{bobKey, newKey}
	in.configure(t, c)
	rotate(configTaken)
	use(newKey)
	more()
	bob["api_keys"] = []string{newKey}
	in.configure(t, c)
	rotate(configTaken)
	if a := in.curl(t, bobKey, "/photos/k0", "--cacert", ca); a.status != 401 {
		t.Errorf("GET with the key of before = %d, want 401", a.status)
	}
	more()

	bob["role"] = "owner"
	in.configure(t, c)
	rotate(configRefused)
	if ok := in.metric(t, "s3proxy_config_last_reload_successful"); ok != "0" {
		t.Errorf("after a bad configuration, s3proxy_config_last_reload_successful = %q", ok)
	}
	reload := func() (status, text string) { return request(http.DefaultClient, "POST", in.admin+"/-/reload", "", "") }
	if status, text := reload(); status != "500" || !strings.Contains(text, "users.bob.role") {
		t.Errorf("POST /-/reload of a bad configuration = %s %s, want 500 and the path of the fault", status, text)
	}
	more()
	bob["role"] = "user"
	in.configure(t, c)
	if status, text := reload(); status != "200" {
		t.Errorf("POST /-/reload of a good configuration = %s %s, want 200", status, text)
	}
	if ok := in.metric(t, "s3proxy_config_last_reload_successful"); ok != "1" {
		t.Errorf("after a good configuration, s3proxy_config_last_reload_successful = %q", ok)
	}
	more()

	answers := load.home()
	t.Logf("answers: %v", answers)
	if len(answers) != 1 || answers["200"] == 0 {
		t.Errorf("answers: %v, want 200 alone", answers)
	}
	if n := in.metric(t, "s3proxy_log_dropped_lines_total"); n != "0" {
		t.Errorf("s3proxy_log_dropped_lines_total = %q", n)
	}
	in.stop(t)
	ids := map[any]bool{}
	for _, line := range in.log(t) {
		if line["msg"] == "request" && line["user"] == "bob" {
			if ids[line["request_id"]] || line["status"] != 200.0 {
				t.Errorf("the log has twice, or with another status than 200: %v", line)
			}
			ids[line["request_id"]] = true
		}
	}
	if len(ids) != answers["200"] {
		t.Errorf("%d requests have %d lines in the log and the %d before it", answers["200"], len(ids), rotations)
	}
}

// A backend is killed and started again under load. Meanwhile clients get 502, and soon a
// fast 503, and the gateway stays ready, for it may have other accounts; who asks deeper is told.
func TestInteropBackendRestart(t *testing.T) {
	r := newRestartable(t)
	in := operate(t, r.config())
	if a := in.curl(t, aliceKey, "/photos/k", "--upload-file", tempFile(t, "x")); a.status != 200 {
		t.Fatalf("PUT = %d %s", a.status, a.body)
	}
	ready := func(status, account string) {
		t.Helper()
		if gotStatus, got := in.deep(t); gotStatus != status || got != account {
			t.Errorf("/-/ready?deep=1 = %s, %q, want %s, %q", gotStatus, got, status, account)
		}
		for _, path := range []string{"/-/ready", "/-/healthy"} {
			if status, text := in.page(t, path); status != "200" {
				t.Errorf("%s = %s %s, want 200", path, status, text)
			}
		}
	}
	client := newClient(t, "")
	load := gather(t, 4, func(int) string {
		status, body := request(client, "GET", in.url+"/photos/k", bobKey, "")
		if status == "200" && body != "x" {
			return "200 with " + body
		}
		return status
	})
	// more waits until there are that many more of an answer.
	more := func(answer string) {
		t.Helper()
		before := load.count(answer)
		await(t, answer, in.output, func() bool { return load.count(answer) >= before+100 })
	}

	more("200")
	ready("200", "ok")
	kill(r.cmd)
	more("503")
	ready("503", "no answer; the log has the details")
	a := in.curl(t, bobKey, "/photos/k")
	if a.status != 502 { // the probe's
		a.wantError(t, "GET of what can't be reached", 503, "")
	}
	if strings.Contains(a.body+fmt.Sprint(a.header), r.addr) {
		t.Errorf("the answer names the backend: %v %s", a.header, a.body)
	}
	r.start(t)
	more("200")
	ready("200", "ok")
	if answers := load.home(); len(answers) != 3 || answers["200"] == 0 || answers["502"] == 0 || answers["503"] == 0 {
		t.Errorf("answers: %v, want 200, 502 and 503", answers)
	}
}

// A backend with a certificate that no system knows: it is not trusted until ca_file
// names its authority, and not by the word of another.
func TestInteropBackendTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca := writePair(t, certFile, keyFile)
	_, otherCA := issued(t)
	r := newRestartable(t, "--cert", certFile, "--key", keyFile)
	c := r.config()
	account := c["accounts"].(config)["backend"].(config)
	account["endpoint_url"] = "https://" + r.addr
	in := operate(t, c, "-watch", "50ms")
	refused := func(what string) {
		t.Helper()
		for _, args := range [][]string{{"--upload-file", tempFile(t, "x")}, {"--range", "0-9"}} {
			a := in.curl(t, aliceKey, "/photos/k", args...)
			a.wantError(t, what, 502, "")
		}
		if status, account := in.deep(t); status != "503" {
			t.Errorf("%s, /-/ready?deep=1 = %s, %q, want 503", what, status, account)
		}
	}
	changed := func() {
		t.Helper()
		before := in.logged(t, configTaken)
		in.configure(t, c)
		await(t, "-watch to see the change", in.output, func() bool { return in.logged(t, configTaken) > before })
	}
	refused("without ca_file")
	account["ca_file"] = otherCA
	changed()
	refused("with the authority of another")
	if left := r.files(t, "photos"); len(left) > 0 {
		t.Errorf("the backend has %v", left)
	}
	account["ca_file"] = ca
	changed()
	if status, account := in.deep(t); status != "200" {
		t.Errorf("/-/ready?deep=1 = %s, %q, want 200", status, account)
	}
	large := tempFile(t, string(noise(t, 5*mib)))
	if a := in.curl(t, aliceKey, "/photos/k", "--upload-file", large); a.status != 200 {
		t.Errorf("PUT = %d %s", a.status, a.body)
	}
	if got, want := r.files(t, "photos")["k"], fileDigest(t, large); got != want {
		t.Errorf("the backend has SHA-256 %s, want %s", got, want)
	}
	if a := in.curl(t, aliceKey, "/photos/k"); a.status != 200 || digest(t, strings.NewReader(a.body)) != fileDigest(t, large) {
		t.Errorf("GET = %d, %d bytes, want 200 and what was sent", a.status, len(a.body))
	}
	if got := keysOf(in.list(t, aliceKey, "/photos")); !slices.Equal(got, []string{"k"}) {
		t.Errorf("the listing has %q, want k", got)
	}
}

// The configuration in deploy/kubernetes.yaml is right but for its secrets, which the
// gateway refuses as they stand.
func TestInteropKubernetes(t *testing.T) {
	if output, err := buildGateway(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	manifest := read(t, "../deploy/kubernetes.yaml")
	_, text, _ := strings.Cut(manifest, "  config.json: |\n")
	text, _, found := strings.Cut(text, "\n---\n")
	if !found {
		t.Fatal("deploy/kubernetes.yaml has no config.json")
	}
	dir := t.TempDir()
	file := tempFile(t, strings.ReplaceAll(text, "/etc/s3-proxy/secrets", dir))
	secrets := func(change func(value string) string) {
		t.Helper()
		_, list, _ := strings.Cut(manifest, "\nstringData:\n")
		list, _, _ = strings.Cut(list, "\n---\n")
		for line := range strings.Lines(list + "\n") {
			name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok {
				t.Fatalf("%q of stringData is no secret", line)
			}
			replace(t, filepath.Join(dir, name), []byte(change(value)))
		}
	}
	secrets(func(value string) string { return value })
	if got := failing(t, environment(t), program(t, "bin/s3-proxy"), "-config", file, "-check"); !strings.Contains(got, "users.alice.api_key") {
		t.Errorf("with the secrets of the manifest, -check says %q", got)
	}
	secrets(func(value string) string { return strings.ReplaceAll(value, "change-me", "0123456789abcdef") })
	if got := run(t, "", environment(t), program(t, "bin/s3-proxy"), "-config", file, "-check"); !strings.Contains(got, "bucket photos: account minio") {
		t.Errorf("with other secrets, -check says %q", got)
	}
}
