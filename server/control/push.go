package control

import (
	"context"
	"net/http"

	"vigil/authz"
	"vigil/posture"
	"vigil/server/credential"
	"vigil/signals"
)

// pushSignals takes one signal or a batch. It answers 200 only when all of it is durable
// and in force here.
func (s *Server) pushSignals(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	body, release, err := s.receiveSignals(c)
	if err != nil {
		return err
	}
	defer release()
	if !s.pushes.enter(c.r.Context()) {
		return busy(signals.ErrOverloaded.Error())
	}
	receipt, err := s.push(c, body)
	if err != nil {
		return ofPush(err)
	}
	now := s.cfg.Now()
	answer := SignalsResponse{Results: make([]SignalResult, len(receipt.Results)), AsOf: receipt.AsOf, Spooled: receipt.Spooled}
	var strangers []*SignalEntity
	var keys []authz.Key
	for i, result := range receipt.Results {
		out := SignalResult{
			ID: result.ID, Outcome: result.Outcome.String(), Tenant: result.Tenant, Detail: result.Detail,
			Entities: make([]SignalEntity, len(result.Entities)),
		}
		for j, e := range result.Entities {
			out.Entities[j] = signalEntity(e, now)
			if e.Key.Kind == authz.KindSource {
				knowSource(c.parts, e.Key, now, &out.Entities[j], c.client.May(credential.Read))
			} else if !out.Entities[j].Known {
				strangers = append(strangers, &out.Entities[j])
				keys = append(keys, e.Key)
			}
		}
		answer.Results[i] = out
	}
	if len(strangers) > 0 && c.client.May(credential.Read) {
		s.suggest(c.parts.Posture, strangers, keys)
	}
	return c.respond(http.StatusOK, &answer)
}

func (s *Server) push(c *call, body []byte) (signals.Receipt, error) {
	defer s.pushes.leave()
	ctx, cancel := context.WithTimeout(c.r.Context(), s.cfg.Limits.PushTime)
	defer cancel()
	return c.parts.Intake.Push(ctx, c.client.Sender, body)
}

func signalEntity(r posture.Result, now authz.Instant) SignalEntity {
	effective := r.Record.At(now)
	return SignalEntity{
		Ref: r.Key.Ref().String(), Outcome: r.Outcome.String(),
		Known:  r.Known || r.Key.Kind == authz.KindEverything, // there is no slip in that name
		Status: effective.Status.String(), Holds: holds(effective),
	}
}
