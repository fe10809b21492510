package decision

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"vigil/authz"
	"vigil/authzen"
	"vigil/engine"
	"vigil/server/credential"
)

// evaluation answers one question.
func (s *Server) evaluation(ctx *fasthttp.RequestCtx, st *state, started time.Duration) {
	client := s.admit(ctx, st)
	if client == nil || !s.enter(ctx, st) {
		return
	}
	req, err := st.decoder.Evaluation(ctx.PostBody())
	if err != nil {
		text(ctx, fasthttp.StatusBadRequest, err.Error())
		return
	}
	if !s.available(ctx, st) {
		return
	}
	st.deciding = true
	s.cfg.Mapping.Principal(&client.Caller, req, &st.principal)
	var answer authz.Answer
	stale, ok := s.demanded(ctx, st)
	if !ok {
		return
	}
	if stale != nil {
		answer = authz.Answer{Decision: stale, At: s.cfg.Now()}
	} else {
		answer = s.cfg.Engine.Decide(&client.Caller, req, &st.principal)
	}
	if answer.Decision == nil {
		answer.Decision = faultDecision
	}
	begin(ctx)
	st.out = authzen.AppendDecision(st.out[:0], answer, st.full)
	ctx.SetBody(st.out)
	s.record(st, client, req, &st.principal, answer, started)
}

// evaluations answers a batch: every item as of one instant, in order, up to where the
// semantic ends it.
func (s *Server) evaluations(ctx *fasthttp.RequestCtx, st *state, started time.Duration) {
	client := s.admit(ctx, st)
	if client == nil || !s.enter(ctx, st) {
		return
	}
	batch, err := st.decoder.Evaluations(ctx.PostBody())
	if err != nil {
		text(ctx, fasthttp.StatusBadRequest, err.Error())
		return
	}
	st.batch = batch
	if !s.available(ctx, st) {
		return
	}
	st.deciding = true
	s.question(st, client, batch)
	stale, ok := s.demanded(ctx, st)
	if !ok {
		return
	}
	if stale != nil {
		st.answers = st.answers[:0]
		for range st.items {
			st.answers = append(st.answers, authz.Answer{Decision: stale, At: s.cfg.Now()})
			if batch.Semantic == authzen.DenyOnFirstDeny {
				break
			}
		}
	} else {
		st.answers = s.cfg.Engine.DecideBatch(&client.Caller, st.items, st.answers[:0], stops[batch.Semantic])
	}
	begin(ctx)
	st.out = s.answerBatch(st, client, batch, started)
	ctx.SetBody(st.out)
	clear(st.answers) // decisions are not kept alive by the pool
	clear(st.items)
}

// question makes the engine's items of those that lack nothing. Where the first denial
// ends the batch, so does the first item that lacks something.
func (s *Server) question(st *state, client *credential.Client, batch *authzen.Batch) {
	n := len(batch.Items)
	st.principals = slices.Grow(st.principals[:0], n)[:n]
	st.items = st.items[:0]
	for i := range batch.Items {
		item := &batch.Items[i]
		if item.Err != nil {
			if batch.Semantic == authzen.DenyOnFirstDeny {
				return
			}
			continue
		}
		p := &st.principals[len(st.items)]
		s.cfg.Mapping.Principal(&client.Caller, &item.Request, p)
		st.items = append(st.items, engine.Item{Request: &item.Request, Principal: p})
	}
}

// stops says when the engine ends a batch.
var stops = [...]func(authz.Answer) bool{
	authzen.ExecuteAll:          nil,
	authzen.DenyOnFirstDeny:     func(a authz.Answer) bool { return !allowed(a) },
	authzen.PermitOnFirstPermit: allowed,
}

func allowed(a authz.Answer) bool { return a.Decision != nil && a.Effect == authz.Allow }

// answerBatch writes the engine's answers, and those to the items that it was not asked,
// in the order of the items.
func (s *Server) answerBatch(st *state, client *credential.Client, batch *authzen.Batch, started time.Duration) []byte {
	out := st.out[:0]
	if !batch.Single {
		out = authzen.OpenBatch(out)
	}
	next := 0
	for i := range batch.Items {
		out = authzen.Separate(out, i)
		if err := batch.Items[i].Err; err != nil {
			out = authzen.AppendItemError(out, fasthttp.StatusBadRequest, err.Error())
			st.shard.decided(faultDecision)
			if batch.Semantic == authzen.DenyOnFirstDeny {
				break
			}
			continue
		}
		answer := authz.Answer{Decision: faultDecision} // an engine that answers too little denies
		if next < len(st.answers) && st.answers[next].Decision != nil {
			answer = st.answers[next]
		}
		out = authzen.AppendDecision(out, answer, st.full)
		s.record(st, client, st.items[next].Request, st.items[next].Principal, answer, started)
		next++
		if stop := stops[batch.Semantic]; stop != nil && stop(answer) {
			break
		}
	}
	if !batch.Single {
		out = authzen.CloseBatch(out)
	}
	return out
}

// enter takes one of the places for requests at work. Where there is none it answers,
// unless even that has to be a decision.
func (s *Server) enter(ctx *fasthttp.RequestCtx, st *state) bool {
	st.flying = true
	if s.inFlight.Add(1) <= int64(s.cfg.Limits.InFlight) {
		return true
	}
	st.shard.overloaded.Add(1)
	if s.cfg.Unavailable == UnavailableDeny {
		st.crowded = true
		return true // available refuses, once it is known how many answers it takes
	}
	st.shard.unavailable.Add(1)
	noDecision(ctx, "unavailable: too many requests are at work")
	return false
}

// available answers where no decision can be made.
func (s *Server) available(ctx *fasthttp.RequestCtx, st *state) bool {
	why := s.unavailable()
	if why == nil && st.crowded {
		why = errOverloaded
	}
	if why == nil {
		return true
	}
	s.refuse(ctx, st, why)
	return false
}

// refuse answers that there is no decision, as the operator wants it said.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, st *state, why error) {
	st.deciding = false
	st.shard.unavailable.Add(1)
	if s.cfg.Unavailable == UnavailableError {
		noDecision(ctx, "unavailable: "+why.Error())
		return
	}
	begin(ctx)
	answer := authz.Answer{Decision: unavailableDecision}
	if st.batch == nil || st.batch.Single {
		ctx.SetBody(authzen.AppendDecision(st.out[:0], answer, st.full))
	} else {
		ctx.SetBody(appendSame(st.out[:0], answer, st.batch, st.full))
	}
}

var (
	errOverloaded = errors.New("too many requests are at work")
	errCrowded    = errors.New("too many requests are waiting for Vigil-At-Least")
)

// demanded waits for the view that the caller demands. It returns nil when it is there,
// also where none is demanded, and a denial otherwise. Where it cannot even wait, it has
// answered and reports false.
func (s *Server) demanded(ctx *fasthttp.RequestCtx, st *state) (*authz.Decision, bool) {
	if st.headers.atLeast == nil {
		return nil, true
	}
	if s.cfg.AtLeast == nil {
		return staleDecision("this replica cannot wait for a position"), true
	}
	if s.waiting.Add(1) > int64(s.cfg.Limits.Waiting) {
		s.waiting.Add(-1)
		st.shard.overloaded.Add(1)
		s.refuse(ctx, st, errCrowded)
		return nil, false
	}
	defer s.waiting.Add(-1)
	within, cancel := context.WithTimeout(context.Background(), s.cfg.Limits.AtLeastTime)
	defer cancel()
	if err := s.cfg.AtLeast.WaitFor(within, alias(st.headers.atLeast)); err != nil {
		return staleDecision(err.Error()), true
	}
	return nil, true
}

// record counts a decision, remembers it and logs it.
func (s *Server) record(st *state, client *credential.Client, req *authz.Request, p *authz.Principal, answer authz.Answer, started time.Duration) {
	st.shard.decided(answer.Decision)
	if s.cfg.Recent == nil && s.cfg.Log == nil {
		return
	}
	if answer.Effect == authz.Allow && (s.cfg.Log == nil || !s.cfg.Log.Wants(authz.Allow)) {
		return
	}
	e := &st.event
	e.Client, e.Caller, e.Tenant = client.Name, &client.Caller, tenantOf(&client.Caller, p)
	e.RequestID, e.TraceID = alias(st.headers.requestID), alias(st.headers.traceID())
	e.Request, e.Principal, e.Answer, e.Took = req, p, answer, s.elapsed()-started
	if s.cfg.Recent != nil {
		s.cfg.Recent.Add(e)
	}
	if s.cfg.Log != nil {
		s.cfg.Log.Add(e)
	}
	e.Answer = authz.Answer{}
}

// tenantOf gives the tenant whose decision it is: never one that the caller lacks, which
// a claim may name all the same.
func tenantOf(caller *authz.Caller, p *authz.Principal) string {
	for _, t := range caller.Tenants {
		if t == p.Tenant {
			return t
		}
	}
	if len(caller.Tenants) > 0 {
		return caller.Tenants[0]
	}
	return authz.DefaultTenant
}
