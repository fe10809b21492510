// Package authz defines the words of an authorization decision: who asks
// (Principal), what is asked (Request), what entities a risk signal can be about
// (Ref, Key), what posture says of an entity (Standing), and what is answered
// (Decision).
//
// It imports only the standard library and has no behaviour worth replacing in a
// test: everything else in Vigil speaks in these words.
package authz
