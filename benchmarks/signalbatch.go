package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// signalBatch is a push of risk signals, each about one agent. Its ids, times, agents and
// risks are written into it again and again, so that the pusher costs little.
type signalBatch struct {
	body  []byte
	width int // of one signal and the comma behind it
	id    int // where they stand in a signal
	agent int
	time  int
	risk  int
}

const (
	signalTime = "2006-01-02T15:04:05.000000000Z"
	riskMember = `"risk":`
)

func newSignalBatch(size int) *signalBatch {
	one := fmt.Appendf(nil, `{"v":1,"id":"risk-%d","type":"risk","entities":["agent:%s"],"time":"%s",%s10},`, serialMarker, agentID(agentMarker), signalTime, riskMember)
	b := &signalBatch{body: append([]byte{'['}, bytes.Repeat(one, size)...), width: len(one)}
	b.body[len(b.body)-1] = ']'
	b.id = places(one, strconv.Itoa(serialMarker))[0]
	b.agent = places(one, agentID(agentMarker))[0] + len("agent-")
	b.time = places(one, signalTime)[0]
	b.risk = places(one, riskMember)[0] + len(riskMember)
	return b
}

// fill makes signals of the batch from a serial on. They go through the agents in turn and
// give each a risk that changes no answer.
func (b *signalBatch) fill(serial, agents int, now time.Time) []byte {
	var text [len(signalTime)]byte
	at := now.UTC().AppendFormat(text[:0], signalTime)
	for one := b.body[1:]; len(one) >= b.width; one = one[b.width:] {
		decimal(one[b.id:b.id+9], serial)
		writeAgent(one[b.agent:b.agent+agentDigits], serial%agents)
		decimal(one[b.risk:b.risk+2], 10+(serial+serial/agents)%60)
		copy(one[b.time:], at)
		serial++
	}
	return b.body
}
