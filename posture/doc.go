// Package posture holds what is known of every entity as a join of facts.
//
// A Fact is one statement about one facet of one entity. A Record is all facts of
// one entity; it is immutable and replaced whole. Applying facts is commutative,
// associative and idempotent, so order, duplicates and the interleaving of replicas
// do not matter. Time orders facts; force begins when they are applied.
//
// The package reads no clock and does no I/O: every now is an argument.
//
// # How facts join
//
//	facet                    within a source            across sources           ends by
//	registration             the newest of all speaks, and stays when expired    a newer one
//	hold                     newest unexpired speaks    held while any holds     expiry, a newer fact
//	risk                     newest unexpired speaks    the maximum              expiry, a newer fact
//	attestation              newest speaks              fail if any fails        a newer one; a pass also by expiry
//	taint, approval, narrow  all stand                  union; scopes intersect  expiry, a lift
//	waive                    all stand                  waived while any stands  expiry, a lift
//	revoke, decommission     stand                      stand                    nothing
//	issued before            the maximum                the maximum              nothing
//	unreadable signal        all stand                  all stand                a lift
//	lift                     kills what it names for good, also if it comes first
//
// A newer fact makes an older one of its source and facet redundant only if it lasts at
// least as long. Of two facts of the same time the more restrictive is the newer, then
// the one with the larger content hash. Facets that nothing ends pay no heed to Until.
// What a record keeps is bounded; see fold.go for what happens beyond.
//
// Beside the records a Store keeps when each source was heard last, a maximum and so a
// join, too, and how much of that counts here, which is no later than the store learned of
// it; see Store.Hear.
//
// # Who may do what when
//
// Writers (Apply, Prune) take the store's one lock. Readers take none: they load a
// table, a cell in it, and the record in the cell, each an atomic pointer to something
// immutable. Store says how readers learn of births and deaths, commit how several
// records come into force at once, View and Stamp how a reader knows that what it read
// was in force at one instant and still is.
package posture
