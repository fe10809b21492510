package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// watching makes a world in which the rules require two sources, of which client:siem is
// silent and in the tenant default waived, and in another by another, and in a third not.
func watching(t testing.TB) *world {
	return newWorld(t, func(_ *Config, parts *Parts) {
		parts.Sources = func(now authz.Instant) []SourceState {
			waiver := func(tenant, id string) Waiver {
				return Waiver{tenant, posture.Fact{Facet: posture.Waive, Source: "client:soc", ID: id, Time: start, Until: now.Add(time.Hour), Reason: "it is being moved"}}
			}
			return []SourceState{
				{Source: "client:soar", Heard: now.Add(-time.Second), MaxSilence: time.Minute, Waived: true, Profiles: []*rules.Profile{{Name: "default"}}},
				{Source: "client:siem", MaxSilence: 5 * time.Minute, Silent: true,
					Profiles: []*rules.Profile{{Name: "default"}, {Name: "high-high", OnSilence: rules.StaleApproval}},
					Waivers:  []Waiver{waiver("default", "INC-7"), waiver("other", "INC-8")}},
			}
		}
	})
}

// TestStatusTellsOfTheRequiredSources, and of the exceptions in the tenants of the client
// alone.
func TestStatusTellsOfTheRequiredSources(t *testing.T) {
	w := watching(t)
	var s StatusResponse
	w.get("/v1/status", kimToken).want(200).into(&s)
	if len(s.Sources) != 2 {
		t.Fatalf("%+v", s.Sources)
	}
	soar, siem := s.Sources[0], s.Sources[1]
	if soar.Silent || soar.HeardAt != start.Add(-time.Second).String() || soar.SilentFrom != start.Add(59*time.Second).String() || soar.MaxSilence != 60 {
		t.Errorf("%+v", soar)
	}
	if !siem.Silent || siem.HeardAt != "" || siem.SilentFrom != "" || fmt.Sprint(siem.Profiles) != "[{default deny} {high-high approval}]" ||
		len(siem.WaivedBy) != 1 || siem.WaivedBy[0].Fact.ID != "INC-7" || siem.WaivedBy[0].Fact.Type != "waive" || siem.WaivedBy[0].Tenant != "default" {
		t.Errorf("%+v", siem)
	}
	metrics := w.get("/metrics", kimToken).want(200).body
	for _, line := range []string{
		`vigil_source_heard_timestamp_seconds{source="client:siem"} 0`,
		`vigil_source_heard_timestamp_seconds{source="client:soar"} 1.795424399e+09`,
		`vigil_source_silent{source="client:siem"} 1`, `vigil_source_silent{source="client:soar"} 0`,
		`vigil_source_waived{source="client:siem"} 0`, `vigil_source_waived{source="client:soar"} 1`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("no %s in\n%s", line, metrics)
		}
	}
}

// TestAWaiverOfAnUnknownSourceIsSaidToBe: nobody would miss what it does.
func TestAWaiverOfAnUnknownSourceIsSaidToBe(t *testing.T) {
	w := watching(t)
	waive := func(source string) SignalEntity {
		id := strings.ReplaceAll(source, ":", "-")
		body := fmt.Sprintf(`{"v":1,"id":%q,"type":"waive","entities":["source:%s"],"time":%q,"expires":%q,"reason":"r"}`,
			id, source, start, start.Add(time.Hour))
		var r SignalsResponse
		w.do("POST", "/v1/signals", soarToken, body).want(200).into(&r)
		return r.Results[0].Entities[0]
	}
	if e := waive("client:siem"); !e.Known || e.Outcome != "applied" {
		t.Errorf("%+v", e)
	}
	if e := waive("client:seim"); e.Known || len(e.Nearest) == 0 || e.Nearest[0] != "source:client:siem" {
		t.Errorf("%+v", e)
	}
	if e := waive("client:soar"); !e.Known { // required, and who sends this
		t.Errorf("%+v", e)
	}
	var entity EntityResponse
	w.get("/v1/entities/source:client:siem", kimToken).want(200).into(&entity)
	if !entity.Effective.Waived || len(entity.Effective.By) != 1 || entity.Effective.By[0].Type != "waive" {
		t.Errorf("%+v", entity.Effective)
	}
}
