// Package kafka is the signal log on Kafka, so that any number of replicas hold the same
// posture. It is the only importer of a Kafka library, and uses that library's wire
// protocol alone: connections, the follower of each partition, the reader of record
// batches and the writer are its own, for each has to notice what a general client
// forgives (see docs/contract.md).
//
// # Two kinds of topic
//
// The log takes what replicas append, and nobody else may write it. Inputs are topics that
// others write. A Log follows every partition of all of them: each has a number in
// positions that depends on the topic's name alone (number.go), and a place in signals'
// order only within itself.
//
// # Identity
//
// A log is the topic with its id (KIP-516): one that is deleted and made anew under the
// same name is another, and nothing of it is delivered. Of the last record that was handed
// over, offset, leader epoch and hash are kept: the mark (marks.go). It is looked up again
// before anything is delivered at a start, after an error or a pause, and in a new epoch
// (verify.go). Gaps, regressions and differences end Follow with a *PartitionError.
//
// # How fresh a view is
//
// FreshAt is an instant such that whatever was acknowledged anywhere before it has been
// delivered (freshness.go). Of each partition it takes
//
//   - a fetch, or a question for the end, that this leader answered and whose end has been
//     delivered since: it counts from when it was sent;
//   - a quorum of the partition's replicas, each asked directly, that name this leader and
//     epoch: so many that no later leader can have acknowledged anything before they were
//     asked (cluster.go, poll.go).
//
// A new leader is not believed before it has said where it ends, which brokers do only once
// they know all that was acknowledged before their time (KIP-207).
//
// # Writing
//
// An append goes to one partition of the log, with acks=all. Calls share requests, and none
// waits for others to come. What was surely not written is ErrUnavailable; what may have
// been is sent again for a while, for posture is a join, and then said to be unknown
// (writer.go, lane.go).
//
// # Topics beside the log
//
// A Consumer reads one topic whose records need somebody's judgement of the moment, such as
// whether a signature is good, before they are signals. It reads as the log is read, by the
// same followers, but each record at least once and in any order, at its own pace, and it
// goes on where the log would stop: past what retention took, and from the beginning of a
// topic that is another one (consumer.go). Up to where all were taken is a file (place.go).
// What it reads is no part of how fresh the view is.
//
// # Who runs what
//
// Open starts one goroutine for each broker that has a copy of a partition, one that looks
// for the cluster while none answers, and one for each partition of the log that writes;
// Close ends them. Follow starts one for each partition and has ended them when it returns. A
// Consumer's Run has all of these for its topic but those that write, and a few for each
// delivery, and has ended them when it returns.
package kafka
