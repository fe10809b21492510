// Package kafka is the signal log on Kafka, so that any number of replicas hold the same
// posture. It is the only importer of a Kafka library, and uses that library's wire
// protocol alone: connections, the follower of each partition, the reader of record
// batches and the writer are its own, for each has to notice what a general client
// forgives (see docs/contract.md).
package kafka
