package main

// The five sources of credentials, each by the rules of the SDKs. The table is in
// credentials.go, and so is the refresh, of which this file knows nothing.

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// useEnvironment reads the keys from the environment, once: it does not change while the
// process runs.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-static-credentials.html
func (s *credentialSource) useEnvironment(_ string, env func(string) string) error {
	if err := required(env, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"); err != nil {
		return err
	}
	c := credentials{env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")}
	s.current.Store(&expiringCredentials{credentials: c})
	return c.check()
}

// required returns an error that names the first variable that is not set.
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
// Names of profiles are case-sensitive, names of settings are not. Two sections of one name
// are one section, and of two values the later counts. Settings that would lead to other
// credentials than those in the section are an error.
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
				return c, fmt.Errorf("has %s, which is not supported here; use aws_access_key_id and aws_secret_access_key", key)
			}
		}
	}
	if !found {
		return c, errors.New("does not exist")
	}
	return c, nil
}

var (
	inlineComment = regexp.MustCompile(`(^|[ \t])[ \t]*[#;].*`)
	elsewhere     = regexp.MustCompile(`^(role_arn|source_profile|credential_source|credential_process|web_identity_token_file|sso_.*|login_session)$`)
)

// useWebIdentity exchanges the token in a file for the credentials of a role. The
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
		var result struct {
			XMLName     xml.Name            `xml:"AssumeRoleWithWebIdentityResponse"`
			Credentials credentialsDocument `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
		}
		if xml.Unmarshal(body, &result) != nil {
			return c, errNoDocument
		}
		return result.Credentials.read()
	}
	return nil
}

// stsEndpoint returns the region's own endpoint, which is the default of the SDKs.
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
	if !validDomain.MatchString(region) {
		return "", fmt.Errorf("AWS_REGION: %q is not a region name", region)
	}
	host := "sts." + region + ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		host += ".cn"
	}
	return "https://" + host + "/", nil
}

// stsErrorCode returns ", CODE" if the document is a known error of STS. Any other text could
// be a secret.
func stsErrorCode(document []byte) string {
	var parsed struct {
		Code string `xml:"Error>Code"`
	}
	known := []string{"AccessDenied", "ExpiredTokenException", "IDPCommunicationError", "IDPRejectedClaim",
		"InvalidIdentityToken", "RegionDisabledException", "Throttling", "ValidationError"}
	if xml.Unmarshal(document, &parsed) == nil && slices.Contains(known, parsed.Code) {
		return ", " + parsed.Code
	}
	return ""
}

// useContainer asks the endpoint that ECS or the EKS Pod Identity agent names in
// the environment. Where two variables say one thing, the page says which one counts.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func (s *credentialSource) useContainer(_ string, env func(string) string) error {
	endpoint, err := containerEndpoint(env)
	if err != nil {
		return err
	}
	s.client = newCredentialClient(nil)
	s.fetch = func(ctx context.Context) (c expiringCredentials, err error) {
		header := http.Header{"Accept": {"application/json"}}
		authorization, err := containerAuthorization(env)
		if err != nil {
			return c, err
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

// containerEndpoint returns the address that the environment names, if credentials may
// be asked for there.
func containerEndpoint(env func(string) string) (string, error) {
	endpoint := env("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if relative := env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		if relative[0] != '/' { // it could change the host
			return "", errors.New("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash")
		}
		endpoint = "http://169.254.170.2" + relative
	}
	if endpoint == "" {
		return "", notSet("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (or AWS_CONTAINER_CREDENTIALS_FULL_URI)")
	}
	u, err := parseEndpoint("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)
	if err != nil {
		return "", err
	}
	// The addresses of ECS and of the EKS agent, which are link-local.
	local := slices.Contains([]string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}, u.Hostname())
	if u.Scheme == "http" && !local && !isLoopback(u.Host) {
		return "", errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI: plain http to another machine; use https, or the address of the ECS or EKS agent")
	}
	return endpoint, nil
}

// containerAuthorization returns the Authorization header that the environment names, or
// "". The file is read each time, because its token is replaced.
func containerAuthorization(env func(string) string) (string, error) {
	authorization := env("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if path := env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		authorization = string(data)
	}
	if strings.ContainsAny(authorization, "\r\n") {
		return "", errors.New("the container's authorization token has a line break in it")
	}
	return authorization, nil
}

// useInstance asks the instance metadata service, version 2: first for a token, by PUT, which
// a forged GET can't do; then for the name of the instance's role; then for its credentials.
// Version 1 has no token, and is not tried.
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
		// In seconds; the token is for the next two requests only.
		header := http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}}
		session, err := s.ask(ctx, http.MethodPut, endpoint+"api/token", header, "")
		if err != nil {
			return c, fmt.Errorf("the instance's metadata token: %w; in a container, the hop limit must be 2 or more", err)
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
		roleName, _, _ := strings.Cut(string(roles), "\n")
		if !roleNamePattern.MatchString(roleName) {
			return c, errors.New("the instance has no role, or the answer is not the name of one")
		}
		body, err := s.ask(ctx, http.MethodGet, endpoint+folder+roleName, header, "")
		if err != nil {
			return c, fmt.Errorf("the instance's credentials: %w", err)
		}
		return readJSON(body, "Success")
	}
	return nil
}

// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
var roleNamePattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)

// errNoDocument replaces the error of a parser, which would quote the answer.
var errNoDocument = errors.New("the answer can't be understood")

// A credentialsDocument is the answer of STS (in XML), of a container's endpoint and of IMDS (in
// JSON). All of them give temporary credentials, so none of the first four fields is optional.
type credentialsDocument struct {
	AccessKeyID     string `json:"AccessKeyId" xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string `json:"Token"`
	Expiration      time.Time
	Code            string // JSON only: whether the others are valid
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

// read returns the credentials of the document. credentials.check does the rest of the checks.
func (d *credentialsDocument) read() (expiringCredentials, error) {
	c := expiringCredentials{credentials{d.AccessKeyID, d.SecretAccessKey, d.SessionToken}, d.Expiration.UTC()}
	if c.SessionToken == "" || c.expires.IsZero() {
		return c, errors.New("the answer has no session token, or no expiration")
	}
	return c, nil
}

// parseEndpoint parses the address of an endpoint. Its errors do not quote it: the path of a
// container's endpoint is a secret.
func parseEndpoint(variable, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("%s: must be an address like http://127.0.0.1:8080/path", variable)
	}
	return u, nil
}

// newCredentialClient returns a client that follows no redirect, which could send a token
// elsewhere, and keeps no connection, because the next request is in an hour.
func newCredentialClient(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{Proxy: proxy, DisableKeepAlives: true, MaxResponseHeaderBytes: maxCredentialsDocument},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends a request and returns the body of its answer. A status other than 200 is an error;
// then the body must not be shown.
func (s *credentialSource) ask(ctx context.Context, method, address string, header http.Header, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("the address is invalid")
	}
	req.Header = header
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, withoutAnswer(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxCredentialsDocument+1))
	switch {
	case err != nil:
		return nil, withoutAnswer(err)
	case len(text) > maxCredentialsDocument:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxCredentialsDocument)
	case resp.StatusCode != http.StatusOK:
		return text, fmt.Errorf("status %d", resp.StatusCode)
	}
	return text, nil
}

// withoutAnswer removes from a client's error what the other side sent: net/http quotes the
// address, and lines that are not HTTP.
func withoutAnswer(err error) error {
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &network):
		return network
	case errors.As(err, &certificate):
		return handshakeError(err)
	}
	return errors.New("the connection broke, or the answer is not HTTP")
}
