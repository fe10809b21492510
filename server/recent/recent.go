// Package recent remembers the latest decisions that were not an allow, with what they
// were made of, bounded in bytes per tenant, repeats counted; and writes the decision
// log line.
package recent
