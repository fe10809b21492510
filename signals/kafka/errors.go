package kafka

import (
	"errors"
	"fmt"
)

// What a partition's records can be found to be, at the price of the feed. Errors of
// Log.Follow that say so are a *PartitionError that wraps one of these.
var (
	// ErrHole says that the partition no longer has, or skips, records that were not read:
	// signals were lost to retention, or somebody deleted records.
	ErrHole = errors.New("records that were not read are gone")
	// ErrTruncated says that the partition ends before a record that was read: the brokers
	// lost what they had acknowledged.
	ErrTruncated = errors.New("records that were read are gone from the end")
	// ErrDiverged says that another record stands where one was read.
	ErrDiverged = errors.New("another record stands in the place of one that was read")
	// ErrRecreated says that the topic was deleted and made anew.
	ErrRecreated = errors.New("the topic is another one of the same name")
	// ErrDamaged says that a broker answers with bytes that fail their checksum, again and
	// again.
	ErrDamaged = errors.New("the records are damaged")
)

// PartitionError says what is wrong with a partition, and where.
type PartitionError struct {
	Partition string // "topic/number"
	Offset    int64  // of the first record that is not what it should be; -1 where there is none
	What      error  // ErrHole, ErrTruncated, ErrDiverged, ErrRecreated or ErrDamaged
	Detail    string // what was found, and what to do; "" for nothing more
}

func (e *PartitionError) Error() string {
	where := e.Partition
	if e.Offset >= 0 {
		where = fmt.Sprintf("%s at offset %d", e.Partition, e.Offset)
	}
	if e.Detail == "" {
		return fmt.Sprintf("%s: %s", where, e.What)
	}
	return fmt.Sprintf("%s: %s: %s", where, e.What, e.Detail)
}

func (e *PartitionError) Unwrap() error { return e.What }

// What goes wrong between this process and one broker. All of them leave the connection
// closed.
var (
	// errMalformed says that an answer is not what the protocol says.
	errMalformed = errors.New("malformed answer")
	// errNotSent says that the broker cannot have acted on the request, for it did not get
	// all of it.
	errNotSent = errors.New("the request was not sent")
	// errAuthentication says that the broker does not take the credentials, or this side
	// not the broker's.
	errAuthentication = errors.New("authentication failed")
	// errTooOld says that the broker does not know a version of the protocol that is
	// needed: topics are fetched by their ids since Kafka 3.1.
	errTooOld = errors.New("the broker is older than Kafka 3.1")
)

// errorCode is a broker's answer to a part of a request, as the protocol numbers them.
// It is an error where it is not errNone; see err.
type errorCode int16

const (
	errUnknownServer          errorCode = -1
	errNone                   errorCode = 0
	errOffsetOutOfRange       errorCode = 1
	errCorruptMessage         errorCode = 2
	errUnknownTopic           errorCode = 3
	errLeaderNotAvailable     errorCode = 5
	errNotLeader              errorCode = 6
	errRequestTimedOut        errorCode = 7
	errBrokerNotAvailable     errorCode = 8
	errReplicaNotAvailable    errorCode = 9
	errMessageTooLarge        errorCode = 10
	errNetworkException       errorCode = 13
	errInvalidTopic           errorCode = 17
	errRecordListTooLarge     errorCode = 18
	errNotEnoughReplicas      errorCode = 19
	errNotEnoughAfterAppend   errorCode = 20
	errInvalidRequiredAcks    errorCode = 21
	errTopicAuthorization     errorCode = 29
	errClusterAuthorization   errorCode = 31
	errInvalidTimestamp       errorCode = 32
	errUnsupportedMechanism   errorCode = 33
	errIllegalSASLState       errorCode = 34
	errUnsupportedVersion     errorCode = 35
	errTopicExists            errorCode = 36
	errInvalidPartitions      errorCode = 37
	errInvalidReplication     errorCode = 38
	errInvalidAssignment      errorCode = 39
	errInvalidConfig          errorCode = 40
	errNotController          errorCode = 41
	errInvalidRequest         errorCode = 42
	errUnsupportedForFormat   errorCode = 43
	errPolicyViolation        errorCode = 44
	errSecurityDisabled       errorCode = 54
	errOperationNotAttempted  errorCode = 55
	errStorage                errorCode = 56
	errSASLAuthentication     errorCode = 58
	errFencedLeaderEpoch      errorCode = 74
	errUnknownLeaderEpoch     errorCode = 75
	errUnsupportedCompression errorCode = 76
	errOffsetNotAvailable     errorCode = 78
	errInvalidRecord          errorCode = 87
	errThrottlingQuota        errorCode = 89
	errUnknownTopicID         errorCode = 100
	errInconsistentTopicID    errorCode = 103
)

var codeNames = map[errorCode]string{
	errUnknownServer:          "UNKNOWN_SERVER_ERROR",
	errNone:                   "NONE",
	errOffsetOutOfRange:       "OFFSET_OUT_OF_RANGE",
	errCorruptMessage:         "CORRUPT_MESSAGE",
	errUnknownTopic:           "UNKNOWN_TOPIC_OR_PARTITION",
	errLeaderNotAvailable:     "LEADER_NOT_AVAILABLE",
	errNotLeader:              "NOT_LEADER_OR_FOLLOWER",
	errRequestTimedOut:        "REQUEST_TIMED_OUT",
	errBrokerNotAvailable:     "BROKER_NOT_AVAILABLE",
	errReplicaNotAvailable:    "REPLICA_NOT_AVAILABLE",
	errMessageTooLarge:        "MESSAGE_TOO_LARGE",
	errNetworkException:       "NETWORK_EXCEPTION",
	errInvalidTopic:           "INVALID_TOPIC_EXCEPTION",
	errRecordListTooLarge:     "RECORD_LIST_TOO_LARGE",
	errNotEnoughReplicas:      "NOT_ENOUGH_REPLICAS",
	errNotEnoughAfterAppend:   "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
	errInvalidRequiredAcks:    "INVALID_REQUIRED_ACKS",
	errTopicAuthorization:     "TOPIC_AUTHORIZATION_FAILED",
	errClusterAuthorization:   "CLUSTER_AUTHORIZATION_FAILED",
	errInvalidTimestamp:       "INVALID_TIMESTAMP",
	errUnsupportedMechanism:   "UNSUPPORTED_SASL_MECHANISM",
	errIllegalSASLState:       "ILLEGAL_SASL_STATE",
	errUnsupportedVersion:     "UNSUPPORTED_VERSION",
	errTopicExists:            "TOPIC_ALREADY_EXISTS",
	errInvalidPartitions:      "INVALID_PARTITIONS",
	errInvalidReplication:     "INVALID_REPLICATION_FACTOR",
	errInvalidAssignment:      "INVALID_REPLICA_ASSIGNMENT",
	errInvalidConfig:          "INVALID_CONFIG",
	errNotController:          "NOT_CONTROLLER",
	errInvalidRequest:         "INVALID_REQUEST",
	errUnsupportedForFormat:   "UNSUPPORTED_FOR_MESSAGE_FORMAT",
	errPolicyViolation:        "POLICY_VIOLATION",
	errSecurityDisabled:       "SECURITY_DISABLED",
	errOperationNotAttempted:  "OPERATION_NOT_ATTEMPTED",
	errStorage:                "KAFKA_STORAGE_ERROR",
	errSASLAuthentication:     "SASL_AUTHENTICATION_FAILED",
	errFencedLeaderEpoch:      "FENCED_LEADER_EPOCH",
	errUnknownLeaderEpoch:     "UNKNOWN_LEADER_EPOCH",
	errUnsupportedCompression: "UNSUPPORTED_COMPRESSION_TYPE",
	errOffsetNotAvailable:     "OFFSET_NOT_AVAILABLE",
	errInvalidRecord:          "INVALID_RECORD",
	errThrottlingQuota:        "THROTTLING_QUOTA_EXCEEDED",
	errUnknownTopicID:         "UNKNOWN_TOPIC_ID",
	errInconsistentTopicID:    "INCONSISTENT_TOPIC_ID",
}

func (c errorCode) Error() string {
	if name, ok := codeNames[c]; ok {
		return "the broker says " + name
	}
	return fmt.Sprintf("the broker says error %d", int16(c))
}

// err is nil for errNone, and c otherwise.
func (c errorCode) err() error {
	if c == errNone {
		return nil
	}
	return c
}
