package main

import (
	"fmt"
	"math"
	"syscall"
)

// bodyBudget bounds the bodies that callers of the decision port can make this process
// hold, in bytes: a body is read before anybody knows whose it is.
const bodyBudget = 256 << 20

// controlConnections bounds the connections to the control port.
const controlConnections = 512

// connectionLimits gives how many connections each port takes: what is configured, unless
// memory or the file descriptors that the process may have bound it. A quarter of the
// descriptors stays for segments, snapshots, rules and the clock, whatever strangers do.
func (c *config) connectionLimits(descriptors int) (decision, control int, warnings []string) {
	decision, control = c.MaxConnections, controlConnections
	if most := max(1, int(bodyBudget/c.MaxBody)); decision > most {
		warnings = append(warnings, fmt.Sprintf("decision.max_connections: %d, not %d, for with decision.max_body of %d bytes the bodies could take more than %d MiB",
			most, decision, c.MaxBody, bodyBudget>>20))
		decision = most
	}
	if most := max(1, descriptors/2); decision > most {
		warnings = append(warnings, fmt.Sprintf("decision.max_connections: %d, not %d, for the process may open only %d files (nofile)", most, decision, descriptors))
		decision = most
	}
	return decision, min(control, max(1, descriptors/4)), warnings
}

// descriptors is how many files this process may have open. Go has raised the soft limit
// to the hard one.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt // nobody knows; Accept waits where they run out
	}
	return int(min(limit.Cur, math.MaxInt32))
}
