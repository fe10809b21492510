package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// spread measures how long a revocation takes to every replica. Each replica is asked all
// the time over a connection of its own: about a session that is revoked, until it is
// denied, and in between about another one, so that the machine has the same to do
// whatever is measured.
//
// Goroutines: start starts one for each replica, which end has end.
type spread struct {
	replicas []target
	timeout  time.Duration // of one answer, and of a session to be denied everywhere
	think    time.Duration // between two questions to one replica
	body     func(session string) []byte

	ctx     context.Context // of the goroutines
	rounds  []chan string   // sessions to be asked about until they are denied
	answers chan denial
	polling sync.WaitGroup
	stop    context.CancelFunc
}

// denial is when a replica first denied a session, or why that is not known.
type denial struct {
	replica int
	at      time.Time
	err     error
}

func (s *spread) start(ctx context.Context) {
	s.ctx, s.stop = context.WithCancel(ctx)
	s.answers = make(chan denial, len(s.replicas))
	for i, to := range s.replicas {
		rounds := make(chan string, 1)
		s.rounds = append(s.rounds, rounds)
		s.polling.Go(func() {
			c := conn{to: to, timeout: s.timeout}
			defer c.close()
			idle := to.request(http.MethodPost, evaluationPath, "", s.body("idle"))
			for s.ctx.Err() == nil {
				select {
				case session := <-rounds:
					at, err := s.untilDenied(&c, session)
					s.answers <- denial{i, at, err}
				default:
					_, _, _ = c.do(idle) // an engine that does not answer shows in the rounds
				}
				nap(s.think)
			}
		})
	}
}

func (s *spread) end() {
	s.stop()
	s.polling.Wait()
}

// untilDenied asks until the session is denied as revoked. Any other denial is an error: it
// says nothing about the revocation.
func (s *spread) untilDenied(c *conn, session string) (time.Time, error) {
	request := c.to.request(http.MethodPost, evaluationPath, "", s.body(session))
	for begun := time.Now(); s.ctx.Err() == nil; nap(s.think) {
		status, body, err := c.do(request)
		now := time.Now()
		switch effect := effectOf(body); {
		case err != nil:
			return now, err
		case status != http.StatusOK || effect != allow && !bytes.Contains(body, codeRevoked):
			return now, fmt.Errorf("status %d: %.200s", status, body)
		case effect != allow:
			return now, nil
		case now.Sub(begun) > s.timeout:
			return now, fmt.Errorf("it still allows %s after %s", session, s.timeout)
		}
	}
	return time.Time{}, s.ctx.Err()
}

var codeRevoked = []byte(`"code":"revoked"`)

// allowed asks every replica once, so that the session's allow is in its cache.
func (s *spread) allowed(session, demand string) error {
	for _, to := range s.replicas {
		c := conn{to: to, timeout: s.timeout}
		status, body, err := c.do(to.requestWith(http.MethodPost, evaluationPath, "", demand, s.body(session)))
		c.close()
		if err != nil || status != http.StatusOK || effectOf(body) != allow {
			return fmt.Errorf("%s about %s, which nobody has revoked: status %d: %.200s %w", to.address, session, status, body, err)
		}
	}
	return nil
}

// time has send revoke a session and gives how long after that each replica first denied
// it. After an error nothing more can be timed.
func (s *spread) time(session string, send func() error) ([]time.Duration, error) {
	for _, rounds := range s.rounds {
		rounds <- session
	}
	begun := time.Now()
	if err := send(); err != nil {
		return nil, err
	}
	delays := make([]time.Duration, len(s.replicas))
	for range s.replicas {
		select {
		case d := <-s.answers:
			if d.err != nil {
				return nil, fmt.Errorf("%s: %w", s.replicas[d.replica].address, d.err)
			}
			delays[d.replica] = d.at.Sub(begun)
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
	return delays, nil
}
