//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A diagnosis is what "s3-proxy doctor -json" prints.
type diagnosis struct {
	OK       bool
	Findings []struct{ Severity, Subject, Verdict, Text string }
}

// has reports whether there is a finding of a verdict about a subject.
func (d diagnosis) has(subject, verdict string) bool {
	for _, f := range d.Findings {
		if f.Subject == subject && f.Verdict == verdict {
			return true
		}
	}
	return false
}

// doctor runs the doctor on a configuration, and wants the exit status that goes with what it
// finds.
func doctor(t *testing.T, c config, more ...string) diagnosis {
	t.Helper()
	if output, err := buildGateway(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, "bin/s3-proxy"), append([]string{"doctor", "-json", "-config", tempFile(t, string(text))}, more...)...)
	cmd.Env = environment(t)
	out, err := cmd.Output()
	checkNoSecret(t, "the report", string(out))
	var d diagnosis
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if status := cmd.ProcessState.ExitCode(); (status == 0) != d.OK || status > 1 {
		t.Errorf("doctor exits with %d (%v) and reports ok: %t\n%s", status, err, d.OK, out)
	}
	return d
}

// The doctor finds a healthy server healthy, and what is wrong with the others, in what real
// servers answer.
func TestInteropDoctor(t *testing.T) {
	redisAddr := freeAddr(t)
	startRedis(t, redisAddr)
	redis := func(password string) config {
		return config{"requests": 10, "redis_url": "redis://:" + password + "@" + redisAddr}
	}
	for _, s := range []server{servers[0], servers[1], minio} {
		t.Run(s.name, func(t *testing.T) {
			b := startServer(t, s)
			sick := func(setting string, value any) config {
				c := b.config()
				c["accounts"].(config)["backend"].(config)[setting] = value
				return c
			}
			healthy := b.config()
			healthy["rate_limit"] = redis(redisPassword)
			d := doctor(t, healthy, "-write")
			for subject, verdict := range map[string]string{
				"accounts.backend": "credentials_ok", "bucket photos": "write_ok", "bucket backups": "bucket_ok", "rate_limit.redis_url": "redis_ok",
			} {
				if !d.OK || !d.has(subject, verdict) {
					t.Errorf("healthy: want %s %s: %+v", subject, verdict, d)
				}
			}
			for _, bucket := range []string{"photos", "backups"} {
				if left, _ := filepath.Glob(filepath.Join(b.dir, bucket, "s3-proxy-doctor-*")); len(left) > 0 {
					t.Errorf("the probe left %v", left)
				}
			}
			strange := sick("buckets", []any{config{"name": "photos", "bucket": "fotos"}, "backups"})
			refused := b.config()
			refused["rate_limit"] = redis("wrong-password-0123")
			overTLS := sick("endpoint_url", "https://"+b.addr)
			for _, test := range []struct {
				c                config
				subject, verdict string
			}{
				{sick("secret_access_key", wrongSecret), "accounts.backend", "secret_wrong"},
				{sick("access_key_id", "AKIANOBODY"), "accounts.backend", "key_unknown"},
				{strange, "bucket photos", "bucket_missing"},
				{overTLS, "accounts.backend", "tls_plain"},
				{refused, "rate_limit.redis_url", "redis_password"},
			} {
				if d := doctor(t, maps.Clone(test.c)); d.OK || !d.has(test.subject, test.verdict) {
					t.Errorf("want %s %s: %+v", test.subject, test.verdict, d)
				}
			}
			if s.name == "versitygw" { // the others accept any region
				if d := doctor(t, sick("region", "eu-west-1")); d.OK || !d.has("accounts.backend", "region_wrong") {
					t.Errorf("want the region to be wrong: %+v", d)
				}
			}
		})
	}
}
