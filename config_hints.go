package main

// Hints for usual mistakes in the values of a configuration: what a value probably is, and
// what to write.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

var bareVariable = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z0-9_]*)$`)

// looksLikeVariable reports whether a value is "$NAME" where NAME is set in the environment
// or spelled like a variable.
func looksLikeVariable(s string, lookupEnv func(string) (string, bool)) bool {
	part := bareVariable.FindStringSubmatch(s)
	if part == nil {
		return false
	}
	_, set := lookupEnv(part[1])
	return set || part[1] == strings.ToUpper(part[1])
}

// sourceOf names the variable or file that a value was read from.
func sourceOf(written string) string {
	if path, ok := strings.CutPrefix(written, "file:"); ok {
		return fmt.Sprintf("the file %q", path)
	}
	if part := variablePattern.FindStringSubmatch(written); part != nil {
		return "the environment variable " + part[1]
	}
	return "the value"
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$`)

// hostProblem returns what is wrong with server.host or server.admin.host, or "".
func hostProblem(host, path string) string {
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	_, port, _ := net.SplitHostPort(host)
	switch {
	case host == "", err == nil, hostName.MatchString(host):
		return ""
	case strings.Contains(host, "://"):
		return "must be an address or a host name alone, without a scheme"
	case port != "":
		return fmt.Sprintf("must be an address or a host name alone; the port goes into %s.port", path)
	case host == "*":
		return `must be an address or a host name; "0.0.0.0" is every IPv4 address of this machine, "::" every address`
	}
	return fmt.Sprintf("%q is not an address or a host name", host)
}

// overlap reports whether two hosts are the same address, or one of them is every address.
func overlap(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA == "0" || portA != portB {
		return false
	}
	any := func(host string) bool { return host == "0.0.0.0" || host == "::" }
	return hostA == hostB || any(hostA) || any(hostB)
}

// bucketHint returns what to write in place of a name in allowed_buckets that is invalid.
func bucketHint(name string) string {
	switch {
	case strings.Contains(name, "/"):
		return "; use the name of the bucket alone, without a key or a scheme"
	case strings.HasPrefix(name, "arn:"):
		return "; use the name of the bucket, not an ARN"
	case strings.ContainsAny(name, "*?[]{}^$|\\"):
		return `; there are no patterns: name each bucket, or "*" for all`
	}
	return ""
}

// amazonHost matches a host of S3: the bucket of virtual-hosted requests, and the region.
// https://docs.aws.amazon.com/general/latest/gr/s3.html
var amazonHost = regexp.MustCompile(`^(?:(.+)\.)?s3(?:-fips)?(?:[.-]dualstack)?(?:[.-]([a-z]{2,}(?:-[a-z]+)+-[0-9]+))?\.amazonaws\.com(?:\.cn)?$`)

// bucketInEndpoint checks that an address is the service's and not a bucket's. The gateway
// would add the bucket a second time, and objects would silently get other keys.
func (c *checker) bucketInEndpoint(path string, f accountFile, a *account, conf *config) {
	at := path + ".endpoint_url"
	host, _, _ := strings.Cut(a.host, ":")
	amazon := amazonHost.FindStringSubmatch(host)
	if amazon != nil && amazon[1] != "" {
		c.errorf(at, "names the bucket %q in its host; use the address of the service, https://s3.REGION.amazonaws.com", amazon[1])
	}
	if amazon != nil && amazon[2] != "" && amazon[2] != a.region {
		c.errorf(path+".region", "is %q, and endpoint_url is in %q: S3 refuses signatures for another region", a.region, amazon[2])
	}
	last := a.basePath[strings.LastIndexByte(a.basePath, '/')+1:]
	for _, entry := range f.Buckets {
		for _, name := range []string{entry.Name, entry.Bucket} {
			switch {
			case name == "":
			case name == last:
				c.errorf(at, "ends in the name of the bucket %q, which the gateway adds: leave it out", name)
				return
			case amazon == nil && strings.HasPrefix(host, name+"."):
				conf.warnings = append(conf.warnings, fmt.Sprintf("%s: begins with the name of the bucket %q; if that is not the service's own name, leave it out", at, name))
				return
			}
		}
	}
}

// checkTLS checks the files of server.tls_*.
func (f *configFile) checkTLS() error {
	s := f.Server
	if s.TLSCertFile == "" || s.TLSKeyFile == "" {
		return nil // check reports what is missing
	}
	_, err := newServerTLS(s.TLSCertFile, s.TLSKeyFile, s.TLSClientCAFile, slog.New(slog.DiscardHandler))
	return err
}

// checkProfiles checks that the profiles of accounts exist. It is for -check only: a program
// that starts waits for them.
func (f *configFile) checkProfiles(ctx context.Context) error {
	var errs []error
	for name, a := range f.Accounts {
		if kind, _, _ := strings.Cut(a.Credentials, ":"); kind != "profile" {
			continue
		}
		source, err := newCredentialSource(a.Credentials, name, f.lookupEnv, slog.New(slog.DiscardHandler))
		if err != nil {
			continue // check has reported it
		}
		if err := source.refresh(ctx); err != nil {
			errs = append(errs, configError{"accounts." + name + ".credentials", err.Error()})
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// listenError names the setting of an address that the program can't listen on.
func listenError(path, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s.port: %s is in use by another program: %w", path, addr, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s.port: %s takes a right that this program does not have (a port below 1024, mostly): %w", path, addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s.host: %s is not an address of this machine: %w", path, addr, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
