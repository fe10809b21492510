// Package cache keeps decisions for as long as every record that they were computed
// from is current. It knows no rules and no logs.
package cache
