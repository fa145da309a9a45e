package main

// What is said of usual mistakes in a configuration, besides that they are some: what
// it was taken for, and what to write.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// encodingError is for a document that is not plain UTF-8: editors on Windows write
// others, and JSON parsers complain about an invisible character.
func encodingError(data []byte) error {
	switch {
	case len(data) == 0:
		return errors.New("line 1, column 0: the file is empty")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("line 1, column 1: the file begins with a byte order mark (BOM); save it as UTF-8 without one")
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")), bytes.HasPrefix(data, []byte("{\x00")):
		return errors.New("line 1, column 1: the file is UTF-16; save it as UTF-8")
	}
	return nil
}

// syntaxHint is what to do about the character at which a document is no JSON.
func syntaxHint(data []byte, at int) string {
	if at < 0 || at >= len(data) {
		return ""
	}
	before := bytes.TrimRight(data[:at], " \t\r\n")
	switch c := data[at]; {
	case (c == '}' || c == ']') && bytes.HasSuffix(before, []byte(",")):
		return "; remove the comma before it"
	case c == '/' || c == '#':
		return "; JSON has no comments, remove it"
	case c == '\'':
		return `; strings stand between double quotes`
	case c == '"' && len(before) > 0 && bytes.IndexByte([]byte(`"}]el0123456789`), before[len(before)-1]) >= 0:
		return "; a comma is missing before it"
	}
	return ""
}

var byteSize = regexp.MustCompile(`^(?i)([0-9]{1,9})(?:\.0+)? ?([kmgt]?)(i?)b?$`)

// numberHint is what to write in place of a number in quotes. It quotes nothing but
// sizes: another value may be a secret at the wrong place.
func numberHint(path, s string, t reflect.Type) string {
	if !isInt(t) {
		return ""
	}
	field := path[strings.LastIndexByte(path, '.')+1:]
	part := byteSize.FindStringSubmatch(s)
	if field != "max_file_size" && field != "bytes_per_second" {
		if part != nil && part[2] == "" {
			return "; write it without quotes"
		}
		return ""
	}
	if part == nil {
		return "; write the number of bytes, without quotes"
	}
	base := int64(1000)
	if part[3] != "" {
		base = 1024
	}
	n, _ := new(big.Int).SetString(part[1], 10)
	exponent := int64(1 + strings.Index("kmgt", strings.ToLower(part[2])))
	if part[2] == "" {
		exponent = 0
	}
	n.Mul(n, new(big.Int).Exp(big.NewInt(base), big.NewInt(exponent), nil))
	return fmt.Sprintf("; write the number of bytes, without quotes: %s is %s", s, n)
}

// unknownHint guesses which field was meant: one of the same object that is spelled
// alike, or one of that name elsewhere.
func unknownHint(root, t reflect.Type, key string) string {
	best, distance := "", 3
	for _, tag := range tagsOf(t) {
		d := editDistance(simplified(key), simplified(tag))
		if len(key) >= minStem && strings.HasPrefix(simplified(tag), simplified(key)) {
			d = 0
		}
		if d < distance && d <= len(tag)/2 {
			best, distance = tag, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	places := placesOf("", root, key)
	slices.SortFunc(places, func(a, b string) int { return len(a) - len(b) })
	if len(places) > 0 {
		return "; it belongs into " + strings.Join(places, " or ")
	}
	return ""
}

// minStem is how many letters of the beginning of a name make it unmistakable.
const minStem = 5

func simplified(key string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(key))
}

func tagsOf(t reflect.Type) []string {
	var tags []string
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("json"); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

// placesOf returns the paths of the objects that have a field.
func placesOf(path string, t reflect.Type, key string) []string {
	var places []string
	switch t.Kind() {
	case reflect.Pointer:
		return placesOf(path, t.Elem(), key)
	case reflect.Map:
		return placesOf(path+".NAME", t.Elem(), key)
	case reflect.Slice:
		return placesOf(path+"[]", t.Elem(), key)
	case reflect.Struct:
		for i := range t.NumField() {
			tag := t.Field(i).Tag.Get("json")
			if tag == key {
				place := strings.TrimPrefix(path, ".")
				if place == "" {
					place = "the document itself"
				}
				places = append(places, place)
			} else if tag != "" {
				places = append(places, placesOf(path+"."+tag, t.Field(i).Type, key)...)
			}
		}
	}
	return places
}

// editDistance is how many letters have to be changed, put in or left out to make one
// word of another, or 9 if that is more than anybody's mistake.
func editDistance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return 9
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

var bareVariable = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z0-9_]*)$`)

// looksLikeVariable reports whether a value is "$NAME", of a variable that is set, or
// that is spelled as variables are.
func looksLikeVariable(s string, lookupEnv func(string) (string, bool)) bool {
	part := bareVariable.FindStringSubmatch(s)
	if part == nil {
		return false
	}
	_, set := lookupEnv(part[1])
	return set || part[1] == strings.ToUpper(part[1])
}

// emptySource names what a value was read from that turned out to be empty.
func emptySource(written string) string {
	if path, ok := strings.CutPrefix(written, "file:"); ok {
		return fmt.Sprintf("the file %q", path)
	}
	if part := variable.FindStringSubmatch(written); part != nil {
		return "the environment variable " + part[1]
	}
	return "the value"
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$`)

// hostProblem is what is wrong with server.host or server.admin.host, or "".
func hostProblem(host, path string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(bare)
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

// overlap reports whether two listeners would have the same port of the same address.
func overlap(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA == "0" || portA != portB {
		return false
	}
	any := func(host string) bool { return host == "0.0.0.0" || host == "::" }
	return hostA == hostB || any(hostA) || any(hostB)
}

// bucketHint says what a name in allowed_buckets that is none may have been meant as.
func bucketHint(name string) string {
	switch {
	case strings.Contains(name, "/"):
		return "; want the name of a bucket alone, without a key or a scheme"
	case strings.HasPrefix(name, "arn:"):
		return "; want the name of a bucket, not an ARN"
	case strings.ContainsAny(name, "*?[]{}^$|\\"):
		return `; there are no patterns: name each bucket, or "*" for all`
	}
	return ""
}

// amazonHost is a host of S3: with the bucket in front for virtual-host-style requests,
// and with the region.
// https://docs.aws.amazon.com/general/latest/gr/s3.html
var amazonHost = regexp.MustCompile(`^(?:(.+)\.)?s3(?:-fips)?(?:[.-]dualstack)?(?:[.-]([a-z]{2,}(?:-[a-z]+)+-[0-9]+))?\.amazonaws\.com(?:\.cn)?$`)

// bucketInEndpoint checks that an address is the service's, and not a bucket's, to which
// the gateway would add the bucket once more: objects would get other keys, in silence.
func (c *checker) bucketInEndpoint(path string, f accountFile, a *account, conf *config) {
	at := path + ".endpoint_url"
	host, _, _ := strings.Cut(a.host, ":")
	amazon := amazonHost.FindStringSubmatch(host)
	if amazon != nil && amazon[1] != "" {
		c.fault(at, "names the bucket %q in its host: want the address of the service, https://s3.REGION.amazonaws.com", amazon[1])
	}
	if amazon != nil && amazon[2] != "" && amazon[2] != a.region {
		c.fault(path+".region", "is %q, and endpoint_url is in %q: S3 refuses signatures for another region", a.region, amazon[2])
	}
	last := a.basePath[strings.LastIndexByte(a.basePath, '/')+1:]
	for _, entry := range f.Buckets {
		for _, name := range []string{entry.Name, entry.Bucket} {
			switch {
			case name == "":
			case name == last:
				c.fault(at, "ends in the name of the bucket %q, which the gateway adds: leave it out", name)
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
		return nil // check says what is missing
	}
	_, err := newServerTLS(s.TLSCertFile, s.TLSKeyFile, s.TLSClientCAFile, slog.New(slog.DiscardHandler))
	return err
}

// checkProfiles looks whether the profiles of accounts are there. It is for -check: a
// program that starts waits a while for them.
func (f *configFile) checkProfiles(ctx context.Context) error {
	var faults []error
	for name, a := range f.Accounts {
		if kind, _, _ := strings.Cut(a.Credentials, ":"); kind != "profile" {
			continue
		}
		source, err := newCredentialSource(a.Credentials, name, f.lookupEnv, slog.New(slog.DiscardHandler))
		if err != nil {
			continue // check has said it
		}
		if err := source.refresh(ctx); err != nil {
			faults = append(faults, fault{"accounts." + name + ".credentials", err.Error()})
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// listenError says which setting an address is from that can't be listened on.
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
