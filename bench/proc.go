//go:build linux

package main

// What Linux tells about a process: proc(5).

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc, the same on all machines.
const clockTick = 10 * time.Millisecond

// cpuTime is the CPU time that a process has used, all its threads together, in
// its own code and in the kernel's.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPU(string(data))
}

// parseCPU adds fields 14 and 15 of a line of /proc/PID/stat. The second field is
// the program's name in brackets, which may hold spaces and brackets itself.
func parseCPU(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("not a line of /proc/PID/stat: %q", stat)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("not a line of /proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// peakRSS is the largest resident set of a process since resetPeak, in MiB.
func peakRSS(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parsePeak(string(data))
}

// parsePeak finds the line "VmHWM: 1234 kB" of /proc/PID/status.
func parsePeak(status string) (float64, error) {
	_, rest, _ := strings.Cut(status, "\nVmHWM:")
	line, _, _ := strings.Cut(rest, "\n")
	number, ok := strings.CutSuffix(strings.TrimSpace(line), " kB")
	kib, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("no VmHWM in /proc/PID/status, but %q", line)
	}
	return float64(kib) / 1024, nil
}

// resetPeak makes the present resident set the largest. Where that is not allowed,
// peaks are those since the process was started.
func resetPeak(pid int) {
	os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}
