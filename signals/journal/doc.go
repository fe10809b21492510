// Package journal is the embedded signal log: segments of checksummed records on the
// local disk, made durable in groups, for one process.
package journal
