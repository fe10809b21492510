package authzen

import (
	"time"

	"vigil/authz"
)

func exampleAnswer() authz.Answer {
	return authz.Answer{
		Decision: &authz.Decision{
			Effect: authz.Deny, Class: authz.ClassGate, Code: authz.EntityQuarantined,
			Entity:      authz.Ref{Kind: authz.KindAgent, ID: "invoice-agent"},
			ReasonUser:  "Not permitted.",
			ReasonAdmin: "agent:invoice-agent quarantined by soar, INC-4711",
			ValidUntil:  authz.InstantOf(time.Date(2026, 11, 23, 5, 4, 5, 0, time.UTC)),
			Bundle:      "sha256:9f2c41d0",
		},
		AsOf: "v1.kQ3x",
		At:   authz.InstantOf(time.Date(2026, 11, 23, 3, 5, 0, 123e6, time.UTC)),
	}
}
