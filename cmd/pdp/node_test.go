package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestAFaultOfTheServerIsNoFaultOfItsInput: supervisors that give up on a broken
// configuration must not give up on this.
func TestAFaultOfTheServerIsNoFaultOfItsInput(t *testing.T) {
	n := &node{failed: make(chan error, 1)}
	n.fail(errors.New("the decision port: gone"))
	n.fail(errors.New("a second one"))
	var out bytes.Buffer
	a := &app{stderr: &out}
	if code := a.report(<-n.failed); code != exitUnreachable || !strings.Contains(out.String(), "the decision port: gone") {
		t.Errorf("%d: %s", code, out.String())
	}
}
