// Package decision serves the decision port: AuthZEN 1.0 on fasthttp, what gateways
// call and nothing else.
//
// The answers are those of the Authorization API 1.0: 200 is a decision, also when it is
// a no; 400, 401 and 403 are about the call and carry a message as text. 503 with
// Retry-After means that no decision was made.
package decision
