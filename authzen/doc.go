// Package authzen is the JSON of the AuthZEN Authorization API 1.0: strict decoding of
// requests and encoding of decisions. Both run on the hot path.
package authzen
