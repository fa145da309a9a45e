package main

// Where an account's credentials come from, when they do not stand in the
// configuration, and how they are kept fresh without an SDK. Names and meanings
// are those of the SDKs, so that what works for them works here:
//
//	env            AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//	profile:NAME   a section of the shared credentials file
//	web-identity   a token file, traded for credentials at STS (EKS: IRSA)
//	ecs            the container's endpoint (ECS tasks, EKS Pod Identity)
//	imds           the role of the EC2 instance, by IMDSv2 alone
//
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
//
// Nothing that an endpoint says reaches a log or an error: it hands out secrets,
// and a confused one hands them out in the wrong place.

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	fetchTimeout  = 5 * time.Second  // for one fetch, which is up to three requests
	startTimeout  = 10 * time.Second // for all attempts at the first one
	startAttempts = 3

	// Credentials are fetched anew when half of the time they are good for is
	// over: then an outage of the endpoint has the other half to pass. IMDS
	// has new ones five minutes before the old ones expire, or earlier, so
	// the last halves find them.
	minRefresh = 10 * time.Second
	maxRefresh = time.Hour   // a timer does not see that the clock is set, or that the machine slept
	pollFile   = time.Minute // for a file, which doesn't say until when it is good

	firstFetchBackoff = time.Second
	maxFetchBackoff   = time.Minute

	maxCredentialsDocument = 64 << 10 // bytes; a session token has no stated bound, and 2 KiB is a large one
)

// An expiringCredentials is what a provider fetched.
type expiringCredentials struct {
	credentials
	expires time.Time // zero if nobody says
}

// A credentialSource holds an account's credentials and keeps them fresh. It
// may be used by several goroutines at once.
type credentialSource struct {
	account string
	kind    string // the first word of the specification
	log     *slog.Logger
	client  *http.Client
	fetch   func(context.Context) (expiringCredentials, error) // nil: they never change

	current  atomic.Pointer[expiringCredentials] // never nil
	failures atomic.Int64                        // fetches that failed
}

// credentialProviders makes a source ready by its kind. Each reads what it needs
// from the environment, and asks nobody yet. The argument is what follows the
// colon of the specification; only profile has one.
var credentialProviders = map[string]func(s *credentialSource, argument string, env func(string) string) error{
	"env":          (*credentialSource).useEnvironment,
	"profile":      (*credentialSource).useProfile,
	"web-identity": (*credentialSource).useWebIdentity,
	"ecs":          (*credentialSource).useContainer,
	"imds":         (*credentialSource).useInstance,
}

// staticCredentials returns a source of credentials that never change. There is
// nothing to start.
func staticCredentials(c credentials) *credentialSource {
	s := &credentialSource{}
	s.current.Store(&expiringCredentials{credentials: c})
	return s
}

// newCredentialSource returns the source of a specification: "env", "profile",
// "profile:NAME", "web-identity", "ecs" or "imds". It reads the environment, but
// no file and no network: those wait for start. The error says what is wrong with
// the specification, or which variable is missing.
func newCredentialSource(spec, account string, lookupEnv func(string) (string, bool), log *slog.Logger) (*credentialSource, error) {
	kind, argument, hasArgument := strings.Cut(spec, ":")
	use := credentialProviders[kind]
	if use == nil || hasArgument && (kind != "profile" || argument == "") {
		return nil, fmt.Errorf(`want "env", "profile:NAME", "web-identity", "ecs" or "imds", have %q`, spec)
	}
	s := staticCredentials(credentials{})
	s.account, s.kind = account, kind
	s.log = log.With("account", account, "source", kind)
	env := func(name string) string { // for the SDKs, too, empty is not set
		value, _ := lookupEnv(name)
		return value
	}
	if err := use(s, argument, env); err != nil {
		return nil, err
	}
	return s, nil
}

// get returns the credentials of this moment. They must not be changed, and a
// request must be signed with those of one call. They are empty before start.
func (s *credentialSource) get() *credentials { return &s.current.Load().credentials }

// expires is when the credentials expire, in seconds since 1970; 0 if they don't.
func (s *credentialSource) expires() int64 {
	if t := s.current.Load().expires; !t.IsZero() {
		return t.Unix()
	}
	return 0
}

// start fetches the first credentials, in startTimeout, and goes on to refresh
// them until ctx is done. If it returns an error, nothing goes on.
//
// Whatever fails is tried again: the token file of a pod and the agent beside it
// may come up after the gateway.
func (s *credentialSource) start(ctx context.Context) error {
	if s.fetch == nil {
		return nil
	}
	first, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := s.refresh(first)
		if err == nil {
			break
		}
		if attempt == startAttempts || pause(first, fetchBackoff(attempt)) != nil {
			return fmt.Errorf("credentials of account %q (%s): %w", s.account, s.kind, err)
		}
	}
	go s.keepFresh(ctx)
	return nil
}

// keepFresh refreshes until ctx is done. When that fails the last good ones stay,
// even past their time: whether they are still good is for the backend to say.
func (s *credentialSource) keepFresh(ctx context.Context) {
	failed := 0
	wait := refreshDelay(s.current.Load().expires, time.Now())
	for pause(ctx, wait) == nil {
		err := s.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		held := s.current.Load().expires
		if err != nil {
			failed++
			wait = fetchBackoff(failed)
			s.log.Warn("credentials not refreshed; the last ones stay", expiresAttr(held), "cause", shortened(err.Error(), maxCause))
			continue
		}
		if failed > 0 {
			s.log.Info("credentials refreshed again", expiresAttr(held))
		}
		failed = 0
		wait = refreshDelay(held, time.Now())
	}
}

// expiresAttr is no attribute at all for credentials of which nobody says it.
func expiresAttr(t time.Time) slog.Attr {
	if t.IsZero() {
		return slog.Attr{}
	}
	return slog.Time("expires", t)
}

// refresh fetches once. Credentials that are no others keep their address, so
// that what is derived from them stays good.
//
// Ones that have expired are taken only for want of any: an instance's endpoint
// gives them out while AWS has an outage, and honours them.
func (s *credentialSource) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	fresh, err := s.fetch(ctx)
	if err == nil {
		err = fresh.check()
	}
	held := s.current.Load()
	if err == nil && !fresh.expires.IsZero() && !time.Now().Before(fresh.expires) {
		if held.AccessKeyID != "" {
			err = errors.New("the credentials of the answer have expired; is the clock right?")
		} else {
			s.log.Warn("the first credentials have expired; is the clock right?", "expires", fresh.expires)
		}
	}
	if err != nil {
		s.failures.Add(1)
		return err
	}
	if fresh != *held {
		s.current.Store(&fresh)
	}
	return nil
}

// check refuses what no request could carry.
func (c *credentials) check() error {
	switch {
	case !token.MatchString(c.AccessKeyID):
		return errors.New("the access key id is missing, or has characters that can't stand in a header")
	case c.SecretAccessKey == "":
		return errors.New("the secret access key is missing")
	case !isPrintable(c.SessionToken):
		return errors.New("the session token has characters that can't stand in a header")
	}
	return nil
}

// refreshDelay is how long to wait before the next fetch. Up to an eighth of it is
// taken off by chance, for instances that were started together.
func refreshDelay(expires, now time.Time) time.Duration {
	delay := pollFile
	if !expires.IsZero() {
		delay = min(max(expires.Sub(now)/2, minRefresh), maxRefresh)
	}
	return delay - rand.N(delay/8)
}

// fetchBackoff is how long to wait after so many failures in a row, 1 or more:
// twice as long each time, up to half of it taken off by chance.
func fetchBackoff(failed int) time.Duration {
	delay := min(firstFetchBackoff<<min(failed-1, 10), maxFetchBackoff)
	return delay - rand.N(delay/2)
}

// useEnvironment takes the keys from the environment, once: it does not change
// while the process lives.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-static-credentials.html
func (s *credentialSource) useEnvironment(_ string, env func(string) string) error {
	if err := required(env, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"); err != nil {
		return err
	}
	c := credentials{env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")}
	s.current.Store(&expiringCredentials{credentials: c})
	return c.check()
}

// required names the first variable that is not set.
func required(env func(string) string, variables ...string) error {
	for _, name := range variables {
		if env(name) == "" {
			return notSet(name)
		}
	}
	return nil
}

func notSet(variable string) error {
	return fmt.Errorf("the environment variable %s is not set", variable)
}

// useProfile reads a section of the shared credentials file, and again each
// minute.
// https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
func (s *credentialSource) useProfile(profile string, env func(string) string) error {
	path := env("AWS_SHARED_CREDENTIALS_FILE")
	if path == "" {
		home := cmp.Or(env("HOME"), env("USERPROFILE"))
		if home == "" {
			return notSet("HOME (or AWS_SHARED_CREDENTIALS_FILE)")
		}
		path = filepath.Join(home, ".aws", "credentials")
	}
	profile = cmp.Or(profile, env("AWS_PROFILE"), "default")
	s.fetch = func(context.Context) (c expiringCredentials, err error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return c, err
		}
		if c.credentials, err = parseProfile(string(data), profile); err != nil {
			err = fmt.Errorf("%s: profile %q %w", path, profile, err)
		}
		return c, err
	}
	return nil
}

// parseProfile finds a profile in a shared credentials file:
//
//	# a comment; so is a line that begins with a semicolon
//	[default]
//	aws_access_key_id = AKIAIOSFODNN7EXAMPLE   # after a space, too
//	aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
//
// Names of profiles are told apart by case, names of settings are not. A section
// that stands there twice is one; of two values the later counts. Settings that
// would lead to other credentials than the ones written there are an error.
func parseProfile(file, profile string) (credentials, error) {
	var c credentials
	found, in := false, false
	for line := range strings.Lines(file) {
		line = strings.TrimSpace(inlineComment.ReplaceAllString(line, ""))
		if section, ok := strings.CutPrefix(line, "["); ok {
			section, _, _ = strings.Cut(section, "]")
			in = strings.TrimSpace(section) == profile
			found = found || in
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if !in {
			continue
		}
		switch key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value); key {
		case "aws_access_key_id":
			c.AccessKeyID = value
		case "aws_secret_access_key":
			c.SecretAccessKey = value
		case "aws_session_token":
			c.SessionToken = value
		default:
			if elsewhere.MatchString(key) {
				return c, fmt.Errorf("has %s, which is not supported here; want aws_access_key_id and aws_secret_access_key", key)
			}
		}
	}
	if !found {
		return c, errors.New("is not there")
	}
	return c, nil
}

var (
	inlineComment = regexp.MustCompile(`(^|[ \t])[ \t]*[#;].*`)
	elsewhere     = regexp.MustCompile(`^(role_arn|source_profile|credential_source|credential_process|web_identity_token_file|sso_.*|login_session)$`)
)

// useWebIdentity trades the token of a file for the credentials of a role. The
// file is read each time, because Kubernetes replaces the token in it.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-assume-role-credentials.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func (s *credentialSource) useWebIdentity(_ string, env func(string) string) error {
	if err := required(env, "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"); err != nil {
		return err
	}
	endpoint, err := stsEndpoint(env)
	if err != nil {
		return err
	}
	// 2 to 64 characters, and those of an account's name are among them.
	session := cmp.Or(env("AWS_ROLE_SESSION_NAME"), fmt.Sprintf("%.64s", "s3-proxy-"+s.account))
	s.client = newCredentialClient(http.ProxyFromEnvironment)
	s.fetch = func(ctx context.Context) (c expiringCredentials, err error) {
		identity, err := os.ReadFile(env("AWS_WEB_IDENTITY_TOKEN_FILE"))
		if err != nil {
			return c, err
		}
		form := url.Values{
			"Action":           {"AssumeRoleWithWebIdentity"},
			"Version":          {"2011-06-15"},
			"RoleArn":          {env("AWS_ROLE_ARN")},
			"RoleSessionName":  {session},
			"WebIdentityToken": {strings.TrimSpace(string(identity))},
		}
		header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		body, err := s.ask(ctx, http.MethodPost, endpoint, header, form.Encode())
		if err != nil {
			return c, fmt.Errorf("AssumeRoleWithWebIdentity: %w%s", err, stsErrorCode(body))
		}
		var answer struct {
			XMLName     xml.Name            `xml:"AssumeRoleWithWebIdentityResponse"`
			Credentials credentialsDocument `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
		}
		if xml.Unmarshal(body, &answer) != nil {
			return c, errNoDocument
		}
		return answer.Credentials.read()
	}
	return nil
}

// stsEndpoint is the region's own, as the SDKs choose it today.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-sts-regionalized-endpoints.html
func stsEndpoint(env func(string) string) (string, error) {
	if raw := env("AWS_ENDPOINT_URL_STS"); raw != "" {
		_, err := parseEndpoint("AWS_ENDPOINT_URL_STS", raw)
		return raw, err
	}
	region := cmp.Or(env("AWS_REGION"), env("AWS_DEFAULT_REGION"))
	if region == "" {
		return "", notSet("AWS_REGION (or AWS_DEFAULT_REGION)")
	}
	if !domainName.MatchString(region) {
		return "", fmt.Errorf("AWS_REGION: %q is not a region name", region)
	}
	host := "sts." + region + ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		host += ".cn"
	}
	return "https://" + host + "/", nil
}

// stsErrorCode is ", CODE" if the document is an error of STS that we know.
// Others might be anything, a secret for one.
func stsErrorCode(document []byte) string {
	var answer struct {
		Code string `xml:"Error>Code"`
	}
	known := []string{"AccessDenied", "ExpiredTokenException", "IDPCommunicationError", "IDPRejectedClaim",
		"InvalidIdentityToken", "RegionDisabledException", "Throttling", "ValidationError"}
	if xml.Unmarshal(document, &answer) == nil && slices.Contains(known, answer.Code) {
		return ", " + answer.Code
	}
	return ""
}

// useContainer asks the endpoint that ECS or the EKS Pod Identity agent names in
// the environment. Where there are two variables for one thing the page says which
// counts.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func (s *credentialSource) useContainer(_ string, env func(string) string) error {
	endpoint := env("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if relative := env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		if relative[0] != '/' { // it would change the host
			return errors.New("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash")
		}
		endpoint = "http://169.254.170.2" + relative
	}
	if endpoint == "" {
		return notSet("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (or AWS_CONTAINER_CREDENTIALS_FULL_URI)")
	}
	u, err := parseEndpoint("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)
	if err != nil {
		return err
	}
	// The addresses of ECS and of the EKS agent, which nobody routes further.
	local := slices.Contains([]string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}, u.Hostname())
	if u.Scheme == "http" && !local && !isLoopback(u.Host) {
		return errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI: plain http to another machine; want https, or the address of the ECS or EKS agent")
	}
	s.client = newCredentialClient(nil)
	s.fetch = func(ctx context.Context) (c expiringCredentials, err error) {
		header := http.Header{"Accept": {"application/json"}}
		authorization := env("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if path := env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); path != "" {
			data, err := os.ReadFile(path)
			if err != nil {
				return c, err
			}
			authorization = string(data)
		}
		if strings.ContainsAny(authorization, "\r\n") {
			return c, errors.New("the container's authorization token has a line break in it")
		}
		if authorization != "" {
			header.Set("Authorization", authorization)
		}
		body, err := s.ask(ctx, http.MethodGet, endpoint, header, "")
		if err != nil {
			return c, fmt.Errorf("the container's endpoint: %w", err)
		}
		return readJSON(body, "", "Success")
	}
	return nil
}

// useInstance asks the instance metadata service, in version 2: a token by PUT,
// which no forged GET can have, then the name of the instance's role, then its
// credentials. Version 1 has no token, and is not tried.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
func (s *credentialSource) useInstance(_ string, env func(string) string) error {
	if strings.EqualFold(env("AWS_EC2_METADATA_DISABLED"), "true") {
		return errors.New("AWS_EC2_METADATA_DISABLED is true")
	}
	endpoint := cmp.Or(env("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "http://169.254.169.254")
	if _, err := parseEndpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint); err != nil {
		return err
	}
	endpoint = strings.TrimRight(endpoint, "/") + "/latest/"
	s.client = newCredentialClient(nil)
	s.fetch = func(ctx context.Context) (c expiringCredentials, err error) {
		// Seconds: the token is for the next two requests alone.
		header := http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}}
		session, err := s.ask(ctx, http.MethodPut, endpoint+"api/token", header, "")
		if err != nil {
			return c, fmt.Errorf("the instance's metadata token: %w; in a container, it takes a hop limit of 2", err)
		}
		if !isPrintable(string(session)) {
			return c, errNoDocument
		}
		header = http.Header{"X-Aws-Ec2-Metadata-Token": {string(session)}}
		const folder = "meta-data/iam/security-credentials/"
		roles, err := s.ask(ctx, http.MethodGet, endpoint+folder, header, "")
		if err != nil {
			return c, fmt.Errorf("the instance's role: %w; has the instance a role?", err)
		}
		role, _, _ := strings.Cut(string(roles), "\n")
		if !roleName.MatchString(role) {
			return c, errors.New("the instance has no role, or one whose name is not a role's")
		}
		body, err := s.ask(ctx, http.MethodGet, endpoint+folder+role, header, "")
		if err != nil {
			return c, fmt.Errorf("the instance's credentials: %w", err)
		}
		return readJSON(body, "Success")
	}
	return nil
}

// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
var roleName = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)

// errNoDocument stands for what a parser would say: it would quote the answer.
var errNoDocument = errors.New("the answer can't be understood")

// A credentialsDocument is what STS (in XML), a container's endpoint and IMDS (in
// JSON) answer. All of them give temporary credentials, so none of the four fields
// is optional.
type credentialsDocument struct {
	AccessKeyID     string `json:"AccessKeyId" xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string `json:"Token"`
	Expiration      time.Time
	Code            string // JSON alone: whether the others are there
}

// readJSON reads a document whose Code is one of these.
func readJSON(body []byte, codes ...string) (expiringCredentials, error) {
	var document credentialsDocument
	if json.Unmarshal(body, &document) != nil {
		return expiringCredentials{}, errNoDocument
	}
	if !slices.Contains(codes, document.Code) {
		return expiringCredentials{}, errors.New("the answer's Code is not Success; does the role trust the service that runs this?")
	}
	return document.read()
}

// read leaves what else may be wrong to credentials.check.
func (d *credentialsDocument) read() (expiringCredentials, error) {
	c := expiringCredentials{credentials{d.AccessKeyID, d.SecretAccessKey, d.SessionToken}, d.Expiration.UTC()}
	if c.SessionToken == "" || c.expires.IsZero() {
		return c, errors.New("the answer has no session token, or no expiration")
	}
	return c, nil
}

// parseEndpoint does not quote what it refuses: the path of a container's
// endpoint is as good as a password.
func parseEndpoint(variable, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("%s: want an address like http://127.0.0.1:8080/path", variable)
	}
	return u, nil
}

// newCredentialClient returns a client that follows no redirect, which could carry
// a token elsewhere, and keeps no connection: the next request is in an hour.
func newCredentialClient(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{Proxy: proxy, DisableKeepAlives: true, MaxResponseHeaderBytes: maxCredentialsDocument},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends a request and returns the body of its answer, which with an error
// (any status but 200 is one) is not for others to see.
func (s *credentialSource) ask(ctx context.Context, method, address string, header http.Header, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("the address is not one")
	}
	req.Header = header
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, withoutAnswer(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxCredentialsDocument+1))
	switch {
	case err != nil:
		return nil, withoutAnswer(err)
	case len(answer) > maxCredentialsDocument:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxCredentialsDocument)
	case resp.StatusCode != http.StatusOK:
		return answer, fmt.Errorf("status %d", resp.StatusCode)
	}
	return answer, nil
}

// withoutAnswer keeps of a client's error what is not the other side's words:
// net/http quotes the address, and lines that are not HTTP.
func withoutAnswer(err error) error {
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &network):
		return network
	case errors.As(err, &certificate):
		return certificate
	}
	return errors.New("the connection broke, or the answer is not HTTP")
}
