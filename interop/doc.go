// Package interop holds Vigil to the programs and libraries of others, as they are: the
// CloudEvents SDK and a JOSE library that knows nothing of ours send to a running pdp, and
// Prometheus and its promtool read from it. It knows pdp as a program alone.
//
//	make interop
//
// Go is all that the senders need. Where there is no Prometheus its tests are skipped and say
// so, unless VIGIL_REQUIRE_INTEROP is set; kcat, the sender over Kafka, is in e2e, beside the
// broker that it needs.
package interop
