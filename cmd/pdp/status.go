package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"vigil/server/control"
)

type statusCmd struct {
	connection
	format
}

func (c *statusCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	var s control.StatusResponse
	raw, err := cl.get(ctx, "/v1/status", &s)
	if err != nil {
		return err
	}
	if c.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(raw)))
	} else {
		a.printStatus(&s)
	}
	if !s.Ready {
		return silent(exitDeny)
	}
	return nil
}

func (a *app) printStatus(s *control.StatusResponse) {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY: " + strings.Join(s.NotReady, "; ")
	}
	rows := [][]string{{"engine", ready + ", up " + (time.Duration(s.Uptime) * time.Second).String() + ", " + s.Version}}
	for _, d := range s.Degraded {
		rows = append(rows, []string{"degraded", d})
	}
	reload := "loaded " + s.Rules.LoadedAt
	if !s.Rules.Reload.OK {
		reload += "; the last load FAILED at " + s.Rules.Reload.At + ": " + firstLine([]byte(s.Rules.Reload.Error))
	}
	if s.Rules.Reload.LastGood {
		reload += "; these are the LAST GOOD rules, for the folder's are broken"
	}
	rows = append(rows, []string{"rules", fmt.Sprintf("%d, %s, %s", s.Rules.Count, shortDigest(s.Rules.Digest), reload)})
	feed := fmt.Sprintf("%s %s, as of %s, age %s, %s", s.Feed.Kind, s.Feed.Log[:min(8, len(s.Feed.Log))], s.Feed.AsOf,
		time.Duration(s.Feed.Age*float64(time.Second)).Round(time.Millisecond), s.Feed.Health)
	if s.Feed.Broken != "" {
		feed += ", BROKEN: " + s.Feed.Broken
	}
	rows = append(rows, []string{"signals", feed}, []string{"entities", counts(s.Posture.Entities)}, []string{"cache", s.Cache.Mode + "; " + counts(s.Cache.Lookups)})
	if s.Cache.Mismatches > 0 {
		rows = append(rows, []string{"cache", fmt.Sprintf("%d MISMATCHES: a cached decision differed from a fresh one", s.Cache.Mismatches)})
	}
	if s.Clock.Error != "" || s.Clock.Ahead > 1 {
		rows = append(rows, []string{"clock", fmt.Sprintf("%.1f s ahead of the wall clock %s", s.Clock.Ahead, s.Clock.Error)})
	}
	table(a.stdout, rows)
}

// counts prints numbers by name, in the order of the names.
func counts[N int | uint64](m map[string]N) string {
	var parts []string
	for name, n := range m {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	slices.SortFunc(parts, func(a, b string) int {
		return strings.Compare(a[strings.IndexByte(a, ' '):], b[strings.IndexByte(b, ' '):])
	})
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// pairsText prints name=value pairs in the order of the names.
func pairsText(m map[string]string) string {
	var parts []string
	for name, value := range m {
		parts = append(parts, name+"="+value)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
