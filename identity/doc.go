// Package identity says who is asking: it makes an authz.Principal of what a request
// claims. It takes the claims of an authenticated gateway as they are.
package identity
