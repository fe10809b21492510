// Package signals is the vocabulary of risk signals and their way into posture: strict
// decoding, the authority of sources, the log that makes them durable, and the applier
// that joins them into posture before they are acknowledged.
//
// The order never changes: durable in the log, then applied to posture, then the as-of
// position published, then acknowledged.
package signals
