package main

// What Go's runtime and the operating system tell of the process, as families of metrics.

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// runtimeFamilies describe Go's runtime, under the names that every Go program in
// Prometheus has. The numbers are sums of those of package runtime/metrics.
func runtimeFamilies() []family {
	families := []family{
		{"go_info", gauge, "1, with the version of Go.", []string{"version"}, func(e *exposition) { e.sample(1, runtime.Version()) }},
		{"go_gc_duration_seconds", "summary", "Pauses of the latest garbage collections.", nil, collectorPauses},
	}
	for _, r := range []struct{ name, kind, help, sources string }{
		{"go_gc_gomemlimit_bytes", gauge, "Memory that the runtime tries to stay below: GOMEMLIMIT.", "/gc/gomemlimit:bytes"},
		{"go_goroutines", gauge, "Goroutines that exist.", "/sched/goroutines:goroutines"},
		{"go_memstats_alloc_bytes", gauge, "Bytes of heap objects.", "/memory/classes/heap/objects:bytes"},
		{"go_memstats_alloc_bytes_total", counter, "Bytes of heap objects ever allocated.", "/gc/heap/allocs:bytes"},
		{"go_memstats_frees_total", counter, "Heap objects ever freed.", "/gc/heap/frees:objects /gc/heap/tiny/allocs:objects"},
		{"go_memstats_heap_idle_bytes", gauge, "Bytes of the heap without objects.", "/memory/classes/heap/free:bytes /memory/classes/heap/released:bytes"},
		{"go_memstats_heap_inuse_bytes", gauge, "Bytes of the heap's parts that have objects.", "/memory/classes/heap/objects:bytes /memory/classes/heap/unused:bytes"},
		{"go_memstats_heap_objects", gauge, "Heap objects that exist.", "/gc/heap/objects:objects"},
		{"go_memstats_heap_released_bytes", gauge, "Bytes of the heap that the system has back.", "/memory/classes/heap/released:bytes"},
		{"go_memstats_mallocs_total", counter, "Heap objects ever allocated.", "/gc/heap/allocs:objects /gc/heap/tiny/allocs:objects"},
		{"go_memstats_next_gc_bytes", gauge, "Size of the heap at which the next collection is due.", "/gc/heap/goal:bytes"},
		{"go_memstats_stack_inuse_bytes", gauge, "Bytes of goroutines' stacks.", "/memory/classes/heap/stacks:bytes"},
		{"go_memstats_sys_bytes", gauge, "Bytes of memory that the runtime has from the system.", "/memory/classes/total:bytes"},
		{"go_sched_gomaxprocs_threads", gauge, "Threads that run Go code at one time: GOMAXPROCS.", "/sched/gomaxprocs:threads"},
		{"go_threads", gauge, "Threads of the system that the runtime has.", "/sched/threads/total:threads"},
	} {
		sources := strings.Fields(r.sources)
		families = append(families, family{r.name, r.kind, r.help, nil, gaugeOf(func() float64 { return runtimeSum(sources) })})
	}
	return families
}

// runtimeSum adds up metrics of the runtime; it is NaN if it has not all of them.
func runtimeSum(names []string) float64 {
	sum := 0.0
	for _, name := range names {
		s := []runtimemetrics.Sample{{Name: name}}
		runtimemetrics.Read(s)
		if s[0].Value.Kind() != runtimemetrics.KindUint64 {
			return math.NaN()
		}
		sum += float64(s[0].Value.Uint64())
	}
	return sum
}

func collectorPauses(e *exposition) {
	stats := debug.GCStats{PauseQuantiles: make([]time.Duration, 5)}
	debug.ReadGCStats(&stats)
	for i, quantile := range []string{"0", "0.25", "0.5", "0.75", "1"} {
		e.line("", stats.PauseQuantiles[i].Seconds(), nil, "quantile", quantile)
	}
	e.line("_sum", stats.PauseTotal.Seconds(), nil, "", "")
	e.line("_count", float64(stats.NumGC), nil, "", "")
}

// processFamilies describe the process as Linux sees it, under the names that
// every program in Prometheus has. Elsewhere there is no /proc, and they are left
// out: see proc(5).
func processFamilies() []family {
	const ticks = 100 // per second, of all clocks in /proc
	start := procNumber("/proc/stat", "btime") + procStat(22)/ticks
	return []family{
		{"process_cpu_seconds_total", counter, "CPU time that the process has used.", nil, gaugeOf(func() float64 { return (procStat(14) + procStat(15)) / ticks })},
		{"process_max_fds", gauge, "File descriptors that the process may have open.", nil, gaugeOf(func() float64 { return procNumber("/proc/self/limits", "Max open files") })},
		{"process_open_fds", gauge, "File descriptors that are open.", nil, gaugeOf(openFiles)},
		{"process_resident_memory_bytes", gauge, "Memory of the process that is in RAM.", nil, gaugeOf(func() float64 { return procStat(24) * float64(os.Getpagesize()) })},
		{"process_start_time_seconds", gauge, "When the process was started.", nil, gaugeOf(func() float64 { return start })},
		{"process_virtual_memory_bytes", gauge, "Address space of the process.", nil, gaugeOf(func() float64 { return procStat(23) })},
	}
}

// procStat returns a field of /proc/self/stat, counted from 1 as in proc(5), or NaN.
func procStat(field int) float64 {
	stat, _ := os.ReadFile("/proc/self/stat")
	// The second field is the program's name in parentheses, and may hold spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < field-2 {
		return math.NaN()
	}
	return parseNumber(fields[field-3])
}

// procNumber returns the first number of the line of a file that begins with name,
// or NaN.
func procNumber(file, name string) float64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return parseNumber(strings.Fields(rest + " -")[0])
		}
	}
	return math.NaN()
}

func parseNumber(s string) float64 {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

func openFiles() float64 {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return math.NaN()
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return math.NaN()
	}
	return float64(len(names) - 1) // this one is open for the count alone
}
