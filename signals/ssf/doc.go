// Package ssf takes security events as identity providers and SOC tools send them:
// Security Event Tokens (SETs, RFC 8417) of the Shared Signals Framework 1.0 with the
// events of CAEP 1.0 and RISC 1.0, pushed (RFC 8935), polled (RFC 8936) or read from a topic
// by somebody else (Topic).
//
// An Issuer verifies the SETs of one transmitter: signature, type, issuer, audience,
// and what each event must say. It finds the entities that the subject means, by
// templates, and what the event says of them, by a table (DefaultTable). What comes out
// is signals in our own vocabulary, with the source issuer:NAME, for an intake: they
// are judged, made durable and applied like those of any client, and a SET is
// acknowledged only then. The id of a signal is made of the jti alone, so a SET that
// comes twice is a duplicate.
//
// Nothing that a SET says is guessed. What cannot be verified is refused with the error
// of RFC 8935 that names why; a subject that no template fits, an event that no row of
// the table knows, and an entity that nobody has heard of are counted and shown.
//
// A Transmitter manages streams as a receiver does, and a Verifier asks for verifications
// of one on a schedule. Their states prove by themselves that one of us asked, so that
// replicas share a secret and no memory.
//
// It is the only importer of a JOSE library, and keeps keys and encryption of tokens to
// what a receiver needs: public keys, signatures, no decryption.
package ssf
