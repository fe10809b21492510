// Package signals is the vocabulary of risk signals and their way into posture: strict
// decoding, the authority of sources, the log that makes them durable, and the applier
// that joins them into posture before they are acknowledged.
//
// The order never changes: durable in the log, then applied to posture, then the as-of
// position published, then acknowledged.
//
// # A signal
//
// A signal is a JSON object; a batch is an array of 1 to 1000 of them with distinct ids.
// Every signal has the members
//
//	v         1
//	id        names the signal among those of its source, 1 to 1024 bytes
//	type      what it says, see below
//	entities  1 to 64 of what it is about, as "kind:id", or "everything"
//	time      when it happened, RFC 3339
//
// and may have
//
//	tenant    a tenant that the credential has, to repeat it; else its first
//	expires   when it ends by itself, RFC 3339, after time; without it, it does not end
//	actor, reason, ticket   for people, up to 1024 bytes each
//
// v, id, type, tenant, entities and time are the envelope: every version of Vigil can
// read them of every signal. The types, with the members that only they have:
//
//	register          states the whole registration, replacing the one before: class, and
//	                  optionally labels (name to text), scopes, code, model (digests).
//	                  Not of a tenant, nor of everything.
//	attest            result: "pass" or "fail". A pass may expire, a fail may not. Not of
//	                  a tenant, nor of everything.
//	risk              risk: an integer from 0 to 100
//	quarantine        holds the entities
//	release           ends one's own quarantine
//	narrow            scopes: what is left of the scopes; [] leaves none
//	require_approval  actions: those that need approval; absent, [] or with "*", all
//	taint             bars the entities from what rules bar the tainted from
//	revoke            plainly: for good, of agents, instances, sessions, tokens, grants,
//	                  code and models. With issued_before: of any kind, what was issued
//	                  until then. A user, a tool, a tenant and everything live on, so a
//	                  plain revoke of one is refused.
//	decommission      for good: the end of its life. Not of everything.
//	lift              lifts: {type, source, id} names the signal that stated a taint, a
//	                  require_approval, a narrow or a waive, or one that was unreadable.
//	                  That statement ends for good, also if it comes later. Without source
//	                  it is one's own.
//	waive             an exception, named by its id: that the sources are silent stops
//	                  nobody in the tenant. Only of sources; reason and expires are
//	                  required, and it ends at most 7 days (MaxWaiver) after its time.
//	heartbeat         the sender is there and has nothing to report. Of one source, the
//	                  sender's own.
//
// Only a waive, its lift and a heartbeat are about sources, and the lift of what was unreadable.
//
// A revoke, a decommission, a lift and a heartbeat never end, and have no expires. Of register,
// attest, risk, quarantine and release the newest one of a source speaks; it is its line.
// Taints, approvals, narrowings and
// waivers all stand. Undoing is a newer signal in the first
// case and a lift in the second.
//
// Whoever may overrule (Authority.Overrule) can speak in another source's line: a
// register, attest, risk, quarantine or release with the member source, as
// "client:soar", about one entity of which that source has spoken. It is dated just
// after the newest that the line says there when it is accepted, so it overrules what
// is known and nothing that source says later. What the line dates more than 5 s after
// the signal itself is not known: so one that is sent again, long after, overrules
// nothing anew. Several in one batch are dated in the order of their times. A lift names
// another source in lifts.
//
// A number without a fraction is an integer however it is written: 50, 50.0, 5e1. A
// member that is null is an error: leave it out.
//
// # Time
//
// An event may be dated up to 5 s (MaxAhead) after the log took it; clocks differ.
// Beyond that a signal that can permit something (release, lift, waive, a passed attest,
// register, risk) is refused, and any other counts from 5 s after. issued_before is
// refused from 5 s ahead on, and what is ahead by less counts as now.
//
// # Silence
//
// Every record that is applied, whatever it says, shows that its source is alive, as of the
// time at which the log took it, and no later than this replica learned of it
// (posture.Store.Hear): a duplicate and one that could not be read do, a dead letter does
// not. An issuer is alive as of the time that its events state, which are signed: one that
// was caught and is sent again shows nothing new. Rules may demand that a source is heard at
// least so often. A heartbeat says nothing else, and no authority is needed to send one's
// own; those that a client sends to one replica within 100 ms share a record (Intake.Push).
//
// # From the log
//
// What is refused at the door never reaches the log. But another version of Vigil may
// have written there. A record whose envelope can be read and the rest cannot puts an
// unreadable signal on those of its entities that its source could have quarantined, as
// was found when it was accepted: it may have been a revocation. Anything else that
// cannot be applied is a dead letter, which is counted, logged, kept for a while
// (Applier.DeadLetters) and told to ApplierConfig.DeadLetter (package signals/deadletter
// writes it down). Neither stops the feed.
//
// # Inputs
//
// An input is a topic that others than replicas write: each record is one signal, the same
// strict JSON as over HTTP or what its log made of the record (Entry), and its source is the
// topic (topic:NAME). Nobody has judged
// it when it comes, so each replica does, by the code that judges a push, under the
// grant that covers the time at which the log took the record. The answer depends on the
// record, that time and the input's configuration alone, so that replicas agree: an
// input is never limited to classes and never overrules, for both would depend on what
// the replica knows just then, and a class is not looked up in the rules. What may not
// be said is a dead letter with the reason, as is what no grant covers. What cannot be
// read is held as above, on the entities that the input may quarantine, with the types
// and kinds that it may speak of: a version that can read it judges it by these. Of what
// it cannot read a version still refuses what every version would: a tenant, a type or
// a kind that it knows and that the input was not granted.
//
// # While the log is away
//
// A log of several machines may be out of reach, or its feed broken. Signals that only
// withdraw (see Intake.Push) then go to a spool (package signals/spool), where there is
// one: durable on this machine, applied here, acknowledged with Receipt.Spooled, and
// forwarded later with the same bytes. They have no place in the log until then, so
// the as-of position does not cover them. They are dated no later than they were taken,
// so the copy in the log makes the same facts, and applying both is applying one.
package signals
