package engine

import (
	"slices"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// inquiry is one request on its way to a decision. It is used by one goroutine, and
// reused; what outlives it is copied.
type inquiry struct {
	basis     *basis
	caller    *authz.Caller
	request   *authz.Request
	principal *authz.Principal
	plan      *rules.Plan // nil where the action is not declared
	key       []byte
	lookups   *lookups // where it counts, all its life

	// What gather fills. touched[i] is the i-th entity that the request touches, in
	// the order of touch; view holds their records in the same order.
	view     posture.View
	recorded []*posture.Record // where not nil, what read reads instead of the store
	touched  []touched
	agent    int // index into touched; -1 where the request names none
	// needs are what the profile needs at now, touched last and in this order; heard is
	// when each of them was heard, as read has it and then settle. Both are empty where no
	// profile of the set needs any.
	needs     []rules.Need
	heard     []authz.Instant
	rehearing []authz.Instant // where not nil, what heard is in a replay
	now       authz.Instant
	feedAge   time.Duration
	// What settle finds while it looks at every touched entity anyway: that posture
	// withdraws nothing from any of them, which most requests meet, and when time alone
	// may change what it says of one.
	unrestricted bool
	until        authz.Instant

	// What judging fills.
	class     string
	profile   *rules.Profile
	frame     rules.Frame
	unknown   [authz.NumKinds]authz.Standing // for entities without a record; only their ids are ever set
	cacheable bool
}

// touched is an entity that a request touches: it is judged by what posture says of it.
type touched struct {
	ref      authz.Ref
	issuedAt authz.Instant // of what vouches for it in this request; 0 where not stated
	record   *posture.Record
	effect   *posture.Effective // at inquiry.now
}

func (e *Engine) inquire(b *basis, caller *authz.Caller, req *authz.Request, p *authz.Principal) *inquiry {
	q := e.inquiries.Get().(*inquiry)
	q.basis, q.caller, q.request, q.principal = b, caller, req, p
	q.plan = b.rules.Plan(req.Action.Name, req.Resource.Type, req.Resource.ID)
	q.key = q.key[:0]
	return q
}

// release lets go of the request. The records that q was judged by stay with it until its
// next use: the pool lets go of an inquiry that has none.
func (e *Engine) release(q *inquiry) {
	q.recorded, q.rehearing, q.needs = nil, nil, nil
	q.basis, q.caller, q.request, q.principal, q.plan, q.profile = nil, nil, nil, nil, nil, nil
	q.frame.Request = nil
	e.inquiries.Put(q)
}

// gather reads the records of every entity that q touches, and now, such that all of
// them were in force at now: read the records, read now, look at every record again.
// It tries three times, then asks the store to stand still for a moment.
//
// The first try reads by the now of whatever q was used for last. It decides only which
// software and sources are looked for, and settle says no where those are others at the
// true now.
func (q *inquiry) gather(clock func() authz.Instant) {
	for range 3 {
		if q.read(); q.settle(clock()) && q.view.Confirm() {
			return
		}
	}
	q.basis.posture.Exclusive(func() {
		q.now = clock()
		q.read()
		q.settle(q.now)
	})
}

// read reads the record of every touched entity at the present q.now.
func (q *inquiry) read() {
	p := q.principal
	q.view.Reset(q.basis.posture)
	q.touched = q.touched[:0]
	q.agent = -1

	q.touch(authz.KindEverything, "", p.IssuedAt)
	q.touch(authz.KindTenant, p.Tenant, p.IssuedAt)
	if p.Agent != "" {
		q.agent = len(q.touched)
		q.touch(authz.KindAgent, p.Agent, p.IssuedAt)
	}
	for _, actor := range p.Actors {
		q.touch(authz.KindAgent, actor, p.IssuedAt)
	}
	instance := q.touch(authz.KindInstance, p.Instance, p.IssuedAt)
	q.touch(authz.KindUser, p.User, p.IssuedAt)
	q.touch(authz.KindSession, p.Session, p.IssuedAt)
	q.touch(authz.KindToken, p.Token, p.IssuedAt)
	for i := range p.Grants {
		q.touch(authz.KindGrant, p.Grants[i].ID, p.Grants[i].IssuedAt)
	}
	q.touch(authz.KindTool, p.Tool, p.IssuedAt)

	code, model := q.software(instance, func(t *touched) *posture.Effective { return t.record.At(q.now) })
	q.touch(authz.KindCode, code, p.IssuedAt)
	q.touch(authz.KindModel, model, p.IssuedAt)

	if len(q.basis.rules.Required()) > 0 {
		q.needs = q.needed(func(t *touched) *posture.Effective { return t.record.At(q.now) })
		q.heard = q.heard[:0]
		for i := range q.needs {
			q.touch(authz.KindSource, q.needs[i].Source, 0)
			q.heard = append(q.heard, q.lastHeard(i))
		}
	}
}

// touch reads the record of an entity, unless id is empty and the kind needs one. It
// gives the entity's index in q.touched, or -1.
func (q *inquiry) touch(kind authz.Kind, id string, issuedAt authz.Instant) int {
	if id == "" && kind != authz.KindEverything {
		return -1
	}
	ref := authz.Ref{Kind: kind, ID: id}
	n := len(q.touched)
	var record *posture.Record
	switch {
	case q.recorded == nil:
		record = q.view.Read(ref.In(q.principal.Tenant))
	case n < len(q.recorded):
		record = q.recorded[n]
	}
	q.touched = slices.Grow(q.touched, 1)[:n+1]
	t := &q.touched[n] // written in place: settle replaces the effect that an earlier use left there
	t.ref, t.issuedAt, t.record = ref, issuedAt, record
	return n
}

// software is the code and the model that the agent is bound to by its registration;
// an instance's own registration is more exact than its agent's.
func (q *inquiry) software(instance int, effect func(*touched) *posture.Effective) (code, model string) {
	for _, i := range [...]int{instance, q.agent} {
		if i < 0 {
			continue
		}
		said := effect(&q.touched[i])
		if code == "" {
			code = said.Code
		}
		if model == "" {
			model = said.Model
		}
	}
	return code, model
}

// needed gives what the profile needs that this request is judged by.
func (q *inquiry) needed(effect func(*touched) *posture.Effective) []rules.Need {
	var profile *rules.Profile
	switch set := q.basis.rules; {
	case q.agent < 0:
		profile = set.Agentless(q.request.Subject.Type)
	case effect(&q.touched[q.agent]).Registered:
		profile = set.Profile(effect(&q.touched[q.agent]).Class)
	default:
		profile = set.Profile(unregistered)
	}
	if profile == nil {
		return nil // a gate stops it
	}
	return profile.Needs
}

// settle makes now the instant of the decision. It reports false where the agent's
// software, or what its profile needs, is another one at now than at the q.now that read
// went by, or where a source that was silent then has been heard since, or the reverse.
func (q *inquiry) settle(now authz.Instant) bool {
	instance, codes, models := -1, "", ""
	q.unrestricted, q.until = true, authz.Forever
	for i := range q.touched {
		t := &q.touched[i]
		t.effect = t.record.At(now)
		q.until = min(q.until, t.effect.Until)
		if e := t.effect; e.Status != authz.Active || e.Cutoff != 0 || e.Narrowed || len(e.ApprovalFor) > 0 {
			q.unrestricted = false
		}
		switch t.ref.Kind {
		case authz.KindInstance:
			instance = i
		case authz.KindCode:
			codes = t.ref.ID
		case authz.KindModel:
			models = t.ref.ID
		}
	}
	q.now = now
	effect := func(t *touched) *posture.Effective { return t.effect }
	code, model := q.software(instance, effect)
	if len(q.basis.rules.Required()) > 0 && !q.hear(q.needed(effect)) {
		return false
	}
	return code == codes && model == models
}

// hear finds out when what the profile needs was heard, and so does read, before now. Who
// is alive by both was alive at now; who is by one alone may have been heard after it, and
// of two requests of a batch only the later one would know. hear reports false there, and
// where those are not the needs that were read.
func (q *inquiry) hear(needs []rules.Need) bool {
	if len(needs) != len(q.needs) || len(needs) > 0 && &needs[0] != &q.needs[0] {
		return false
	}
	same := true
	for i := range needs {
		before := q.alive(i)
		q.heard[i] = q.lastHeard(i)
		same = same && q.alive(i) == before
	}
	return same
}

// lastHeard looks up when the i-th source was heard last.
func (q *inquiry) lastHeard(i int) authz.Instant {
	switch {
	case q.rehearing == nil:
		return q.basis.posture.Heard(q.needs[i].Source)
	case i < len(q.rehearing):
		return q.rehearing[i]
	}
	return 0
}

// expired reports whether anything that the request carries has ended at now.
func (q *inquiry) expired(now authz.Instant) bool {
	ends := q.principal.Ends()
	return ends != 0 && now >= ends
}
