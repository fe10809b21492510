// Package control serves the control port on net/http: what people, SOC tools and
// orchestrators call.
//
// Every request goes through the same doors in the same order (see Server.serve): the
// host and origin it came by, its route, its credential and scope, and whether the rooms
// behind the port are attached yet. What a client reads is filtered by its tenants.
//
// Everything is bounded: connections, headers, bodies and the time they take, and each
// kind of slow work by a turnstile of its own, so that a list of all entities, a
// snapshot or a profile can keep out its like and nothing else. Nothing here is on the
// way of a decision.
//
// An answer to a push says above all whether anything was written: what is not known to
// have been refused is answered as an unknown outcome, never as a no.
//
// The package starts no goroutine of its own beside those of net/http, which Shutdown ends.
package control
