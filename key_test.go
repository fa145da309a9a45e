package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// The key and the digest that are printed work where the text says that they go.
func TestKeyPrintsAConfigurationThatLetsItIn(t *testing.T) {
	backend := startDemoBackend(t)
	seen := map[string]bool{}
	for range 3 {
		var out syncBuffer
		if err := run(t.Context(), []string{"key"}, &out, &out); err != nil {
			t.Fatal(err)
		}
		key := regexp.MustCompile(`(?m)^key +(\S+)$`).FindStringSubmatch(out.String())[1]
		if raw, err := base64.RawURLEncoding.DecodeString(key); err != nil || len(raw)*8 < 192 || seen[key] || key[0] == '-' {
			t.Errorf("the key %q: %v, %d bits, want a new one of 192 that begins like no flag", key, err, len(raw)*8)
		}
		seen[key] = true
		users := regexp.MustCompile(`(?m)^ +("NAME": \{.*\})$`).FindAllStringSubmatch(out.String(), -1)
		if len(users) != 2 {
			t.Fatalf("%d users to paste, want 2:\n%s", len(users), out.String())
		}
		for _, user := range users {
			var pasted map[string]any
			text := strings.Replace(user[1], "BUCKET", "photos", 1)
			if err := json.Unmarshal([]byte("{"+text+"}"), &pasted); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			g := startGateway(t, testConfig(backend.URL, with("users", pasted)))
			if resp, body := g.do("GET", "/photos", key, ""); resp.StatusCode != 200 {
				t.Errorf("GET with the key = %d %s, want 200 with %s", resp.StatusCode, body, text)
			}
		}
	}
}

func TestKeyHashPrintsTheDigestAndNotTheKey(t *testing.T) {
	key := "correct-horse-battery"
	want := fmt.Sprintf("%x", sha256.Sum256([]byte(key)))
	for _, input := range []string{key, key + "\n", key + "\r\n"} {
		var out syncBuffer
		std := streams{strings.NewReader(input), &out, &out}
		if err := runCommand(t.Context(), []string{"key", "-hash"}, std); err != nil {
			t.Fatalf("key -hash of %q: %v", input, err)
		}
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, key) {
			t.Errorf("key -hash of %q printed %q, want %s and not the key", input, got, want)
		}
	}
}

func TestKeyHashRefusesWhatAConfigurationRefuses(t *testing.T) {
	for _, test := range []struct{ input, want string }{
		{"", "at least 16 characters"},
		{"\n", "at least 16 characters"},
		{"tooshort", "at least 16 characters"},
		{"two-lines-of-a-file\n\n", "printable"},
		{"a key with some spaces", "printable"},
		{strings.Repeat("a", maxAPIKey+1), "at most"},
		{strings.Repeat("a", 10*maxAPIKey), "at most"},
		{"alice-change-me-0001", "published example"},
	} {
		var out syncBuffer
		err := runCommand(t.Context(), []string{"key", "-hash"}, streams{strings.NewReader(test.input), &out, &out})
		if err == nil || !strings.Contains(err.Error(), test.want) || out.String() != "" {
			t.Errorf("key -hash of %.40q = %v, %q, want an error with %q and nothing printed", test.input, err, out.String(), test.want)
		}
		if len(test.input) > 4 && err != nil && strings.Contains(err.Error(), strings.TrimSpace(test.input)) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}
