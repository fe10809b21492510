package control

import (
	"encoding/hex"
	"maps"
	"net/http"
	"strconv"

	"vigil/authz"
	"vigil/engine"
)

// getStatus says how this replica is doing. It answers before the house is furnished, too.
func (s *Server) getStatus(c *call) error {
	query, err := parameters(c.r, "digest")
	if err != nil {
		return err
	}
	withDigest := false
	if v, ok := query["digest"]; ok {
		if withDigest, err = strconv.ParseBool(v); err != nil {
			return badParameter("digest", "want 1 or 0")
		}
	}
	now := s.cfg.Now()
	ready, counts := s.cfg.Ready(), s.cfg.Decisions()
	out := &StatusResponse{
		Version: s.cfg.Build.Version, Revision: s.cfg.Build.Revision, GoVersion: s.cfg.Build.GoVersion,
		StartedAt: s.started.String(), Uptime: float64(now-s.started) / 1e9, Now: now.String(),
		Ready: ready.Ready, NotReady: ready.Reasons, Degraded: ready.Degraded,
		Clock: s.cfg.Clock(), Decisions: byEffect(counts), Recent: RecentStatus{LogDropped: counts.LogDropped},
		Feed:    FeedStatus{Health: "starting"},
		Posture: PostureStatus{Entities: map[string]int{}, Held: map[string]int{}},
		Cache:   CacheStatus{Lookups: map[string]uint64{}},
	}
	if parts := s.parts.Load(); parts != nil {
		out.Rules = rulesStatus(parts.Rules.State())
		out.Feed = feedStatus(parts, now)
		out.Sources = sourcesStatus(parts, now, c.client.Caller.Tenants)
		out.Posture.Entities = byKind(parts.Posture.Len())
		out.Posture.Held = byKind(parts.Posture.Held())
		out.Cache = cacheStatus(parts)
		out.Recent.Remembered, out.Recent.Dropped = parts.Recent.Remembered(), parts.Recent.Dropped()
		if withDigest {
			if !s.lists.enter(c.r.Context()) {
				return busy("posture is being walked")
			}
			digest := s.digest(parts.Posture, now)
			out.Posture.Digest, out.Posture.DigestAt = hex.EncodeToString(digest[:]), now.String()
		}
	}
	return c.respond(http.StatusOK, out)
}

// digest walks posture and leaves its place, also where the walk meets a defect.
func (s *Server) digest(p Posture, now authz.Instant) [32]byte {
	defer s.lists.leave()
	return p.Digest(now)
}

func rulesStatus(state RulesState) RulesStatus {
	out := RulesStatus{Digest: digestOf(state), LoadedAt: state.Loaded.String(), Reload: reloadOf(state)}
	if state.Bundle != nil {
		out.Count = len(state.Bundle.Rules)
	}
	return out
}

func feedStatus(parts *Parts, now authz.Instant) FeedStatus {
	f := parts.Feed
	progress := f.Progress()
	out := FeedStatus{
		Kind: f.Kind(), Log: hex.EncodeToString(progress.Log[:]), AsOf: progress.AsOf,
		Positions: map[string]int64{}, DeadLetters: progress.DeadLetters, CaughtUp: progress.CaughtUp, Age: f.Age(now).Seconds(),
		LastAt: progress.Last.String(), Health: "ok",
	}
	for partition, offset := range progress.Applied {
		out.Positions[f.PartitionName(partition)] = offset
	}
	if parts.Kafka != nil {
		out.Lag = parts.Kafka().Lag
		maps.DeleteFunc(out.Lag, func(_ string, n int64) bool { return n == 0 })
	}
	if parts.Spool != nil {
		out.Spool = spoolStatus(parts.Spool())
	}
	if progress.Err != nil {
		out.Broken = progress.Err.Error()
	}
	if err := f.Health(); err != nil {
		out.Health = err.Error()
	}
	return out
}

func spoolStatus(s SpoolCounts) *SpoolStatus {
	out := &SpoolStatus{
		Waiting: s.Waiting, WaitingBytes: s.WaitingBytes, Forwarded: s.Forwarded, LastError: s.LastError, Health: "ok",
	}
	if s.Oldest != 0 {
		out.Oldest = s.Oldest.String()
	}
	if s.Health != nil {
		out.Health = s.Health.Error()
	}
	return out
}

var cacheModes = map[engine.CacheMode]string{
	engine.CacheOn: "on", engine.CacheOff: "off", engine.CacheVerify: "verify",
}

func cacheStatus(p *Parts) CacheStatus {
	stats := p.Engine.Stats()
	out := CacheStatus{Mode: cacheModes[p.CacheMode], Lookups: map[string]uint64{}, Mismatches: stats.Mismatch}
	for i, n := range stats.Lookups {
		out.Lookups[authz.Lookup(i).String()] = n
	}
	return out
}

func byEffect(counts DecisionCounts) map[string]uint64 {
	out := map[string]uint64{}
	for label, n := range counts.Decisions {
		out[label.Effect.String()] += n
	}
	return out
}

func byKind(counts [authz.NumKinds]int) map[string]int {
	out := map[string]int{}
	for _, kind := range authz.Kinds() {
		if counts[kind] > 0 {
			out[kind.String()] = counts[kind]
		}
	}
	return out
}
