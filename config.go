package main

// The configuration: a JSON file becomes a checked config value, or nothing starts. The
// files that it names (secrets, authorities) are read here too. This file has the shape and
// the defaults of the settings; config_check.go has their rules.

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	defaultPort            = 8080
	defaultAdminPort       = 9090
	defaultMaxFileSize     = 100 << 20 // bytes
	defaultLimitRequests   = 100
	defaultLimitWindow     = 60 // seconds
	defaultIdleTimeout     = 60 * time.Second
	defaultShutdownTimeout = 30 * time.Second
	defaultConnectTimeout  = 5 * time.Second
	defaultHeaderTimeout   = 60 * time.Second
	defaultHSTS            = "max-age=31536000" // a year, without subdomains, which may not be the gateway's
	maxLimitRequests       = 1000000            // a window of so many takes 8 MB for a user
)

// configFile is the file as written. Every field is optional unless check says
// otherwise; docs/configuration.md has a table of them.
type configFile struct {
	Server      serverFile             `json:"server"`
	Accounts    map[string]accountFile `json:"accounts"`
	Users       map[string]userFile    `json:"users"`
	MaxFileSize *int64                 `json:"max_file_size"`
	NestedKeys  bool                   `json:"nested_keys"`
	RateLimit   *limitFile             `json:"rate_limit"`

	MaxInFlight    *int64 `json:"max_in_flight"`
	BytesPerSecond *int64 `json:"bytes_per_second"`

	lookupEnv func(string) (string, bool)
	errs      []error           // errors found while reading
	empty     map[string]string // by path: what an empty value was read from
	fetched   map[string]string // what values were read from, by value: no error repeats one
	clear     bool              // a secret is in the file itself
}

type serverFile struct {
	Host            string     `json:"host"`
	Port            *int       `json:"port"`
	TLSCertFile     string     `json:"tls_cert_file"`
	TLSKeyFile      string     `json:"tls_key_file"`
	TLSClientCAFile string     `json:"tls_client_ca_file"`
	MaxConnections  int        `json:"max_connections"`
	Admin           *adminFile `json:"admin"`
	IdleTimeout     duration   `json:"idle_timeout"`
	ShutdownTimeout duration   `json:"shutdown_timeout"`
	ShutdownDelay   duration   `json:"shutdown_delay"`
	Domain          string     `json:"domain"`
	CORS            *corsFile  `json:"cors"`
	HSTS            *string    `json:"hsts"`
}

type adminFile struct {
	Host         string   `json:"host"`
	Port         *int     `json:"port"`
	AllowedHosts []string `json:"allowed_hosts"`
}

type corsFile struct {
	AllowedOrigins []string `json:"allowed_origins"`
	AllowedMethods []string `json:"allowed_methods"`
	AllowedHeaders []string `json:"allowed_headers"`
	ExposeHeaders  []string `json:"expose_headers"`
	MaxAgeSeconds  int      `json:"max_age_seconds"`
}

type accountFile struct {
	EndpointURL           string       `json:"endpoint_url"`
	Region                string       `json:"region"`
	AccessKeyID           string       `json:"access_key_id"`
	SecretAccessKey       string       `json:"secret_access_key"`
	SessionToken          string       `json:"session_token"`
	Credentials           string       `json:"credentials"`
	CAFile                string       `json:"ca_file"`
	Addressing            string       `json:"addressing"`
	Buckets               []bucketFile `json:"buckets"`
	TrailingChecksums     string       `json:"trailing_checksums"`
	MaxInFlight           *int64       `json:"max_in_flight"`
	ConnectTimeout        duration     `json:"connect_timeout"`
	ResponseHeaderTimeout duration     `json:"response_header_timeout"`
}

// A bucketFile is a bucket: its public name, and its backend name if that differs. A plain
// string is both.
type bucketFile struct {
	Name   string `json:"name"`
	Bucket string `json:"bucket"`
}

func (b *bucketFile) fromString(name string) { b.Name = name }

type userFile struct {
	APIKey         string     `json:"api_key"`
	APIKeys        []string   `json:"api_keys"`
	APIKeySHA256   string     `json:"api_key_sha256"`
	Role           string     `json:"role"`
	AllowedBuckets []string   `json:"allowed_buckets"`
	RateLimit      *limitFile `json:"rate_limit"`
	MaxInFlight    *int64     `json:"max_in_flight"`
	BytesPerSecond *int64     `json:"bytes_per_second"`
}

type limitFile struct {
	Requests      *int   `json:"requests"`
	WindowSeconds *int   `json:"window_seconds"`
	RedisURL      string `json:"redis_url"`
}

// config is a configuration that was checked.
type config struct {
	listeners
	accounts        []*account
	buckets         map[string]*bucket // by public name
	domain          string             // of virtual-host-style requests, or ""
	cors            *cors              // nil: off
	hsts            []string           // value of Strict-Transport-Security; empty: none
	adminHosts      map[string]bool    // server.admin.allowed_hosts, in lower case
	users           []*user
	redis           *redisServer // the store of a limit that many gateways share; nil: none
	maxFileSize     int64        // bytes
	nestedKeys      bool
	idleTimeout     time.Duration
	shutdownTimeout time.Duration
	shutdownDelay   time.Duration // between "not ready" and the end of accepting
	warnings        []string      // what is allowed, but should be changed
}

// A bucket has a public name, by which clients know it, and a backend name, by which
// its account's service does.
type bucket struct {
	name        string // public
	backendName string
	account     *account
	upstream    *upstream // sends its requests; set in a gateway's copy only
}

// target returns an object of the bucket, or for the key "" the bucket, as the backend
// knows it.
func (b *bucket) target(key string) target { return target{bucket: b.backendName, key: key} }

// listeners are what a reload does not change.
type listeners struct {
	listen                      string // host:port; port 0 is any free one
	admin                       string // host:port, or "": none
	certFile, keyFile, clientCA string // of TLS; "": none
	maxConnections              int    // 0: no limit
}

// loadConfig reads and checks the file at path. The error joins all errors. At the start
// of the program, more checks what a reload does not read.
func loadConfig(path string, more ...func(*configFile) error) (*config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := decodeConfig(data, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	conf, err := file.check(false)
	for _, check := range more {
		err = errors.Join(err, check(file))
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 && file.clear {
		conf.warnings = append(conf.warnings, path+": holds secrets in the clear, and every user of this machine can read it; chmod o-r, or write ${NAME} or file:PATH in their place")
	}
	return conf, nil
}

// decodeConfig reads a file. It returns an error of syntax; check reports all others with
// its own.
func decodeConfig(data []byte, lookupEnv func(string) (string, bool)) (*configFile, error) {
	file, written := configFile{lookupEnv: lookupEnv, empty: map[string]string{}, fetched: map[string]string{}}, configFile{}
	err := decodeStrict(data, &file, func(path, s string) (string, error) {
		if looksLikeVariable(s, lookupEnv) {
			return "", errors.New("is a $ and a name: for an environment variable write it in braces, ${NAME}; a value that really begins with a $ goes into a file, file:PATH")
		}
		value, err := expandValue(s, lookupEnv)
		switch {
		case value == s, err != nil:
		case value == "":
			file.empty[path] = sourceOf(s)
		default:
			file.fetched[value] = sourceOf(s)
		}
		return value, err
	})
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		file.errs, err = several.Unwrap(), nil
	}
	decodeStrict(data, &written, func(_, s string) (string, error) { return s, nil })
	file.clear = written.holdsSecrets()
	return &file, err
}

// holdsSecrets reports whether a secret is in the file itself. The file must not have been
// expanded.
func (f *configFile) holdsSecrets() bool {
	var secrets []string
	if f.RateLimit != nil && strings.Contains(f.RateLimit.RedisURL, "@") {
		secrets = append(secrets, f.RateLimit.RedisURL)
	}
	for _, a := range f.Accounts {
		secrets = append(secrets, a.SecretAccessKey, a.SessionToken)
	}
	for _, u := range f.Users {
		secrets = append(append(secrets, u.APIKey), u.APIKeys...)
	}
	return slices.ContainsFunc(secrets, func(s string) bool {
		return s != "" && !strings.HasPrefix(s, "file:") && !strings.Contains(s, "${")
	})
}

var variablePattern = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}`)

// expandValue replaces ${NAME} and ${NAME:-default} by the value in the environment, and
// "file:PATH" by the content of the file without the line breaks at its end. A variable that is
// not set, or a file that can't be read, is an error.
func expandValue(s string, lookupEnv func(string) (string, bool)) (string, error) {
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		data, err := os.ReadFile(path)
		return strings.TrimRight(string(data), "\r\n"), err
	}
	var missing error
	if strings.Count(s, "${") != len(variablePattern.FindAllString(s, -1)) {
		return "", fmt.Errorf("has a ${ that is not of the form ${NAME} or ${NAME:-default}")
	}
	s = variablePattern.ReplaceAllStringFunc(s, func(m string) string {
		part := variablePattern.FindStringSubmatch(m)
		if value, ok := lookupEnv(part[1]); ok {
			return value
		}
		if part[2] == "" {
			missing = fmt.Errorf("the environment variable %s is not set", part[1])
		}
		return strings.TrimPrefix(part[2], ":-")
	})
	return s, missing
}
