package control

import (
	"context"
	"testing"

	"vigil/signals"
)

// TestAPositionIsConfirmedOnlyWhereItIsInForce: who is told yes may count on it.
func TestAPositionIsConfirmedOnlyWhereItIsInForce(t *testing.T) {
	w := newWorld(t)
	acknowledged := w.push(soarToken, signal("quarantine", "agent:a", "")).AsOf
	ctx := t.Context()
	ask := func(position, token string) *reply {
		r := w.request("GET", "/v1/position", token, "").WithContext(ctx)
		if position != "" {
			r.Header.Set("Vigil-At-Least", position)
		}
		return w.send(r)
	}
	// Any client may ask, also one that can read nothing.
	for _, token := range []string{soarToken, gateToken, umaToken} {
		var got PositionResponse
		ask(acknowledged, token).want(200).into(&got)
		if got.AsOf != acknowledged {
			t.Errorf("%q, want %q", got.AsOf, acknowledged)
		}
	}
	ask("", soarToken).want(200)
	ask(acknowledged, "").wantProblem(401, CodeUnauthenticated)
	ask("rubbish", soarToken).wantProblem(400, CodeBadAsOf)

	// Neither what it has not come to, nor a position of another log.
	log, at, err := signals.ParseAsOf(acknowledged)
	if err != nil {
		t.Fatal(err)
	}
	at[0]++
	gone, leave := context.WithCancel(t.Context())
	leave() // or it would wait for what never comes
	ctx = gone
	ask(signals.FormatAsOf(log, at), soarToken).wantProblem(503, CodeNotReached)
	log[0]++
	ask(signals.FormatAsOf(log, at), soarToken).wantProblem(409, CodeOtherLog)
}
