// Package control serves the control port on net/http: what people, SOC tools and
// orchestrators call.
package control
