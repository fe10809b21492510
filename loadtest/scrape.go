package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// scrape is the metrics of an engine at one time, by name and labels as they are printed.
type scrape map[string]float64

// scrape asks the control port for its metrics.
func (s *site) scrape(ctx context.Context) (scrape, error) {
	data, err := s.ask(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	return parseMetrics(data), nil
}

func parseMetrics(data []byte) scrape {
	all := scrape{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if i <= 0 || line[0] == '#' {
			continue
		}
		if value, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			all[line[:i]] = value
		}
	}
	return all
}

// ask makes one request to the control port that is no load. Anything but 200 is an error.
func (s *site) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.control.address+s.control.prefix+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Host = s.control.host
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, data)
	}
	return data, err
}

// usage is what an engine spent between two looks at its metrics.
func usage(r *Report, before, after scrape, requests int64) {
	delta := func(name string) float64 { return after[name] - before[name] }
	if requests <= 0 || before == nil || after == nil {
		return
	}
	r.add("engine.allocations", perCall, delta("go_memstats_mallocs_total")/float64(requests))
	r.add("engine.allocated", byteCount, delta("go_memstats_alloc_bytes_total"))
	if cpu := delta("process_cpu_seconds_total"); cpu > 0 {
		r.add("engine.cpu", seconds, cpu)
		r.add("engine.cpu_per_request", seconds, cpu/float64(requests))
	}
	lookups, hits := 0.0, 0.0
	for name := range after {
		if strings.HasPrefix(name, "vigil_cache_lookups_total{") {
			lookups += delta(name)
			if strings.Contains(name, `"hit"`) {
				hits = delta(name)
			}
		}
	}
	if lookups > 0 {
		r.add("engine.cache_hits", ratio, hits/lookups)
	}
	r.add("engine.cache_mismatches", count, delta("vigil_cache_mismatches_total"))
	r.add("engine.gc_pauses", seconds, delta("go_gc_duration_seconds_sum"))
	r.add("engine.resident", byteCount, after["process_resident_memory_bytes"])
}

// progress prints a line every few seconds until stop is called.
func progress(log io.Writer, quiet bool, line func(elapsed time.Duration) string) (stop func()) {
	if quiet {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		begin := time.Now()
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				elapsed := time.Since(begin)
				fmt.Fprintf(log, "%6s  %s\n", elapsed.Round(time.Second), line(elapsed))
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
