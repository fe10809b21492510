package cloudevents

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
)

// What the records of a topic hold. Each is a function of the record alone, so that whoever
// reads it reads the same; errors are for the people behind the topic.

var (
	errNoEvent = errors.New(`it is no CloudEvent: want the header "ce_specversion" (binary mode), or a "content-type" of application/cloudevents+json (structured mode)`)
	errToken   = errors.New("it carries a security event token: such come by the topic of their issuer, which is configured with the issuer")
	errNoToken = errors.New("it carries no security event token: want data of the type application/secevent+jwt")
	errList    = errors.New("it carries a list: a record is one signal")
)

// Signal gives the signal that a record carries as a CloudEvent, in either mode; see
// Event.Signals. What comes out has yet to be decoded and judged.
func Signal(headers iter.Seq2[string, string], value []byte) ([]byte, error) {
	if !Kafka.Is(headers) {
		return nil, errNoEvent
	}
	e, err := Kafka.Decode(headers, value)
	if err != nil {
		return nil, err
	}
	if _, token := e.SET(); token {
		return nil, e.fault(errToken)
	}
	signal, err := e.Signals()
	switch {
	case err != nil:
		return nil, e.fault(err)
	case len(signal) > 0 && signal[0] == '[':
		return nil, e.fault(errList)
	}
	return signal, nil
}

// Token gives the security event token in a record: in its compact form, or as the data of a
// CloudEvent in either mode. What comes out has yet to be verified.
func Token(headers iter.Seq2[string, string], value []byte) ([]byte, error) {
	if !Kafka.Is(headers) {
		return bytes.TrimSpace(value), nil
	}
	e, err := Kafka.Decode(headers, value)
	if err != nil {
		return nil, err
	}
	token, ok := e.SET()
	if !ok {
		return nil, e.fault(errNoToken)
	}
	return token, nil
}

// fault says which event something is wrong with.
func (e *Event) fault(err error) error {
	return fmt.Errorf("the event %q of %q: %w", clip(e.ID), clip(e.Source), err)
}
