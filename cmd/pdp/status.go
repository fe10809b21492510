package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vigil/server/control"
)

type statusCmd struct {
	Digest bool `help:"Also the digest of the posture, which replicas that have applied the same have in common. It reads all of it."`
	connection
	format
}

func (c *statusCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	var s control.StatusResponse
	path := "/v1/status"
	if c.Digest {
		path += "?digest=1"
	}
	raw, err := cl.get(ctx, path, &s)
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
	rows = append(rows, []string{"signals", feed})
	if len(s.Feed.Positions) > 0 {
		rows = append(rows, []string{"positions", positionsText(s.Feed.Positions, s.Feed.Lag)})
	}
	if s.Feed.DeadLetters > 0 {
		rows = append(rows, []string{"dead letters", fmt.Sprintf("%d since the start", s.Feed.DeadLetters)})
	}
	if s.Feed.Spool != nil {
		rows = append(rows, []string{"spool", spoolText(s.Feed.Spool)})
	}
	for i := range s.Sources {
		rows = append(rows, []string{"source", sourceText(&s.Sources[i])})
	}
	if s.Posture.Digest != "" {
		rows = append(rows, []string{"posture", s.Posture.Digest + " at " + s.Posture.DigestAt})
	}
	rows = append(rows, []string{"entities", counts(s.Posture.Entities)}, []string{"cache", s.Cache.Mode + "; " + counts(s.Cache.Lookups)})
	if s.Cache.Mismatches > 0 {
		rows = append(rows, []string{"cache", fmt.Sprintf("%d MISMATCHES: a cached decision differed from a fresh one", s.Cache.Mismatches)})
	}
	if s.Clock.Error != "" || s.Clock.Ahead > 1 {
		rows = append(rows, []string{"clock", fmt.Sprintf("%.1f s ahead of the wall clock %s", s.Clock.Ahead, s.Clock.Error)})
	}
	table(a.stdout, rows)
}

// mostPositions is how many partitions are printed one by one.
const mostPositions = 16

// positionsText prints the next offset of each partition, with what is known to be after it.
func positionsText(at, lag map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(at)) {
		text := fmt.Sprintf("%s at %d", printable(name), at[name])
		if lag[name] > 0 {
			text += fmt.Sprintf(" (%d behind)", lag[name])
		}
		if parts = append(parts, text); len(parts) == mostPositions && len(at) > mostPositions {
			parts = append(parts, fmt.Sprintf("and %d more", len(at)-mostPositions))
			break
		}
	}
	return strings.Join(parts, ", ")
}

func spoolText(s *control.SpoolStatus) string {
	text := fmt.Sprintf("%d waiting, %d forwarded", s.Waiting, s.Forwarded)
	if s.Waiting > 0 {
		text = fmt.Sprintf("%d WAITING since %s: in force on this replica alone; %d forwarded", s.Waiting, s.Oldest, s.Forwarded)
	}
	if s.LastError != "" {
		text += "; " + printable(s.LastError)
	}
	if s.Health != "ok" {
		text += "; IT TAKES NOTHING: " + printable(s.Health)
	}
	return text
}

// sourceText says how a required source does, and what hangs on it.
func sourceText(s *control.SourceStatus) string {
	text := s.Source + " heard " + s.HeardAt
	switch {
	case s.HeardAt == "":
		text = s.Source + " SILENT: never heard"
	case s.Silent:
		text = s.Source + " SILENT since " + s.SilentFrom + ": heard " + s.HeardAt
	}
	text += fmt.Sprintf("; may be silent for %s", time.Duration(s.MaxSilence*float64(time.Second)))
	for _, p := range s.Profiles {
		text += "; " + p.Profile + ": " + p.OnSilence
	}
	for _, w := range s.WaivedBy {
		text += fmt.Sprintf("; WAIVED in %s by %s of %s until %s: %s", w.Tenant, w.Fact.ID, w.Fact.Source, w.Fact.Until,
			strings.TrimSpace(w.Fact.Ticket+" "+w.Fact.Reason))
	}
	return text
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
