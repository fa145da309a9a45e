package main

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// requestAttrs are the attributes of a request's line, with changes: pairs of name and value.
func requestAttrs(changes ...any) []slog.Attr {
	values := map[string]any{
		"request_id": "0123456789ABCDEF", "user": "eve", "method": "PUT", "operation": "PutObject", "bucket": "photos", "key": "a.txt",
		"status": 403, "bytes_in": int64(0), "bytes_out": int64(150), "duration_ms": 0.44, "client": "192.0.2.1:1", "user_agent": "curl",
	}
	for i := 0; i < len(changes); i += 2 {
		values[changes[i].(string)] = changes[i+1]
	}
	var attrs []slog.Attr
	for name, value := range values {
		attrs = append(attrs, slog.Any(name, value))
	}
	return attrs
}

const ruler = `
         1         2         3         4         5         6         7         8         9        10        11        12
123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890
`

func TestShortLogOfRequests(t *testing.T) {
	long := "2026/11/05/" + strings.Repeat("holiday-", 12) + "IMG_0001.jpg"
	for _, test := range []struct {
		name    string
		level   slog.Level
		changes []any
		want    string
	}{
		{"refused", slog.LevelInfo, []any{"reason", "role", "code", "AccessDenied"},
			"23:09:51 403 PUT    photos/a.txt                        eve      PutObject            role                         0.4ms\n"},
		{"size of an upload", slog.LevelInfo, []any{"status", 200, "bytes_in", int64(5 << 20), "bytes_out", int64(0), "user", "alice", "duration_ms", 1234.5},
			"23:09:51 200 PUT    photos/a.txt                        alice    PutObject                                 5.0MiB   1.2s\n"},
		{"size of a download", slog.LevelInfo, []any{"status", 200, "method", "GET", "operation", "GetObject", "duration_ms", 12.4},
			"23:09:51 200 GET    photos/a.txt                        eve      GetObject                                   150B   12ms\n"},
		{"code instead of a reason", slog.LevelInfo, []any{"status", 404, "method", "GET", "operation", "GetObject", "code", "NoSuchKey"},
			"23:09:51 404 GET    photos/a.txt                        eve      GetObject            NoSuchKey                    0.4ms\n"},
		{"stranger", slog.LevelInfo, []any{"status", 401, "method", "GET", "user", "", "operation", "", "bucket", "", "key", "", "reason", "no_key"},
			"23:09:51 401 GET    -                                   -        -                    no_key                       0.4ms\n"},
		{"claimed user", slog.LevelInfo, []any{"status", 403, "user", "", "claimed_user", "eve", "operation", "", "reason", "bad_signature"},
			"23:09:51 403 PUT    photos/a.txt                        eve?     -                    bad_signature                0.4ms\n"},
		{"bucket", slog.LevelInfo, []any{"status", 200, "method", "GET", "key", "", "operation", "ListObjectsV2", "bytes_out", int64(0)},
			"23:09:51 200 GET    photos                              eve      ListObjectsV2                                     0.4ms\n"},
		{"cells that are too long take the spaces of others", slog.LevelInfo, []any{"key", "2026/11/05/holiday/on/the/beach/IMG_1.jpg", "user", "alexander", "reason", "role"},
			"23:09:51 403 PUT    photos/2026/11/05/holiday/on/the/beach/IMG_1.jpg alexander PutObject role                      0.4ms\n"},
		{"middle of a key left out", slog.LevelInfo, []any{"key", long, "operation", "CompleteMultipartUpload", "reason", "malformed_signature"},
			"23:09:51 403 PUT    photos/2026/11/05/…oliday-holiday-IMG_0001.jpg eve CompleteMultipartUpload malformed_signature 0.4ms\n"},
		{"all cells too long", slog.LevelInfo, []any{"method", "PROPFINDALL", "key", long, "user", strings.Repeat("u", 64), "operation", "PutBucketIntelligentTieringConfiguration", "reason", strings.Repeat("r", 64)},
			""},
		{"space and quote", slog.LevelInfo, []any{"key", `a "b".txt alice GetObject`, "reason", "role"},
			"23:09:51 403 PUT    \"photos/a \\\"b\\\".txt alice GetObject\" eve     PutObject            role                         0.4ms\n"},
		{"hostile key", slog.LevelInfo, []any{"key", "\x1b[2J\r\n\u202egnp.\xff\u200b\u2028", "reason", "role"},
			"23:09:51 403 PUT    \"photos/\\x1b[2J\\r\\n\\u202egnp.\\xff\\u200b\\u2028\" eve PutObject      role                         0.4ms\n"},
		{"wide characters", slog.LevelInfo, []any{"key", "休日/写真.jpg", "reason", "role"},
			"23:09:51 403 PUT    photos/休日/写真.jpg                eve      PutObject            role                         0.4ms\n"},
		{"backend", slog.LevelWarn, []any{"status", 502, "method", "GET", "operation", "GetObject", "reason", "backend_connect", "code", "BadGateway", "cause", "dial tcp 127.0.0.1:9000: connect: connection refused", "account", "main"},
			"23:09:51 502 GET    photos/a.txt                        eve      GetObject            backend_connect              0.4ms\n" +
				"                    dial tcp 127.0.0.1:9000: connect: connection refused  account=main  request_id=0123456789ABCDEF\n"},
		{"backend with a long story", slog.LevelWarn, []any{"status", 502, "method", "GET", "operation", "GetObject", "reason", "backend_region", "cause", strings.Repeat("word ", 25) + "end",
			"upstream_code", "AuthorizationHeaderMalformed", "upstream_message", "the region 'us-east-1' is wrong; expecting 'eu-west-1'", "expected_region", "eu-west-1", "account", "main"},
			"23:09:51 502 GET    photos/a.txt                        eve      GetObject            backend_region               0.4ms\n" +
				"                    word word word word word word word word word word word word word word word word word word word word\n" +
				"                    word word word word word end  account=main  expected_region=eu-west-1  request_id=0123456789ABCDEF\n" +
				"                    the backend says AuthorizationHeaderMalformed: the region 'us-east-1' is wrong; expecting\n" +
				"                    'eu-west-1'\n"},
		{"download cut", slog.LevelWarn, []any{"status", 200, "method", "GET", "operation", "GetObject", "bytes_out", int64(1<<20 + 1), "aborted", true, "duration_ms", 125_000.0},
			"23:09:51 200 GET    photos/a.txt                        eve      GetObject            aborted              1.0MiB  2m05s\n" +
				"                    request_id=0123456789ABCDEF\n"},
	} {
		got := shortLog(t, false, test.level, "request", requestAttrs(test.changes...)...)
		if test.want != "" && got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, ruler+got, test.want)
		}
		checkShortLine(t, got)
	}
}

// checkShortLine fails unless a request's line, and those below it, fit, and have nothing that
// a terminal could take for more than text.
func checkShortLine(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") {
		t.Errorf("%q is not UTF-8, or has no end", text)
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if n := columnsOfText(line, false); n > shortWidth {
			t.Errorf("%d columns, want at most %d: %q", n, shortWidth, line)
		}
		if i > 0 && !strings.HasPrefix(line, strings.Repeat(" ", placeColumn)) {
			t.Errorf("a second line that is not indented: %q", text)
		}
		for _, r := range line {
			if r != ' ' && !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S) {
				t.Errorf("%q has %U", line, r)
			}
		}
	}
}

func TestShortLogNumbers(t *testing.T) {
	for ms, want := range map[float64]string{
		0: "0.0ms", 0.04: "0.0ms", 0.44: "0.4ms", 9.94: "9.9ms", 12.4: "12ms", 999.4: "999ms", 1234: "1.2s", 12_345: "12s", 59_400: "59s",
		60_000: "1m00s", 125_999: "2m05s", 3_600_000: "1h00m", 86_399_000: "23h59m", 1e15: "99h00m", -1: "0.0ms", math.Inf(1): "99h00m",
	} {
		if got := string(appendMilliseconds(nil, ms)); got != want || len(got) > 6 {
			t.Errorf("%v ms = %s, want %s", ms, got, want)
		}
	}
	for n, want := range map[int64]string{
		1: "1B", 1023: "1023B", 1024: "1.0KiB", 10_240: "10KiB", 1<<20 - 1: "1024KiB", 5 << 20: "5.0MiB", 1 << 40: "1.0TiB", math.MaxInt64: "8.0EiB",
	} {
		if got := string(appendBytes(nil, n)); got != want || len(got) > 7 {
			t.Errorf("%d bytes = %s, want %s", n, got, want)
		}
	}
	appendMilliseconds(nil, math.NaN()) // does not panic
}

// Whatever a stranger sends, a line is one line that fits.
func FuzzShortLogOfRequest(f *testing.F) {
	f.Add("PUT", "photos", "a.txt", "eve", "role", "", 403, 0.4)
	f.Add("GET\x1b[2J", "a\nb", "\u202e\x00\xff\u2066", "休日", "\t", "x\r\ny\x1b]0;title\a", 502, 1e9)
	f.Add("G", "", strings.Repeat("休", 400), strings.Repeat("\"", 90), strings.Repeat("\xff", 90), strings.Repeat("wörd ", 90), -7, -1.0)
	f.Add("G", "b", strings.Repeat("\u0301", 100), " ", `\`, "\n\n", 99999, 0.0)
	f.Fuzz(func(t *testing.T, method, bucket, key, user, reason, cause string, status int, ms float64) {
		if method == "" {
			return
		}
		changes := []any{"method", method, "bucket", bucket, "key", key, "user", user, "operation", reason, "reason", reason, "cause", cause, "status", status,
			"duration_ms", ms, "upstream_message", cause, "account", key, "user_agent", key}
		for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn} {
			got := shortLog(t, false, level, "request", requestAttrs(changes...)...)
			checkShortLine(t, got)
			if level == slog.LevelInfo && strings.Count(got, "\n") != 1 {
				t.Errorf("more than one line: %q", got)
			}
			coloured := shortLog(t, true, level, "request", requestAttrs(changes...)...)
			for _, code := range []colour{boldRed, green, yellow, cyan, faint, "\x1b[0m"} {
				coloured = strings.ReplaceAll(coloured, string(code), "")
			}
			if coloured != got {
				t.Errorf("without its colours the line is %q, want %q", coloured, got)
			}
		}
	})
}
