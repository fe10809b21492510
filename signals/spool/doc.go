// Package spool takes signals that only withdraw while the log of all replicas cannot be
// written: durable on this machine, in force on this replica at once, and sent to the log
// when it can be written again.
//
// # What it holds
//
//   - Append returns without an error only after the records were synced. The applier then
//     joins them into posture, and only then are they acknowledged: durable, applied,
//     acknowledged, as everywhere.
//   - Every record reaches the log with the very same bytes, in the order in which it was
//     taken, at least once. Posture is a join of facts, and nothing is taken that would make
//     other facts when it is appended later (signals.Intake sees to that), so a replica that
//     has only the copy in the log has the same posture, and the second copy changes nothing.
//   - How far it has come is written down after the log has the records. A crash in between
//     sends them again.
//   - What is not yet in the log is applied again at the start, before Applied is closed.
//     Nobody may decide before: the newest snapshot need not have it.
//   - It is bounded. Beyond 65,536 records or 64 MiB that wait it takes nothing.
//
// What it does not hold: the other replicas know nothing of the records until the log has
// them, and nobody does if this machine's disk is lost before. Should the brokers' clock be
// more than MaxAhead behind this one when the log takes a risk at last, that is refused
// there, as any push would be.
//
// # Who runs what
//
// Run owns two goroutines. One follows the spool's own log and applies; it is the one
// follower which that log may have, so it also hands each record over, in memory, to the
// other, which forwards. The lock guards what waits between them; nothing is called with it
// held.
package spool
