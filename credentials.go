package main

// Credentials of an account that are not in the configuration: where they come from, and how
// they are refreshed without an SDK. Names and meanings are those of the SDKs, so what works
// for them works here:
//
//	env            AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//	profile:NAME   a section of the shared credentials file
//	web-identity   a token file, traded for credentials at STS (EKS: IRSA)
//	ecs            the container's endpoint (ECS tasks, EKS Pod Identity)
//	imds           the role of the EC2 instance, by IMDSv2 alone
//
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
//
// Nothing that an endpoint sends reaches a log or an error: endpoints send secrets, and a
// broken one may send them in the wrong place.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	fetchTimeout  = 5 * time.Second  // for one fetch, which is up to three requests
	startTimeout  = 10 * time.Second // for all attempts at the first one
	startAttempts = 3

	// Credentials are fetched again after half of their lifetime, so an outage of the
	// endpoint may last for the other half. IMDS has new ones at least five minutes before
	// the old ones expire.
	minRefresh = 10 * time.Second
	maxRefresh = time.Hour   // a timer does not notice that the clock was set, or that the machine slept
	pollFile   = time.Minute // for a file, which has no expiry

	firstFetchBackoff = time.Second
	maxFetchBackoff   = time.Minute

	maxCredentialsDocument = 64 << 10 // bytes; a session token has no stated bound, and 2 KiB is a large one
)

// An expiringCredentials is what a provider fetched.
type expiringCredentials struct {
	credentials
	expires time.Time // zero if not known
}

// A credentialSource holds an account's credentials and refreshes them. It
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

// credentialProviders prepare a source, by its kind. Each reads the environment, and fetches
// nothing. The argument is what follows the colon of the specification; only profile has
// one.
var credentialProviders = map[string]func(s *credentialSource, argument string, env func(string) string) error{
	"env":          (*credentialSource).useEnvironment,
	"profile":      (*credentialSource).useProfile,
	"web-identity": (*credentialSource).useWebIdentity,
	"ecs":          (*credentialSource).useContainer,
	"imds":         (*credentialSource).useInstance,
}

// staticCredentials returns a source of credentials that never change. It need not be
// started.
func staticCredentials(c credentials) *credentialSource {
	s := &credentialSource{}
	s.current.Store(&expiringCredentials{credentials: c})
	return s
}

// newCredentialSource returns the source of a specification: "env", "profile",
// "profile:NAME", "web-identity", "ecs" or "imds". It reads the environment, but
// no file and no network: start does. The error says what is wrong with the specification,
// or which variable is missing.
func newCredentialSource(spec, accountName string, lookupEnv func(string) (string, bool), log *slog.Logger) (*credentialSource, error) {
	kind, argument, hasArgument := strings.Cut(spec, ":")
	use := credentialProviders[kind]
	if use == nil || hasArgument && (kind != "profile" || argument == "") {
		return nil, fmt.Errorf(`must be "env", "profile:NAME", "web-identity", "ecs" or "imds", not %s`, quotedWord(spec))
	}
	s := staticCredentials(credentials{})
	s.account, s.kind = accountName, kind
	s.log = log.With("account", accountName, "source", kind)
	env := func(name string) string { // as for the SDKs, empty means not set
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

// expires returns when the credentials expire, in seconds since 1970; 0 if they don't.
func (s *credentialSource) expires() int64 {
	if t := s.current.Load().expires; !t.IsZero() {
		return t.Unix()
	}
	return 0
}

// start fetches the first credentials, within startTimeout, and then refreshes them until ctx
// is done. After an error it refreshes nothing.
//
// A failed fetch is repeated: the token file of a pod, and the agent beside it, may appear
// after the gateway has started.
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
		if attempt == startAttempts || sleep(first, fetchBackoff(attempt), nil) != nil {
			return fmt.Errorf("credentials of account %q (%s): %w", s.account, s.kind, err)
		}
	}
	go s.keepFresh(ctx)
	return nil
}

// keepFresh refreshes until ctx is done. If a refresh fails the last credentials stay in use,
// even after they have expired: the backend decides whether they are valid.
func (s *credentialSource) keepFresh(ctx context.Context) {
	failed := 0
	wait := refreshDelay(s.current.Load().expires, time.Now())
	for sleep(ctx, wait, nil) == nil {
		err := s.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		held := s.current.Load().expires
		if err != nil {
			failed++
			wait = fetchBackoff(failed)
			s.log.Warn("credentials not refreshed; the last ones stay", expiresAttr(held), causeAttr(err))
			continue
		}
		if failed > 0 {
			s.log.Info("credentials refreshed again", expiresAttr(held))
		}
		failed = 0
		wait = refreshDelay(held, time.Now())
	}
}

// expiresAttr returns the empty attribute for credentials without an expiry.
func expiresAttr(t time.Time) slog.Attr {
	if t.IsZero() {
		return slog.Attr{}
	}
	return slog.Time("expires", t)
}

// refresh fetches once. Credentials that did not change keep their address, so that what is
// derived from them stays valid.
//
// Expired ones are used only if there are no others: the endpoint of an instance returns
// them during an outage of AWS, which accepts them.
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

// check returns an error for credentials that no request could carry.
func (c *credentials) check() error {
	switch {
	case !validToken.MatchString(c.AccessKeyID):
		return errors.New("the access key id is missing, or has characters that a header can't have")
	case c.SecretAccessKey == "":
		return errors.New("the secret access key is missing")
	case !isPrintable(c.SessionToken):
		return errors.New("the session token has characters that a header can't have")
	}
	return nil
}

// refreshDelay returns how long to wait before the next fetch. It is shortened at random by up
// to an eighth, so that gateways that were started together spread out.
func refreshDelay(expires, now time.Time) time.Duration {
	delay := pollFile
	if !expires.IsZero() {
		delay = min(max(expires.Sub(now)/2, minRefresh), maxRefresh)
	}
	return delay - rand.N(delay/8)
}

// fetchBackoff returns how long to wait after a number of failures in a row, 1 or more. It
// doubles each time, and is shortened at random by up to half.
func fetchBackoff(failed int) time.Duration {
	delay := min(firstFetchBackoff<<min(failed-1, 10), maxFetchBackoff)
	return delay - rand.N(delay/2)
}
