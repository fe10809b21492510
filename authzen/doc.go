// Package authzen is the JSON of the AuthZEN Authorization API 1.0: strict decoding of
// requests and encoding of decisions. Both run on the hot path, by hand, without
// reflection and without allocations once their buffers have grown.
//
// Strict means that a gateway and Vigil cannot read one body in two ways: members that
// repeat, invalid UTF-8, lone surrogates and data after the end are errors, each with
// the place where it stands.
package authzen
