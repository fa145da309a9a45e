package main

// The page at / of the admin listener, and the same as JSON. The page is one file: style, script
// and charts are in it, and its Content-Security-Policy allows nothing else. It is whole without
// the script, which only fetches it again and replaces what is in <main>, so there is one
// template and no second way to draw. html/template escapes what comes from the configuration.

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	statusPage     = "/-/status"
	maxReports     = 2                // reports made at one time; each looks at every user
	statusPatience = 30 * time.Second // for a browser to take the answer
)

var (
	//go:embed status.html
	statusHTML string
	//go:embed status.css
	statusCSS string
	//go:embed status.js
	statusJS string

	statusTemplate = template.Must(template.New("status").Parse(statusHTML))

	// statusPolicy lets the page run its own script, use its own style, and ask its own server.
	statusPolicy = []string{fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; connect-src 'self'; img-src data:; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", sourceHash(statusCSS), sourceHash(statusJS))}
)

// statusPages are the page and its JSON.
type statusPages struct {
	service  *service
	draining *atomic.Bool
	turns    chan struct{} // one place for each report that is being made
}

func newStatusPages(s *service, draining *atomic.Bool) *statusPages {
	return &statusPages{s, draining, make(chan struct{}, maxReports)}
}

// answerPage answers with the page.
func (p *statusPages) answerPage(w http.ResponseWriter, r *http.Request) {
	w.Header()["Content-Security-Policy"] = statusPolicy
	p.answer(w, r, maxListed, "text/html; charset=utf-8", func(b *bytes.Buffer, s *statusReport) error {
		return statusTemplate.Execute(b, &statusView{s, template.CSS(statusCSS), template.JS(statusJS)})
	})
}

// answerJSON answers with the report: as much as the page shows or, with ?all=1, every account and
// user.
func (p *statusPages) answerJSON(w http.ResponseWriter, r *http.Request) {
	listed := maxListed
	if r.URL.Query().Get("all") != "" {
		listed = math.MaxInt
	}
	p.answer(w, r, listed, "application/json", func(b *bytes.Buffer, s *statusReport) error {
		return json.NewEncoder(b).Encode(s)
	})
}

// answer makes a report, when there is a place for it, and sends it. Only the sending takes as
// long as the client does.
func (p *statusPages) answer(w http.ResponseWriter, r *http.Request, listed int, contentType string, render func(*bytes.Buffer, *statusReport) error) {
	select {
	case p.turns <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	var b bytes.Buffer
	err := func() error {
		defer func() { <-p.turns }()
		return render(&b, p.service.report(time.Now(), listed, p.draining.Load()))
	}()
	if err != nil { // a bug in the template
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Now().Add(statusPatience))
	defer control.SetWriteDeadline(time.Time{}) // the connection may be used for a longer answer
	w.Header()["Content-Type"] = []string{contentType}
	w.Header()["Content-Length"] = []string{strconv.Itoa(b.Len())}
	w.Write(b.Bytes())
}

// A statusView is a report as the template sees it. Its methods are the words and the drawings.
type statusView struct {
	*statusReport
	Style  template.CSS
	Script template.JS
}

// Sign is the state in a character, for those who don't see the colour.
func (v *statusView) Sign(state any) string {
	switch fmt.Sprint(state) {
	case "ok":
		return "✓"
	case "attention":
		return "!"
	case "idle":
		return "–"
	}
	return "✗"
}

// Parts of the page: templates take one value, so these are the view and what it is about.
type (
	viewOfTime struct {
		V *statusView
		T time.Time
	}
	viewOfExpiry struct {
		viewOfTime
		What string
		Over bool
	}
	viewOfUser struct {
		V *statusView
		U userStatus
	}
)

// At is an instant in the past.
func (v *statusView) At(t time.Time) viewOfTime { return viewOfTime{v, t} }

// Ends is the end of something.
func (v *statusView) Ends(what string, t time.Time) viewOfExpiry {
	return viewOfExpiry{viewOfTime{v, t}, what, !t.After(v.Time)}
}

// Of is a user.
func (v *statusView) Of(u userStatus) viewOfUser { return viewOfUser{v, u} }

// Ago says how long before the report an instant was.
func (v *statusView) Ago(t time.Time) string {
	if d := v.Time.Sub(t); d >= time.Second {
		return inUnits(d) + " ago"
	}
	return "now"
}

// Until says how long after the report an instant is.
func (v *statusView) Until(t time.Time) string {
	if d := t.Sub(v.Time); d > 0 {
		return "in " + inUnits(d)
	}
	return "expired " + v.Ago(t)
}

// Uptime is the age of the process.
func (v *statusView) Uptime() string {
	return inUnits(time.Duration(v.Process.UptimeSeconds) * time.Second)
}

// Span is a number of seconds.
func (v *statusView) Span(seconds int64) string {
	switch {
	case seconds%86400 == 0:
		return v.Count(seconds/86400) + "\u202fd"
	case seconds%3600 == 0:
		return v.Count(seconds/3600) + "\u202fh"
	case seconds%60 == 0 && seconds > 60:
		return v.Count(seconds/60) + "\u202fmin"
	}
	return v.Count(seconds) + "\u202fs"
}

// Meaning says what a reason means.
func (v *statusView) Meaning(why refusalReason) string {
	if known := why.text(); known != nil {
		return known.meaning
	}
	return ""
}

// Remedy says what to do about the last error of an account that is down, or "".
func (v *statusView) Remedy(a accountStatus) string {
	if !isDown(a.State) || a.LastError == nil || a.LastError.Reason.text() == nil {
		return ""
	}
	return strings.ReplaceAll(a.LastError.Reason.text().remedy, "ACCOUNT", a.Name)
}

// Exact is an instant as a title has it.
func (v *statusView) Exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Machine is an instant as the attribute datetime has it.
func (v *statusView) Machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Clock is the time of the report.
func (v *statusView) Clock() string { return v.Time.UTC().Format("15:04:05 UTC") }

// Unlisted says which accounts or users are listed, if not all are.
func (v *statusView) Unlisted(listed, total int, which string) string {
	if listed >= total {
		return ""
	}
	return fmt.Sprintf("the %d %s, of %s", listed, which, v.Count(int64(total)))
}

// Rate is a number of requests a second.
func (v *statusView) Rate(rate float64) string {
	switch {
	case rate == 0:
		return "0"
	case rate < 0.1:
		return "<0.1"
	case rate < 10:
		return strconv.FormatFloat(rate, 'f', 1, 64)
	}
	return v.Count(int64(math.Round(rate)))
}

// Took is a number of milliseconds.
func (v *statusView) Took(ms float64) string {
	switch {
	case ms == 0:
		return "–"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + "\u202fms"
	case ms < 1000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + "\u202fms"
	}
	return strconv.FormatFloat(ms/1000, 'f', 1, 64) + "\u202fs"
}

// Count is a number with its thousands apart.
func (v *statusView) Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "\u202f" + digits[at:]
	}
	return digits
}

// Number is Count for a small number.
func (v *statusView) Number(n int) string { return v.Count(int64(n)) }

// Bytes is a number of bytes.
func (v *statusView) Bytes(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + "\u202fB"
	}
	value, unit := float64(n)/(1<<10), 0
	for ; value >= 1000 && unit < 5; unit++ {
		value /= 1 << 10
	}
	digits := 0
	if value < 10 {
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + "\u202f" + "KMGTPE"[unit:unit+1] + "iB"
}

// Share is how much of a window is used, in percent.
func (v *statusView) Share(w windowStatus) int { return min(100, 100*w.Requests/max(1, w.Limit)) }

// The charts: a step of two units for each slot, and the largest value at the top.

const (
	chartStep   = 2
	chartWidth  = chartStep * slotCount
	chartHeight = 28
)

// A statusChart is two areas in one drawing, with the words for those who don't see it.
type statusChart struct {
	Title         string
	Back, Front   string // paths
	Width, Height int
}

// RateChart draws the requests and, before them, the failures.
func (v *statusView) RateChart(t trafficStatus) statusChart {
	top := highest(t.SlotRates)
	return statusChart{
		Title: fmt.Sprintf("Requests a second in 15 minutes: %s in the last minute, %s at most; %s failed of %s",
			v.Rate(t.RequestsPerSecond), v.Rate(top), v.Count(t.Failures), v.Count(t.Requests)),
		Back: area(t.SlotRates, top), Front: area(t.SlotFailures, top), Width: chartWidth, Height: chartHeight,
	}
}

// LatencyChart draws p99 and, before it, p50.
func (v *statusView) LatencyChart(t trafficStatus) statusChart {
	top := highest(t.SlotP99)
	// From 0 to the top, but a tenth of the top is more than a tenth of the height: p50 and p99
	// differ by ten times and more.
	logarithms := func(values []float64) (drawn []float64) {
		for _, value := range values {
			drawn = append(drawn, math.Log1p(value))
		}
		return drawn
	}
	return statusChart{
		Title: fmt.Sprintf("Time to the first byte in 15 minutes: p50 %s, p99 %s; the highest p99 of ten seconds is %s",
			v.Took(t.P50), v.Took(t.P99), v.Took(top)),
		Back: area(logarithms(t.SlotP99), math.Log1p(top)), Front: area(logarithms(t.SlotP50), math.Log1p(top)), Width: chartWidth, Height: chartHeight,
	}
}

func highest(values []float64) (top float64) {
	for _, value := range values {
		top = max(top, value)
	}
	return top
}

// area returns a path: the outline of bars that touch. Without a value above zero it is "".
func area(values []float64, top float64) string {
	if highest(values) == 0 {
		return ""
	}
	var path strings.Builder
	fmt.Fprintf(&path, "M0 %d", chartHeight)
	level := float64(chartHeight)
	for i, value := range values {
		if y := chartHeight - math.Round(value/top*chartHeight*10)/10; y != level {
			fmt.Fprintf(&path, "H%dV%s", i*chartStep, strconv.FormatFloat(y, 'f', -1, 64))
			level = y
		}
	}
	fmt.Fprintf(&path, "H%dV%dZ", chartWidth, chartHeight)
	return path.String()
}
