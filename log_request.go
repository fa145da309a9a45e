package main

// The line of a request in the short format, and what is below it:
//
//	23:09:51 403 PUT    photos/a.txt          eve      PutObject            role               0.4ms
//	23:09:58 502 GET    photos/a.txt          alice    GetObject            backend_connect    1.2ms
//	                    dial tcp 127.0.0.1:9000: connect: connection refused  account=main  request_id=…
//
// A line fits a terminal 120 columns wide. The fields are those of docs/metrics-and-logs.md.

import (
	"log/slog"
	"strconv"
	"strings"
)

// shortWidth is the width of a terminal in columns.
const shortWidth = 120

// Columns of the line: where a cell begins, or where it ends if it is aligned to the right. A cell
// that is too long moves those to its right, as long as there are spaces to take from. Then the
// middle of the place is left out.
const (
	placeColumn     = 20 // bucket and key; a cause begins there too
	userColumn      = 56
	operationColumn = 65
	reasonColumn    = 86
	sizeEnd         = 113
	durationEnd     = shortWidth
)

// A requestLine is what the line of a request shows.
type requestLine struct {
	method, bucket, key, user, claimedUser, operation, reason, code   string
	cause, upstreamCode, upstreamMessage, account, expectedRegion, id string

	status, received, sent int64
	duration               float64 // milliseconds
	aborted                bool
}

// read takes the attributes of a record. It reports whether that is the line of a request.
func (q *requestLine) read(r *slog.Record) bool {
	if r.Message != "request" {
		return false
	}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Value.Kind() {
		case slog.KindString:
			if field := q.text(a.Key); field != nil {
				*field = a.Value.String()
			}
		case slog.KindInt64:
			if field := q.number(a.Key); field != nil {
				*field = a.Value.Int64()
			}
		case slog.KindFloat64:
			if a.Key == "duration_ms" {
				q.duration = a.Value.Float64()
			}
		case slog.KindBool:
			q.aborted = q.aborted || a.Key == "aborted" && a.Value.Bool()
		}
		return true
	})
	return q.method != ""
}

// text returns the field for a string, or nil.
func (q *requestLine) text(key string) *string {
	switch key {
	case "method":
		return &q.method
	case "bucket":
		return &q.bucket
	case "key":
		return &q.key
	case "user":
		return &q.user
	case "claimed_user":
		return &q.claimedUser
	case "operation":
		return &q.operation
	case "reason":
		return &q.reason
	case "code":
		return &q.code
	}
	return q.detail(key)
}

// detail returns the field for a string of the lines below, or nil.
func (q *requestLine) detail(key string) *string {
	switch key {
	case "cause":
		return &q.cause
	case "upstream_code":
		return &q.upstreamCode
	case "upstream_message":
		return &q.upstreamMessage
	case "account":
		return &q.account
	case "expected_region":
		return &q.expectedRegion
	case "request_id":
		return &q.id
	}
	return nil
}

// number returns the field for an integer, or nil.
func (q *requestLine) number(key string) *int64 {
	switch key {
	case "status":
		return &q.status
	case "bytes_in":
		return &q.received
	case "bytes_out":
		return &q.sent
	}
	return nil
}

// place is the bucket and the key.
func (q *requestLine) place() string {
	switch {
	case q.bucket == "":
		return "-"
	case q.key == "":
		return q.bucket
	}
	return q.bucket + "/" + q.key
}

// caller is the user. One that is only claimed has a question mark.
func (q *requestLine) caller() string {
	if q.user == "" && q.claimedUser != "" {
		return q.claimedUser + "?"
	}
	return orDash(q.user)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// why is a word for a request that failed.
func (q *requestLine) why() string {
	switch {
	case q.reason != "":
		return q.reason
	case q.code != "":
		return q.code
	case q.aborted:
		return "aborted"
	}
	return ""
}

// appendSize appends the length of the larger body. That of an error is of no interest.
func (q *requestLine) appendSize(b []byte) []byte {
	if n := max(q.received, q.sent); n > 0 && q.status < 400 {
		return appendBytes(b, n)
	}
	return b
}

// colour is that of the status.
func (q *requestLine) colour(level slog.Level) colour {
	switch {
	case level >= slog.LevelWarn:
		return boldRed
	case q.status >= 400:
		return yellow
	case q.status >= 300:
		return cyan
	case q.status >= 200:
		return green
	}
	return noColour
}

// append appends the line, after the time, without a line break.
func (q *requestLine) append(b []byte, on colours, level slog.Level) []byte {
	var numbers [64]byte
	size := q.appendSize(numbers[:0:32])
	took := appendMilliseconds(numbers[32:32], q.duration)
	cells := [...]struct {
		cell
		column int
	}{
		{cell{}, placeColumn}, // gets what the others leave
		{newCell(q.caller(), 16), userColumn},
		{newCell(orDash(q.operation), 26), operationColumn},
		{newCell(q.why(), 20), reasonColumn},
		{newCell(string(size), len(size)), sizeEnd - len(size)},
		{newCell(string(took), len(took)), durationEnd - len(took)},
	}
	of := q.colour(level)
	l := columnLine{b: on.end(appendStatus(on.begin(b, of), q.status), of), at: len("23:09:51 403"), spare: placeColumn}
	l.write(newCell(q.method, 7), 0, false, noColour)
	l.b = appendSpaces(l.b, placeColumn-1-l.at)
	l.at = max(l.at, placeColumn-1)

	l.spare = shortWidth - l.at - len(" ")
	for _, c := range cells {
		if c.columns > 0 {
			l.spare -= len(" ") + c.columns
		}
	}
	cells[0].cell = newCell(q.place(), l.spare)
	l.spare -= cells[0].columns
	for _, c := range cells {
		switch {
		case c.columns == 0:
		case c.column == reasonColumn:
			l.write(c.cell, c.column, on, of)
		default:
			l.write(c.cell, c.column, false, noColour)
		}
	}
	return l.b
}

// appendDetails appends, on lines of their own, what an operator wants to know of a request that
// failed for a fault of the gateway or of a backend. The backend's words come last, so that nothing in
// them can be taken for a field.
func (q *requestLine) appendDetails(b []byte) []byte {
	said := strings.Trim(q.upstreamCode+": "+q.upstreamMessage, ": ")
	var details []string
	for _, d := range []struct{ name, value string }{
		{"", q.cause}, {"account=", q.account}, {"expected_region=", q.expectedRegion}, {"request_id=", q.id}, {"the backend says ", said},
	} {
		if d.value != "" {
			details = append(details, d.name+d.value)
		}
	}
	return appendBlock(b, strings.Join(details, "  "))
}

// A columnLine is a line of which the first columns are written.
type columnLine struct {
	b     []byte
	at    int // columns that are written
	spare int // columns that are not needed
}

// write writes a cell, at its column if there are spaces to spare, and at least one space behind
// what is there.
func (l *columnLine) write(c cell, column int, on colours, of colour) {
	free := min(max(0, column-l.at-1), l.spare)
	b, used := c.append(on.begin(appendSpaces(l.b, free+1), of))
	l.b, l.at, l.spare = on.end(b, of), l.at+free+1+used, l.spare-free+c.columns-used
}

func appendStatus(b []byte, status int64) []byte {
	if status < 100 || status > 999 { // there is none yet
		return append(b, "  -"...)
	}
	return strconv.AppendInt(b, status, 10)
}

// appendBytes appends a size in at most 7 columns, such as 9.5MiB.
func appendBytes(b []byte, n int64) []byte {
	if n < 1<<10 {
		return append(strconv.AppendInt(b, n, 10), 'B')
	}
	value, unit := float64(n)/(1<<10), 0
	const units = "KMGTPE"
	for ; value >= 1<<10; unit++ {
		value /= 1 << 10
	}
	return append(appendRounded(b, value), units[unit], 'i', 'B')
}

// appendMilliseconds appends a duration in at most 6 columns, such as 0.4ms, 12ms, 1.2s or 2m05s.
func appendMilliseconds(b []byte, ms float64) []byte {
	const second, hours = 1000, 99 * 3600 * 1000
	if ms = min(max(ms, 0), hours); ms < second {
		return append(appendRounded(b, ms), "ms"...)
	}
	if ms < 60*second {
		return append(appendRounded(b, ms/second), 's')
	}
	seconds := int64(ms / second)
	large, small, names := seconds/60, seconds%60, "ms"
	if large >= 60 {
		large, small, names = large/60, large%60, "hm"
	}
	b = append(strconv.AppendInt(b, large, 10), names[0])
	return append(b, byte('0'+small/10), byte('0'+small%10), names[1])
}

// appendRounded appends a number with one digit after the point if it is below 10.
func appendRounded(b []byte, value float64) []byte {
	if value < 10 {
		return strconv.AppendFloat(b, value, 'f', 1, 64)
	}
	return strconv.AppendFloat(b, value, 'f', 0, 64)
}

// appendBlock appends text on indented lines of its own, each of which fits the width.
func appendBlock(b []byte, text string) []byte {
	text = strings.ReplaceAll(strings.Trim(text, "\n"), "\t", "    ")
	for line := range strings.SplitSeq(text, "\n") {
		for {
			n := fitting(line, shortWidth-placeColumn)
			b = appendSpaces(append(b, '\n'), placeColumn)
			b = appendVisible(b, strings.TrimRight(line[:n], " "), false)
			if line = strings.TrimLeft(line[n:], " "); line == "" {
				break
			}
		}
	}
	return b
}
