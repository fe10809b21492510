package main

import (
	"path/filepath"

	"vigil/server/control"
	"vigil/signals"
	"vigil/signals/deadletter"
	"vigil/signals/kafka"
)

// openDeadLetters opens the file of the records that cannot be applied. Without one they
// are counted all the same, so nothing waits for a disk that cannot be written.
func (n *node) openDeadLetters() {
	letters, err := deadletter.Open(deadletter.Config{
		Dir: filepath.Join(n.cfg.DataDir, deadLettersName), Now: n.now, FS: n.on.fs, Logger: n.log,
	})
	if err != nil {
		n.log.Error("records that cannot be applied will not be written down", "error", err)
		return
	}
	n.letters = letters
}

// forwardLetters has them sent to a topic, too, where one is configured.
func (n *node) forwardLetters(cfg kafka.Config) (err error) {
	topic := n.cfg.Log.Kafka.DeadLetterTopic
	if topic == "" {
		return nil
	}
	n.forwarder, err = kafka.NewForwarder(cfg, topic)
	return err
}

// deadLetter takes a record that could not be applied. It waits for nothing.
func (n *node) deadLetter(l signals.DeadLetter) {
	if n.letters != nil {
		n.letters.Add(l)
	}
	if n.forwarder != nil {
		n.forwarder.Add(l)
	}
}

func (n *node) closeLetters() {
	if n.forwarder != nil {
		n.forwarder.Close()
	}
	if n.letters == nil {
		return
	}
	if err := n.letters.Close(); err != nil {
		n.log.Error("the last dead letters were not written", "error", err)
	}
}

// letterCounts is what became of dead letters, in the words of the metrics.
func (n *node) letterCounts() control.DeadLetterCounts {
	var c control.DeadLetterCounts
	if n.letters != nil {
		s := n.letters.Stats()
		c.Written, c.Skipped = s.Written, s.Skipped
	}
	if n.forwarder != nil {
		s := n.forwarder.Stats()
		c.Forwarded, c.Dropped = s.Written, s.Dropped
	}
	return c
}
