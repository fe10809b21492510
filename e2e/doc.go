// Package e2e runs Vigil as its users do: three processes of pdp, a real Apache Kafka of one
// broker or of three, and HTTP between them. Each test breaks something while decisions are
// made and signals are pushed, and says in its log what every replica answered meanwhile.
//
// The tests have the build tag e2e and take minutes: make e2e-kafka. They need Java and
// Maven and are skipped, with a word about it, where those are missing. What they size by
// is in the environment:
//
//	VIGIL_E2E_REVOCATIONS  revocations to race with decisions (10000)
//	VIGIL_E2E_LETTERS      records that nobody can read (100000)
//	VIGIL_E2E_MISSED       signals that a replica comes back to (100000)
//	VIGIL_E2E_LEADERS      rounds in which each of three brokers is killed (1)
//	VIGIL_E2E_ROUNDS       signals whose way to every replica is timed (300)
//	VIGIL_E2E_STEPS        steps of a random history (200)
//	VIGIL_E2E_SEED         the seed of that history (drawn, and told)
package e2e
