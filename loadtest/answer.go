package main

import (
	"bytes"

	"vigil/signals"
)

// Effects of a decision as an answer has them. A server that has none but "decision" is
// understood too.
const (
	allow   = "allow"
	deny    = "deny"
	require = "require"
)

var (
	decisionTrue  = []byte(`"decision":true`)
	decisionFalse = []byte(`"decision":false`)
	effectMember  = []byte(`"effect":"`)
	asOfMember    = []byte(`"as_of":"`)
)

// effectOf finds the effect in an answer of the decision port, "" where it is none. It
// scans, for to parse every answer would cost about what the server pays.
func effectOf(body []byte) string {
	yes := bytes.Contains(body, decisionTrue)
	if !yes && !bytes.Contains(body, decisionFalse) {
		return ""
	}
	switch effect := member(body, effectMember); {
	case yes && (effect == nil || string(effect) == allow):
		return allow
	case yes:
		return ""
	case string(effect) == require:
		return require
	case effect == nil || string(effect) == deny:
		return deny
	}
	return ""
}

// member gives the string behind the first occurrence of name, or nil.
func member(body, name []byte) []byte {
	i := bytes.Index(body, name)
	if i < 0 {
		return nil
	}
	rest := body[i+len(name):]
	if j := bytes.IndexByte(rest, '"'); j >= 0 {
		return rest[:j]
	}
	return nil
}

// positions reads as-of tokens and remembers the last one. It is for one goroutine.
type positions struct {
	token string
	at    uint64
}

// of gives the position that an answer names, in the one partition of a journal. 0 where it
// names none, or one of several partitions, which numbers cannot compare.
func (p *positions) of(body []byte) uint64 {
	token := member(body, asOfMember)
	if string(token) == p.token {
		return p.at
	}
	p.token, p.at = string(token), 0
	if _, at, err := signals.ParseAsOf(p.token); err == nil && len(at) == 1 {
		p.at = uint64(max(at[0], 0))
	}
	return p.at
}
