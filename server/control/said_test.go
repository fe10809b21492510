package control

import (
	"fmt"
	"testing"
)

// TestSignalIsFoundByItsIdOverAllItsEntities, and only by who may see them.
func TestSignalIsFoundByItsIdOverAllItsEntities(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, `{"v":1,"id":"INC/7","type":"taint","entities":["session:s","agent:a"],"time":"2026-11-23T08:00:00Z"}`)
	w.push(soarToken, `{"v":1,"id":"7","type":"taint","entities":["agent:a"],"time":"2026-11-23T08:00:00Z"}`)
	w.push(umaToken, `{"v":1,"id":"INC/7","type":"risk","entities":["agent:a"],"time":"2026-11-23T08:00:00Z","risk":3}`)
	find := func(token, id string) string {
		var got SignalFactsResponse
		w.get("/v1/signals/"+id, token).want(200).into(&got)
		out := ""
		for _, f := range got.Facts {
			out += fmt.Sprint(f.Tenant, " ", f.Ref, " ", f.Fact.Type, " ", f.Fact.Source, "; ")
		}
		return out
	}
	if got := find(kimToken, "INC%2F7"); got != "default agent:a taint client:soar; default session:s taint client:soar; " {
		t.Errorf("got %s", got)
	}
	if got := find(kimToken, "7"); got != "default agent:a taint client:soar; " {
		t.Errorf("an id that ends another: %s", got)
	}
	if got := find(umaToken, "INC%2F7"); got != "other agent:a risk client:uma; " {
		t.Errorf("of another tenant: %s", got)
	}
	if got := find(kimToken, "nothing"); got != "" {
		t.Errorf("got %s", got)
	}
	w.get("/v1/signals/x?tenant=other", kimToken).wantProblem(403, CodeForbiddenTenant)
	w.get("/v1/signals/", kimToken).wantProblem(400, CodeBadReference)
}
