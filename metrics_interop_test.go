//go:build interop

package main

// What promtool, of Prometheus, says of the metrics, the rules and the dashboard.

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// promtool runs it, and returns what it has to say.
func promtool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	command := exec.Command("promtool", args...)
	command.Stdin = strings.NewReader(stdin)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %s: %v (interop/install installs it)\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

// Warnings are output too: there must be none.
func TestInteropPromtoolMetrics(t *testing.T) {
	var text strings.Builder
	m := filledMetrics()
	m.observe(sample{user: "a\"b\\c\nd é", bucket: "photos", operation: "GetObject", code: 200})
	if err := m.write(&text); err != nil {
		t.Fatal(err)
	}
	if said := promtool(t, text.String(), "check", "metrics"); said != "" {
		t.Errorf("promtool check metrics: %s", said)
	}
}

func TestInteropPromtoolRules(t *testing.T) {
	promtool(t, "", "check", "rules", "deploy/alerts.yml")
	promtool(t, "", "test", "rules", "deploy/alerts_test.yml")
}

// The queries of the dashboard are checked as recording rules, with Grafana's
// variable for a range filled in.
func TestInteropPromtoolDashboard(t *testing.T) {
	text, err := os.ReadFile("deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	n := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			n++
			fmt.Fprintf(&rules, "  - {record: 'query:%d', expr: %q}\n", n, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := promtool(t, "", "check", "rules", file); !strings.Contains(said, fmt.Sprintf("%d rules found", n)) {
		t.Errorf("promtool check rules: %s", said)
	}
}
