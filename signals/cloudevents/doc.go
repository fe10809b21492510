// Package cloudevents reads CloudEvents 1.0, as HTTP requests and Kafka records carry them
// in structured and in binary mode, and gives what is in them to those who take it: security
// event tokens, or signals.
//
// It decodes the JSON format and no other. It does no I/O and judges nobody: who sends an
// event is known by the channel it came on, never by its "source".
package cloudevents
