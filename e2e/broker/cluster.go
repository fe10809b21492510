//go:build unix

package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// quorum is what the nodes of a cluster have to agree on before they are started first:
// its id, and of each node, by its id from 1, the ports and the id of its data folder.
type quorum struct {
	id    string
	nodes []member
}

type member struct {
	port      int // for clients; the controller has the next one
	directory string
}

// NewCluster gives nodes that are one cluster, each broker and controller, without starting
// them. cfg is what they have in common: each has a folder of its own below Dir, and one of
// the ports. They start and stop as single ones do, but serve only together: more than half
// of them have to run. What a process that has ended left in their folders is not theirs;
// the folder has to be new.
func NewCluster(cfg Config, ports []int) ([]*Broker, error) {
	q := &quorum{id: newID()}
	for _, port := range ports {
		q.nodes = append(q.nodes, member{port, newID()})
	}
	var all []*Broker
	for i, port := range ports {
		node := cfg
		node.Dir, node.Port = filepath.Join(cfg.Dir, strconv.Itoa(i+1)), port
		b, err := New(node)
		if err != nil {
			return nil, err
		}
		b.quorum, b.id = q, i+1
		all = append(all, b)
	}
	return all, nil
}

// StartAll starts nodes of a cluster at the same time, for one alone may wait for another,
// and waits until all of them serve.
func StartAll(ctx context.Context, all ...*Broker) error {
	errs := make([]error, len(all))
	var group sync.WaitGroup
	for i, b := range all {
		group.Go(func() {
			if err := b.Start(ctx); err != nil {
				errs[i] = fmt.Errorf("node %d: %w", b.id, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// newID gives a new id as Kafka writes them: 16 bytes in base64. One that begins with a
// hyphen would be an option on a command line.
func newID() string {
	for {
		var id [16]byte
		rand.Read(id[:])
		if text := base64.RawURLEncoding.EncodeToString(id[:]); !strings.HasPrefix(text, "-") {
			return text
		}
	}
}

// controllers are where the controllers listen.
func (q *quorum) controllers() string {
	var all []string
	for _, m := range q.nodes {
		all = append(all, m.controller())
	}
	return strings.Join(all, ",")
}

func (m member) controller() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port+1))
}

// format are the arguments for making the data folder of a node: the same for all of them.
func (q *quorum) format() []string {
	var all []string
	for i, m := range q.nodes {
		all = append(all, fmt.Sprintf("%d@%s:%s", i+1, m.controller(), m.directory))
	}
	return []string{"--initial-controllers", strings.Join(all, ","), "-t", q.id}
}
