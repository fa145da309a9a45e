//go:build linux

package main

// What is told of a run: tables as text or Markdown, and a chart in SVG.

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is a run. What was not measured is empty.
type report struct {
	Date       string          `json:"date"`
	Machine    string          `json:"machine"`
	Programs   string          `json:"programs"` // that are compared, and their versions
	Backend    string          `json:"backend"`
	Results    []*result       `json:"results,omitempty"`
	Targets    []*verdict      `json:"targets,omitempty"`
	Memory     []*memoryRow    `json:"memory,omitempty"`
	Scale      []*scaleRow     `json:"scale,omitempty"`
	Neighbours []*neighbourRow `json:"neighbours,omitempty"`
}

func newReport(s *site) *report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	kernelVersion, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-") // what follows is the builder's
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	programs := []string{strings.Replace(runtime.Version(), "go", "Go ", 1)}
	if output, err := exec.Command("nginx", "-v").CombinedOutput(); err == nil {
		_, version, _ := strings.Cut(strings.TrimSpace(string(output)), "nginx/")
		programs = append(programs, "nginx "+version)
	}
	if output, err := exec.Command("haproxy", "-v").CombinedOutput(); err == nil {
		programs = append(programs, "HAProxy "+(strings.Fields(string(output) + " ? ? ?")[2]))
	}
	return &report{
		Date:     time.Now().UTC().Format(time.DateOnly),
		Machine:  fmt.Sprintf("%s, %d cores, Linux %s", cpuModel(string(cpuinfo)), runtime.NumCPU(), kernelVersion),
		Programs: strings.Join(programs, ", "),
		Backend:  s.backend,
	}
}

// cpuModel finds the line "model name : …" of /proc/cpuinfo, which not all
// architectures have.
func cpuModel(cpuinfo string) string {
	_, rest, _ := strings.Cut(cpuinfo, "model name")
	line, _, _ := strings.Cut(rest, "\n")
	if _, model, ok := strings.Cut(line, ":"); ok {
		return strings.TrimSpace(model)
	}
	return runtime.GOARCH
}

func (r *report) heading() string {
	return fmt.Sprintf("%s; %s; %s; all on loopback; backend: %s", r.Date, r.Machine, r.Programs, r.Backend)
}

// A table has as many columns in each row as in its head.
type table struct {
	title string
	head  []string
	rows  [][]string
}

// contenderTable says what each contender does, for CPU alone compares unlike things.
func contenderTable() table {
	return table{title: "What each contender does", head: []string{"contender", "forwards", "authenticates, authorizes, limits", "signs for the backend", "checks parameters and headers", "parses and rewrites lists", "access log", "metrics"}, rows: [][]string{
		{ours, "yes", "yes", "yes", "yes", "yes", "yes", "yes"},
		{bare, "yes, buffers and connections pooled", "no", "no", "no", "no", "no", "no"},
		{"nginx", "yes", "no", "no", "no", "no", "yes", "no"},
		{"haproxy", "yes", "no", "no", "no", "no", "no", "no"},
		{floor, "no: net/http, the object in memory", "no", "no", "no", "no", "no", "no"},
		{direct, "no: the clients ask the backend", "no", "no", "no", "no", "no", "no"},
	}}
}

// tables has those for which there is something to tell.
func (r *report) tables() []table {
	var all []table
	if len(r.Results) > 0 {
		all = append(all, contenderTable(), r.cpuTable(), r.detailTable())
	}
	if len(r.Targets) > 0 {
		all = append(all, r.targetTable())
	}
	if len(r.Memory) > 0 {
		all = append(all, r.memoryTable())
	}
	if len(r.Scale) > 0 {
		all = append(all, r.scaleTable())
	}
	if len(r.Neighbours) > 0 {
		all = append(all, r.neighbourTable(), r.waitingTable())
	}
	return all
}

// cpuTable has a row for each work and a column for each contender.
func (r *report) cpuTable() table {
	var names []string
	for _, x := range r.Results {
		if x.Contender != direct && !slices.Contains(names, x.Contender) {
			names = append(names, x.Contender)
		}
	}
	t := table{title: "CPU of the proxy process", head: append([]string{"work", "unit"}, names...)}
	for i, x := range r.Results {
		if i > 0 && r.Results[i-1].Work == x.Work {
			continue
		}
		row := []string{x.Work, x.Unit}
		for _, name := range names {
			cell := "–"
			if y := find(r.Results, x.Work, name); y != nil {
				cell = figure(y.CPU)
			}
			row = append(row, cell)
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// detailTable has a row for each work and contender.
func (r *report) detailTable() table {
	t := table{title: "In detail", head: []string{"work", "proxy", "CPU", "", "s3-proxy's ÷ it", "requests/s", "MiB/s", "p50 µs", "p99 µs", "peak RSS MiB"}}
	for _, x := range r.Results {
		cpu, ratio, mibps, peak := "–", "–", "–", "–"
		if x.CPU > 0 {
			cpu, peak = figure(x.CPU), figure(x.PeakRSS)
			if gateway := find(r.Results, x.Work, ours); gateway != nil {
				ratio = fmt.Sprintf("%.2f", gateway.CPU/x.CPU)
			}
		}
		if x.MiBps > 0 {
			mibps = figure(x.MiBps)
		}
		t.rows = append(t.rows, []string{x.Work, x.Contender, cpu, x.Unit, ratio, figure(x.PerSecond), mibps, figure(x.P50), figure(x.P99), peak})
	}
	return t
}

func (r *report) targetTable() table {
	t := table{title: "Targets", head: []string{"work", "what", "beside", "target", "is", ""}}
	for _, v := range r.Targets {
		sign, met := "≤", "met"
		if v.AtLeast {
			sign = "≥"
		}
		if !v.Met {
			met = "not met"
		}
		t.rows = append(t.rows, []string{v.Work, v.What, v.Against, fmt.Sprintf("%s %.4g %s", sign, v.Want, v.Unit), fmt.Sprintf("%.3g %s", v.Is, v.Unit), met})
	}
	return t
}

func (r *report) memoryTable() table {
	t := table{title: "Memory of the gateway", head: []string{"use", "peak RSS MiB", "target", "", "note"}}
	for _, m := range r.Memory {
		want, met := "–", ""
		if m.Want > 0 {
			want, met = fmt.Sprintf("< %.0f", m.Want), "met"
			if m.PeakRSS >= m.Want {
				met = "not met"
			}
		}
		t.rows = append(t.rows, []string{m.Use, fmt.Sprintf("%.1f", m.PeakRSS), want, met, m.Note})
	}
	return t
}

func (r *report) scaleTable() table {
	t := table{title: "Cost of a GET of 4 KiB by size", head: []string{"connections", "users and buckets", "CPU µs/request", "ReverseProxy's", "requests/s", "p50 µs", "p99 µs", "peak RSS MiB"}}
	for _, x := range r.Scale {
		other := "–"
		if x.BareCPU > 0 {
			other = figure(x.BareCPU)
		}
		t.rows = append(t.rows, []string{grouped(x.Connections), grouped(x.Users), figure(x.CPU), other, figure(x.PerSecond), figure(x.P50), figure(x.P99), figure(x.PeakRSS)})
	}
	return t
}

// neighbourTable has the latency of the healthy account.
func (r *report) neighbourTable() table {
	t := table{title: "A healthy account while the backend of another is stuck", head: []string{"the other backend", "its clients", "requests", "p50 µs calm", "p50 µs", "p99 µs calm", "p99 µs", "p99 ÷ calm", "target", "", "calm ÷ calm"}}
	for _, x := range r.Neighbours {
		met := "met"
		if !x.met() {
			met = "not met"
		}
		t.rows = append(t.rows, []string{x.Trouble, x.State, grouped(x.Requests), figure(x.CalmP50), figure(x.P50), figure(x.CalmP99), figure(x.P99),
			fmt.Sprintf("%.2f ×", x.ratio()), fmt.Sprintf("≤ %d ×", neighbourTarget), met, fmt.Sprintf("%.2f ×", x.Noise)})
	}
	return t
}

// waitingTable has what the clients of the stuck account cost.
func (r *report) waitingTable() table {
	t := table{title: "What the clients of the stuck account cost the gateway", head: []string{"the other backend", "CPU ms/s", "of the healthy account, calm", "peak RSS MiB", "before", "KiB for each client"}}
	for _, x := range r.Neighbours {
		t.rows = append(t.rows, []string{x.Trouble, figure(x.WaitingCPU), figure(x.CalmCPU), figure(x.PeakRSS), figure(x.CalmRSS), figure(x.kibEach())})
	}
	return t
}

// figure writes a number with what of it means something: three digits, or all
// those before the point.
func figure(x float64) string {
	switch {
	case x >= 100:
		return grouped(int(x + 0.5))
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func (r *report) writeText(w io.Writer) error {
	fmt.Fprintln(w, r.heading())
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s\n", t.title)
		columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{t.head}, t.rows...) {
			fmt.Fprintln(columns, strings.Join(row, "\t"))
		}
		if err := columns.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.heading())
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n%s:\n\n| %s |\n|%s\n", t.title, strings.Join(t.head, " | "), strings.Repeat(" --- |", len(t.head)))
		for _, row := range t.rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// chartStyle gives the chart a ground of its own, for it may stand on a page of
// either colour.
const chartStyle = `<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 }
  .work { font-weight: 600 }
  .faint { font-size: 11px; font-weight: 400; fill: #59636e }
  .ground { fill: #ffffff }
  .bar { fill: #afb8c1 }
  .ours { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .faint { fill: #9198a1 }
    .ground { fill: #0d1117 }
    .bar { fill: #484f58 }
    .ours { fill: #4493f8 }
  }
</style>
`

// chart draws the CPU of each contender as bars, in SVG. The longest bar of each
// work is as long as that of any other.
func chart(r *report) []byte {
	const (
		width   = 760
		margin  = 20
		left    = 140 // where bars begin
		longest = width - left - 90
		step    = 20 // from a bar to the next
	)
	var rows strings.Builder
	y := 74
	work := ""
	for _, x := range r.Results {
		if x.CPU == 0 {
			continue // the direct way
		}
		if x.Work != work {
			work = x.Work
			y += 30
			fmt.Fprintf(&rows, `<text class="work" x="%d" y="%d">%s<tspan class="faint" dx="8">%s</tspan></text>`+"\n", margin, y, escape(x.Work), escape(x.Unit))
			y += 8
		}
		most := 0.0
		for _, other := range r.Results {
			if other.Work == x.Work {
				most = max(most, other.CPU)
			}
		}
		class := "bar"
		if x.Contender == ours {
			class = "ours"
		}
		length := longest * x.CPU / most
		fmt.Fprintf(&rows, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/><text x="%.1f" y="%d">%s</text>`+"\n",
			left-8, y+13, escape(x.Contender), class, left, y+2, length, step-5, left+length+6, y+13, figure(x.CPU))
		y += step
	}
	height := y + margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="CPU of the proxy process, by kind of request">`+"\n", width, height, width, height)
	b.WriteString(chartStyle)
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d" rx="6"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text class="title" x="%d" y="34">CPU of the proxy process (shorter is better)</text>`+"\n", margin)
	fmt.Fprintf(&b, `<text class="faint" x="%d" y="54">%s</text>`+"\n", margin, escape(r.Date+" · "+r.Machine))
	fmt.Fprintf(&b, `<text class="faint" x="%d" y="70">%s</text>`+"\n", margin, escape(r.Programs+" · backend: "+r.Backend))
	b.WriteString(rows.String())
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// escape writes text for XML.
func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return b.String()
}
