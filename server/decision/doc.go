// Package decision serves the decision port: AuthZEN 1.0 on fasthttp, what gateways
// call and nothing else.
package decision
