package main

// The rules of a configuration. A file is checked as a whole, and every error is reported
// at once, with the path of the setting.

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A checker collects errors, each with the path of the setting.
type checker struct {
	known       []error // errors found while reading
	errs        []error
	exampleKeys bool // -demo: the keys of config.example.json are allowed
	empty       map[string]string
	fetched     map[string]string
	lookupEnv   func(string) (string, bool)
}

// errorf adds an error, unless it follows from one that was found while reading: at this
// path, above it or below it.
func (c *checker) errorf(path, format string, args ...any) {
	for _, err := range c.known {
		var f configError
		if errors.As(err, &f) && (f.path == wholeDocument || within(path, f.path) || within(f.path, path)) {
			return
		}
	}
	c.errs = append(c.errs, configError{path, c.withoutFetched(fmt.Sprintf(format, args...)) + c.emptyHint(path)})
}

// shortestSecret is the length of the shortest value that is kept out of errors, in bytes.
const shortestSecret = 8

// withoutFetched returns a text without values that were read from a variable or from a file: they
// are not where everybody may read them, and one in the wrong setting may be a secret.
func (c *checker) withoutFetched(text string) string {
	var pairs []string
	for _, value := range slices.SortedFunc(maps.Keys(c.fetched), func(a, b string) int { return len(b) - len(a) }) { // one may begin with another
		if source := c.fetched[value]; len(value) >= shortestSecret {
			pairs = append(pairs, strconv.Quote(value), "what "+source+" has", value, "("+source+")")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// emptyHint names the empty variable or file that the value at path was read from, if any.
func (c *checker) emptyHint(path string) string {
	if source := c.empty[path]; source != "" {
		return "; " + source + " is empty"
	}
	return ""
}

func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// check turns the file into a config. The error joins all errors; there is no config with
// it.
func (f *configFile) check(exampleKeys bool) (*config, error) {
	c := &checker{exampleKeys: exampleKeys, known: f.errs, empty: f.empty, fetched: f.fetched, lookupEnv: f.lookupEnv}
	conf := &config{
		buckets:         map[string]*bucket{},
		maxFileSize:     defaultMaxFileSize,
		nestedKeys:      f.NestedKeys,
		idleTimeout:     orDefault(f.Server.IdleTimeout, defaultIdleTimeout),
		shutdownTimeout: orDefault(f.Server.ShutdownTimeout, defaultShutdownTimeout),
		shutdownDelay:   time.Duration(f.Server.ShutdownDelay),
	}
	conf.listeners = c.listeners(f.Server)
	conf.domain = c.domain("server.domain", f.Server.Domain)
	conf.cors = c.cors("server.cors", f.Server.CORS)
	conf.hsts = c.hsts("server.hsts", f.Server.HSTS)
	conf.adminHosts = c.adminHosts(f.Server.Admin)
	if f.MaxFileSize != nil {
		if conf.maxFileSize = *f.MaxFileSize; conf.maxFileSize < 1 {
			c.errorf("max_file_size", "must be a number of bytes above 0, not %d", conf.maxFileSize)
		}
	}
	c.accounts(f, conf)
	c.users(f, conf)
	if err := errors.Join(append(c.known, c.errs...)...); err != nil {
		return nil, err
	}
	return conf, nil
}

// extent says how much is configured.
func (conf *config) extent() string {
	return plural(len(conf.accounts), "account") + ", " + plural(len(conf.buckets), "bucket") + ", " + plural(len(conf.users), "user")
}

// plural returns a number and a noun, with an s unless there is one.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// describe prints what would be served, without secrets.
func (conf *config) describe(w io.Writer) {
	fmt.Fprintf(w, "%s; on %s\n", conf.extent(), conf.listen)
	for _, on := range []struct {
		what string
		is   bool
	}{
		{"TLS: " + conf.certFile, conf.certFile != ""},
		{"clients need a certificate: " + conf.clientCA, conf.clientCA != ""},
		{"admin pages: " + conf.admin, conf.admin != ""},
		{fmt.Sprintf("at most %d connections", conf.maxConnections), conf.maxConnections > 0},
		{fmt.Sprintf("limits shared through Redis: %v", conf.redis), conf.redis != nil},
	} {
		if on.is {
			fmt.Fprintln(w, on.what)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(conf.buckets)) {
		b := conf.buckets[name]
		a := b.account
		fmt.Fprintf(w, "bucket %s: account %s, %s://%s%s, %s\n", name, a.name, a.scheme, a.host, a.basePath, b.backendName)
	}
	for _, u := range conf.users {
		buckets := slices.Sorted(maps.Keys(u.buckets))
		fmt.Fprintf(w, "user %s: %s, %s, %s%s\n", u.name, u.role, strings.Join(buckets, " "), u.limit, u.share)
	}
	for _, warning := range conf.warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
}

func orDefault(d duration, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}

func (c *checker) listeners(s serverFile) listeners {
	l := listeners{
		listen:         c.address("server", s.Host, s.Port, defaultPort),
		certFile:       s.TLSCertFile,
		keyFile:        s.TLSKeyFile,
		clientCA:       s.TLSClientCAFile,
		maxConnections: s.MaxConnections,
	}
	if s.Admin != nil {
		l.admin = c.address("server.admin", s.Admin.Host, s.Admin.Port, defaultAdminPort)
	}
	if overlap(l.listen, l.admin) {
		c.errorf("server.admin.port", "is the port of the main listener too; use another")
	}
	if (l.certFile == "") != (l.keyFile == "") {
		c.errorf("server.tls_cert_file", "goes with tls_key_file: set both or neither")
	}
	if l.clientCA != "" && l.certFile == "" {
		c.errorf("server.tls_client_ca_file", "goes with tls_cert_file and tls_key_file")
	}
	if l.maxConnections < 0 {
		c.errorf("server.max_connections", "must be a number of connections, or 0 for no limit, not %d", l.maxConnections)
	}
	return l
}

func (c *checker) address(path, host string, port *int, standard int) string {
	number := standard
	if port != nil {
		number = *port
	}
	if number < 0 || number > 65535 {
		c.errorf(path+".port", "must be 0 (any free port) to 65535, not %d", number)
	}
	if problem := hostProblem(host, path); problem != "" {
		c.errorf(path+".host", "%s", problem)
	}
	return net.JoinHostPort(strings.Trim(cmp.Or(host, "127.0.0.1"), "[]"), strconv.Itoa(number))
}

// accounts checks the accounts in the order of their names, so that a file always gives
// the same errors.
func (c *checker) accounts(f *configFile, conf *config) {
	if len(f.Accounts) == 0 {
		c.errorf("accounts", "must have at least one account")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Accounts)) {
		path, af := "accounts."+name, f.Accounts[name]
		a := c.account(path, name, af)
		conf.accounts = append(conf.accounts, a)
		if a.scheme == "http" && !isLoopback(a.host) {
			conf.warnings = append(conf.warnings, path+".endpoint_url: plain http to another machine; who listens on the way can read and replay it")
		}
		if len(af.Buckets) == 0 {
			c.errorf(path+".buckets", "must have at least one bucket")
		}
		for i, entry := range af.Buckets {
			c.bucket(fmt.Sprintf("%s.buckets[%d]", path, i), entry, a, conf)
		}
		c.bucketInEndpoint(path, af, a, conf)
	}
}

// bucket adds a bucket of an account.
func (c *checker) bucket(path string, f bucketFile, a *account, conf *config) {
	other, taken := conf.buckets[f.Name]
	switch {
	case !validBucket(f.Name):
		c.errorf(path, "%q is not a bucket name (3 to 63 of a-z, 0-9, - and .)", f.Name)
	case taken:
		c.errorf(path, "bucket %q is claimed by account %q already", f.Name, other.account.name)
	case a.virtualHost && a.scheme == "https" && strings.Contains(f.Name+f.Bucket, "."):
		c.errorf(path, "bucket %q has a dot: no certificate matches it as a host name; use \"addressing\": \"path\"", f.Name)
	}
	if f.Bucket != "" && !validBackendName.MatchString(f.Bucket) {
		c.errorf(path+".bucket", "%q is not a bucket name", f.Bucket)
	}
	conf.buckets[f.Name] = &bucket{name: f.Name, backendName: cmp.Or(f.Bucket, f.Name), account: a}
}

// validIdentifier matches letters, digits and characters that are harmless in a log, a
// metric and the credential scope of a signature ("NAME/20130524/…").
var validIdentifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

// validBackendName accepts more than validBucket: some services have buckets that are older
// than the rule.
var validBackendName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$`)

func (c *checker) account(path, accountName string, f accountFile) *account {
	a := &account{
		name:                  accountName,
		region:                f.Region,
		credentials:           credentials{f.AccessKeyID, f.SecretAccessKey, f.SessionToken},
		virtualHost:           f.Addressing == "virtual",
		forwardTrailers:       f.TrailingChecksums != "verify",
		connectTimeout:        orDefault(f.ConnectTimeout, defaultConnectTimeout),
		responseHeaderTimeout: orDefault(f.ResponseHeaderTimeout, defaultHeaderTimeout),
	}
	if !validIdentifier.MatchString(accountName) {
		c.errorf(path, "must be 1 to 64 letters, digits and . _ @ + -")
	}
	if a.region == "" {
		a.region = "us-east-1"
	}
	c.atLeastZero(path+".max_in_flight", f.MaxInFlight, &a.maxInFlight)
	if !validToken.MatchString(a.region) {
		c.errorf(path+".region", "%s is not a region name", quotedWord(a.region))
	}
	c.credentials(path, accountName, f, a)
	if f.CAFile != "" {
		var err error
		if a.roots, err = caPool(f.CAFile); err != nil {
			c.errorf(path+".ca_file", "%v", err)
		}
	}
	if f.Addressing != "" && f.Addressing != "path" && f.Addressing != "virtual" {
		c.errorf(path+".addressing", `must be "path" or "virtual", not %s`, quotedWord(f.Addressing))
	}
	if f.TrailingChecksums != "" && f.TrailingChecksums != "forward" && f.TrailingChecksums != "verify" {
		c.errorf(path+".trailing_checksums", `must be "forward" or "verify", not %s`, quotedWord(f.TrailingChecksums))
	}
	c.endpoint(path+".endpoint_url", f.EndpointURL, a)
	return a
}

// credentials checks the credentials in the file, or makes the source of others. It does not
// fetch any.
func (c *checker) credentials(path, accountName string, f accountFile, a *account) {
	a.source = staticCredentials(a.credentials)
	if f.Credentials != "" {
		if a.credentials != (credentials{}) {
			c.errorf(path+".credentials", "goes without access_key_id, secret_access_key and session_token")
		}
		source, err := newCredentialSource(f.Credentials, accountName, c.lookupEnv, slog.Default())
		if err != nil {
			c.errorf(path+".credentials", "%v", err)
			return
		}
		a.credentialSpec, a.source = f.Credentials, source
		return
	}
	if !validToken.MatchString(f.AccessKeyID) {
		c.errorf(path+".access_key_id", "must be an access key id: printable characters without space, slash or comma")
	}
	if f.SecretAccessKey == "" {
		c.errorf(path+".secret_access_key", "must be a secret access key")
	}
	if !isPrintable(f.SessionToken) {
		c.errorf(path+".session_token", "has characters that a header can't have")
	}
}

func (c *checker) domain(path, domain string) string {
	if domain != "" && !validDomain.MatchString(domain) {
		c.errorf(path, "%q is not a host name in lower case, without a port", domain)
	}
	return domain
}

// validHSTS is RFC 6797 section 6.1, with preload, which browsers add.
var validHSTS = regexp.MustCompile(`^(?i)max-age=[0-9]{1,10}( *; *(includeSubDomains|preload))*$`)

// hsts returns the value of Strict-Transport-Security: a year by default, none for "".
func (c *checker) hsts(path string, value *string) []string {
	switch {
	case value == nil:
		return []string{defaultHSTS}
	case *value == "":
		return nil
	case !validHSTS.MatchString(*value):
		c.errorf(path, `must be a value like "max-age=31536000; includeSubDomains", or "" for none, not %q`, *value)
	}
	return []string{*value}
}

// adminHosts returns the names of server.admin.allowed_hosts.
func (c *checker) adminHosts(f *adminFile) map[string]bool {
	if f == nil {
		return nil
	}
	names := map[string]bool{}
	for i, host := range f.AllowedHosts {
		path := fmt.Sprintf("server.admin.allowed_hosts[%d]", i)
		names[c.domain(path, strings.ToLower(host))] = true
		if host == "" {
			c.errorf(path, "must be a host name without a port")
		}
	}
	return names
}

// isOrigin reports whether s is a scheme and a host, as browsers write an origin.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.Fragment == ""
}

// cors checks the rule for browsers. Its lists become headers.
func (c *checker) cors(path string, f *corsFile) *cors {
	if f == nil {
		return nil
	}
	if len(f.AllowedOrigins) == 0 {
		c.errorf(path+".allowed_origins", `must be origins like "https://app.example", or "*"`)
	}
	for i, origin := range f.AllowedOrigins {
		if origin != "*" && !isOrigin(origin) {
			c.errorf(fmt.Sprintf("%s.allowed_origins[%d]", path, i), `%q is not an origin like "https://app.example"`, origin)
		}
	}
	for i, method := range f.AllowedMethods {
		if !slices.Contains([]string{"GET", "HEAD", "PUT", "POST", "DELETE"}, method) {
			c.errorf(fmt.Sprintf("%s.allowed_methods[%d]", path, i), "must be GET, HEAD, PUT, POST or DELETE, not %s", quotedWord(method))
		}
	}
	for i, header := range slices.Concat(f.AllowedHeaders, f.ExposeHeaders) {
		if !validToken.MatchString(header) {
			c.errorf(path, "%q (number %d of the headers) is not the name of a header", header, i)
		}
	}
	if f.MaxAgeSeconds < 0 {
		c.errorf(path+".max_age_seconds", "must be 0 or more, not %d", f.MaxAgeSeconds)
	}
	return newCORS(f.AllowedOrigins, f.AllowedMethods, f.AllowedHeaders, f.ExposeHeaders, f.MaxAgeSeconds)
}

// endpoint splits an endpoint's URL. No error quotes the whole URL: it may hold a
// password.
func (c *checker) endpoint(path, raw string, a *account) {
	u, err := url.Parse(raw)
	if err != nil || !isServerURL(u, "http", "https") {
		c.errorf(path, "must be an address like http://localhost:9000 or https://s3.eu-west-1.amazonaws.com")
		return
	}
	if u.User != nil {
		c.errorf(path, "holds a user name or password; use access_key_id and secret_access_key")
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		c.errorf(path, "has a query or a fragment, which no request could carry")
	}
	if port := u.Port(); port != "" && !validPort(port) {
		c.errorf(path, "port %s is not between 1 and 65535", port)
	}
	a.scheme = u.Scheme
	// Clients leave the scheme's own port out of the Host header, so it is left out of
	// what is signed.
	a.host = strings.ToLower(u.Host)
	a.host = strings.TrimSuffix(a.host, map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	a.host = strings.TrimSuffix(a.host, ":")
	a.basePath = strings.TrimSuffix(u.EscapedPath(), "/")
	if !plainPath.MatchString(a.basePath) || hasDotSegment(a.basePath) {
		c.errorf(path, "the path would change keys: use segments of letters, digits and . _ ~ - only")
	}
	if a.virtualHost && net.ParseIP(u.Hostname()) != nil {
		c.errorf(path, `"addressing": "virtual" needs a host name, not an IP address`)
	}
}

var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

func (c *checker) users(f *configFile, conf *config) {
	if len(f.Users) == 0 {
		c.errorf("users", "must have at least one user")
	}
	standard := c.limit("rate_limit", f.RateLimit, rateLimit{defaultLimitRequests, defaultLimitWindow * time.Second})
	if f.RateLimit != nil && f.RateLimit.RedisURL != "" {
		server, err := parseRedisURL(f.RateLimit.RedisURL)
		if err != nil {
			c.errorf("rate_limit.redis_url", "%v", err)
		}
		conf.redis = &server
	}
	standardShare := c.share("", f.MaxInFlight, f.BytesPerSecond, share{})
	ownerOf := map[[sha256.Size]byte]string{}
	for _, userName := range slices.Sorted(maps.Keys(f.Users)) {
		path, uf := "users."+userName, f.Users[userName]
		if !validIdentifier.MatchString(userName) {
			c.errorf(path, "must be 1 to 64 letters, digits and . _ @ + -")
		}
		u := &user{name: userName, role: c.role(path+".role", uf.Role)}
		u.keys = c.keys(path, uf)
		for _, key := range u.keys {
			if other, taken := ownerOf[key.digest]; taken {
				c.errorf(path, "has the same API key as users.%s", other)
			}
			ownerOf[key.digest] = userName
		}
		u.allBuckets, u.buckets = c.allowedBuckets(path+".allowed_buckets", uf.AllowedBuckets, conf.buckets)
		if len(u.buckets) == 0 {
			conf.warnings = append(conf.warnings, path+`: has no allowed_buckets, and so may use none; name them, or "*" for all`)
		}
		conf.users = append(conf.users, u)
		u.limit = c.limit(path+".rate_limit", uf.RateLimit, standard)
		if uf.RateLimit != nil && uf.RateLimit.RedisURL != "" {
			c.errorf(path+".rate_limit.redis_url", "is one for all users: set it in the rate_limit at the top")
		}
		u.share = c.share(path+".", uf.MaxInFlight, uf.BytesPerSecond, standardShare)
	}
}

func (c *checker) role(path, s string) role {
	for _, r := range []role{roleAdmin, roleUser, roleReadOnly} {
		if s == string(r) {
			return r
		}
	}
	c.errorf(path, `must be "admin", "user" or "readonly", not %s`, quotedWord(s))
	return roleReadOnly
}

// keys returns the digests of a user's keys, and the keys themselves where the
// file has them.
func (c *checker) keys(path string, f userFile) (keys []apiKey) {
	forms := 0
	if f.APIKey != "" {
		forms++
		keys = []apiKey{keyOf(c.key(path+".api_key", f.APIKey))}
	}
	if f.APIKeys != nil {
		forms++
		if len(f.APIKeys) < 1 || len(f.APIKeys) > 2 {
			c.errorf(path+".api_keys", "must be one key, or two during a rotation")
		}
		for i, key := range f.APIKeys {
			keys = append(keys, keyOf(c.key(fmt.Sprintf("%s.api_keys[%d]", path, i), key)))
		}
	}
	if f.APIKeySHA256 != "" {
		forms++
		digest, err := hex.DecodeString(f.APIKeySHA256)
		if err != nil || len(digest) != sha256.Size {
			c.errorf(path+".api_key_sha256", "must be 64 hex digits, the SHA-256 of the key")
			return keys
		}
		keys = append(keys, keyOfDigest([sha256.Size]byte(digest)))
	}
	if forms != 1 {
		c.errorf(path, "must have one of api_key, api_keys and api_key_sha256, not empty%s%s", c.emptyHint(path+".api_key"), c.emptyHint(path+".api_key_sha256"))
	}
	return keys
}

// exampleKey marks the keys of config.example.json, which are public.
const exampleKey = "change-me"

func (c *checker) key(path, key string) string {
	switch {
	case len(key) < minAPIKey:
		c.errorf(path, "must have at least %d characters; `s3-proxy key` makes a good one", minAPIKey)
	case len(key) > maxAPIKey || !isPrintable(key):
		c.errorf(path, "must have at most %d printable ASCII characters and no space: it is sent in a header", maxAPIKey)
	case strings.Contains(key, exampleKey) && !c.exampleKeys:
		c.errorf(path, "is a published example; `s3-proxy key` makes a good one")
	}
	return key
}

func (c *checker) allowedBuckets(path string, list []string, known map[string]*bucket) (all bool, allowed map[string]bool) {
	allowed = map[string]bool{}
	for i, name := range list {
		if name == "*" {
			all = true
		} else if known[name] == nil {
			c.errorf(fmt.Sprintf("%s[%d]", path, i), "bucket %q is in no account%s", name, bucketHint(name))
		}
		allowed[name] = true
	}
	return all, allowed
}

// limit returns the limit of the file, with the standard for what the file leaves out.
func (c *checker) limit(path string, f *limitFile, standard rateLimit) rateLimit {
	if f == nil {
		return standard
	}
	if f.Requests != nil {
		standard.requests = *f.Requests
	}
	if f.WindowSeconds != nil {
		standard.window = time.Duration(*f.WindowSeconds) * time.Second
		if *f.WindowSeconds < 1 || *f.WindowSeconds > 86400 {
			c.errorf(path+".window_seconds", "must be 1 to 86400 seconds, not %d", *f.WindowSeconds)
		}
	}
	if standard.requests < 0 || standard.requests > maxLimitRequests {
		c.errorf(path+".requests", "must be 1 to %d, or 0 for no limit, not %d", maxLimitRequests, standard.requests)
	}
	return standard
}

// share returns the share of the file, with the standard for what the file leaves out. The
// prefix begins the paths of its settings.
func (c *checker) share(prefix string, requests, bytesPerSecond *int64, standard share) share {
	c.atLeastZero(prefix+"max_in_flight", requests, &standard.inFlight)
	c.atLeastZero(prefix+"bytes_per_second", bytesPerSecond, &standard.bytesPerSecond)
	return standard
}

func (c *checker) atLeastZero(path string, value, to *int64) {
	if value == nil {
		return
	}
	if *to = *value; *value < 0 {
		c.errorf(path, "must be a number above 0, or 0 for no limit, not %d", *value)
	}
}
