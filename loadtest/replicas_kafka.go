package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// bareKafka is a producer of revocations, and a producer and a consumer with nothing
// between them but the broker, which they are compared with. Both producers are alike. It
// is for one goroutine.
//
// Goroutines: newBareKafka starts a reader, which close ends.
type bareKafka struct {
	ctx           context.Context
	transport     *kafka.Transport // of both producers
	signals, bare *kafka.Writer
	reader        *kafka.Reader
	serial        int
}

func newBareKafka(ctx context.Context, brokers []string, topic, bareTopic string) (*bareKafka, error) {
	transport := &kafka.Transport{}
	writer := func(topic string) *kafka.Writer {
		return &kafka.Writer{Addr: kafka.TCP(brokers...), Topic: topic, RequiredAcks: kafka.RequireAll, BatchSize: 1, Balancer: &kafka.RoundRobin{}, Transport: transport, WriteTimeout: 10 * time.Second}
	}
	b := &bareKafka{ctx: ctx, transport: transport, signals: writer(topic), bare: writer(bareTopic)}
	b.reader = kafka.NewReader(kafka.ReaderConfig{Brokers: brokers, Topic: bareTopic, Partition: 0, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond})
	// The first round trips find connections and offsets; they are not counted.
	for range 3 {
		if _, err := b.roundTrip(); err != nil {
			return nil, errors.Join(fmt.Errorf("topic %s: %w", bareTopic, err), b.close())
		}
	}
	return b, nil
}

func (b *bareKafka) close() error {
	err := errors.Join(b.reader.Close(), b.signals.Close(), b.bare.Close())
	b.transport.CloseIdleConnections()
	return err
}

// produce writes the revocation of a session.
func (b *bareKafka) produce(session string) error {
	body, err := revocationOf(session)
	if err != nil {
		return err
	}
	return b.signals.WriteMessages(b.ctx, kafka.Message{Value: body})
}

// roundTrip writes a message and reads it, and gives how long that took.
func (b *bareKafka) roundTrip() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	b.serial++
	value := strconv.Itoa(b.serial) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	read := make(chan error, 1)
	var at time.Time
	go func() { // it waits before the message is there, as a follower does
		for {
			m, err := b.reader.ReadMessage(ctx)
			at = time.Now()
			if err != nil || string(m.Value) == value {
				read <- err
				return
			}
		}
	}()
	begun := time.Now()
	wrote := b.bare.WriteMessages(ctx, kafka.Message{Value: []byte(value)})
	if wrote != nil {
		cancel()
	}
	if err := errors.Join(wrote, <-read); err != nil {
		return 0, err
	}
	return at.Sub(begun), nil
}
