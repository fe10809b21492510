// Package posture holds what is known of every entity as a join of facts.
//
// A Fact is one statement about one facet of one entity. A Record is all facts of
// one entity; it is immutable and replaced whole. Applying facts is commutative,
// associative and idempotent, so order, duplicates and the interleaving of replicas
// do not matter. Time orders facts; force begins when they are applied.
//
// The package reads no clock and does no I/O: every now is an argument.
package posture
