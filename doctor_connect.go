package main

// The doctor's words for a connection that fails, before a byte of S3 or Redis is spoken: name,
// port, certificate.

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// expiresSoon is how long before its end a certificate is worth a warning. What renews
// certificates does so earlier.
const expiresSoon = 14 * 24 * time.Hour

// A peer is who the doctor connects to, in the words of the configuration.
type peer struct {
	subject string         // what the findings are about
	setting string         // that has the address
	host    string         // host, and the port
	plain   string         // scheme without TLS
	ca      string         // the setting that names authorities; "": there is none
	roots   *x509.CertPool // that it names; nil: the system's
}

// unconnected adds the finding for an error of a dial.
func (s *chapter) unconnected(p peer, err error) {
	var name *net.DNSError
	var handshake *handshakeFailure
	var network *net.OpError
	connected := !errors.As(err, &network) || network.Op != "dial"
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		s.add(p.subject, "dns_unknown", "no name server knows the host of %s; correct %s, or the name server", p.host, p.setting)
	case errors.As(err, &name):
		s.add(p.subject, "dns_failed", "the name server did not resolve the host of %s (%s); look at the name server of this machine", p.host, ownWords(err))
	case errors.As(err, &handshake):
		s.distrusted(p, handshake)
	case connected && isTimeout(err):
		s.add(p.subject, "tls_failed", "%s accepts a connection and does not answer a TLS handshake; is it the right port, or is it %s?", p.host, p.plain)
	case connected:
		s.add(p.subject, "tls_failed", "%s breaks the TLS handshake off (%s); is it the right port, or is it %s?", p.host, ownWords(err), p.plain)
	case errors.Is(err, syscall.ECONNREFUSED):
		s.add(p.subject, "connection_refused", "nothing listens on %s; start the service, or correct the port of %s", p.host, p.setting)
	case isTimeout(err):
		s.add(p.subject, "connection_timeout", "no connection to %s in time; a firewall drops it, or the address of %s is wrong", p.host, p.setting)
	default:
		s.add(p.subject, "connection_failed", "no connection to %s: %s", p.host, ownWords(err))
	}
}

// distrusted adds the finding for a TLS handshake that failed.
func (s *chapter) distrusted(p peer, failure *handshakeFailure) {
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(failure, &record):
		s.add(p.subject, "tls_plain", "%s does not speak TLS; write %s into %s, or correct the port", p.host, p.plain, p.setting)
		return
	case !errors.As(failure, &certificate) || len(certificate.UnverifiedCertificates) == 0:
		s.add(p.subject, "tls_failed", "the TLS handshake with %s failed: %s", p.host, failure.words)
		return
	}
	chain := certificate.UnverifiedCertificates
	leaf := chain[0]
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(failure, &name):
		s.add(p.subject, "tls_name", "the certificate of %s is for %s; write one of these names into %s, or renew the certificate", p.host, s.names(leaf), p.setting)
	case errors.As(failure, &authority):
		s.add(p.subject, "tls_authority", "the certificate of %s is signed by %s, which is not trusted; %s", p.host, s.issuer(leaf), p.trust(chain))
	case errors.As(failure, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(leaf.NotBefore):
		s.add(p.subject, "tls_expired", "the certificate of %s is valid from %s on; correct the clock of this machine, or renew the certificate", p.host, leaf.NotBefore.UTC().Format(time.RFC3339))
	case errors.As(failure, &invalid) && invalid.Reason == x509.Expired:
		s.add(p.subject, "tls_expired", "%s of %s expired on %s; renew it: %s would not help", s.whose(invalid.Cert, leaf), p.host, invalid.Cert.NotAfter.UTC().Format(time.DateOnly), cmp.Or(p.ca, "trusting its authority"))
	default:
		s.add(p.subject, "tls_invalid", "the certificate of %s is not valid for a server; renew it", p.host)
	}
}

// trust says whether naming an authority would make a certificate trusted, and which. The chain
// was refused.
func (p peer) trust(chain []*x509.Certificate) string {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	selfSigned := chain[0].CheckSignature(chain[0].SignatureAlgorithm, chain[0].RawTBSCertificate, chain[0].Signature) == nil
	switch {
	case p.ca == "":
		return "add the authority to those of the system"
	case p.roots != nil:
		if _, err := chain[0].Verify(x509.VerifyOptions{Intermediates: intermediates}); err == nil {
			return "the system trusts it: leave out " + p.ca + ", which replaces the authorities of the system"
		}
		return p.ca + " does not have that authority: add its certificate"
	case selfSigned:
		return "it is its own authority: save it as PEM, and name the file in " + p.ca
	}
	return "save the certificate of that authority as PEM, and name the file in " + p.ca
}

// trusted adds the finding for a TLS connection.
func (s *chapter) trusted(p peer, state tls.ConnectionState) {
	leaf := state.PeerCertificates[0]
	verdict, advice := "tls_ok", ""
	if time.Until(leaf.NotAfter) < expiresSoon {
		verdict, advice = "tls_expires", "; renew it"
	}
	s.add(p.subject, verdict, "%s, certificate for %s, signed by %s, %s left%s",
		tls.VersionName(state.Version), s.names(leaf), s.issuer(leaf), daysUntil(leaf.NotAfter), advice)
}

func daysUntil(t time.Time) string { return plural(int(time.Until(t)/(24*time.Hour)), "day") }

// maxNames is how many names of a list are shown.
const maxNames = 5

// names returns who a certificate is for.
func (s *chapter) names(c *x509.Certificate) string {
	hosts := hostsOf(c)
	if len(hosts) == 0 {
		return "no host at all"
	}
	return s.list(hosts)
}

// hostsOf returns the names and addresses that a certificate is for.
func hostsOf(c *x509.Certificate) []string {
	hosts := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// list returns the first of some names that a peer wrote, and how many more there are.
func (s *chapter) list(names []string, secrets ...string) string {
	var shown []string
	for _, name := range names[:min(len(names), maxNames)] {
		shown = append(shown, s.foreign(name, secrets...))
	}
	text := strings.Join(shown, ", ")
	if more := len(names) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (s *chapter) issuer(c *x509.Certificate) string {
	issuer := c.Issuer.CommonName
	if issuer == "" && len(c.Issuer.Organization) > 0 {
		issuer = c.Issuer.Organization[0]
	}
	return `"` + s.foreign(issuer) + `"`
}

// connectionState returns the TLS state of a connection that has one.
func connectionState(c *backendConn) tls.ConnectionState {
	return c.Conn.(*tls.Conn).ConnectionState()
}

// whose says which certificate of a chain one is.
func (s *chapter) whose(one, leaf *x509.Certificate) string {
	if one.Equal(leaf) {
		return "the certificate"
	}
	return "an authority's certificate, " + strconv.Quote(s.foreign(one.Subject.CommonName)) + ","
}
