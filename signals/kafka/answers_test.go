package kafka

import (
	"errors"
	"testing"
)

// topicAnswer is what a good answer of Metadata says of a topic.
func topicAnswer(name string, partitions ...int32) []byte {
	b := append(appendString([]byte{0, 0}, name), make([]byte, 16)...)
	b = append(b, 0, byte(len(partitions)+1))
	for _, p := range partitions {
		b = appendInt32(appendInt32(appendInt32(append(b, 0, 0), p), 7), 12)
		for range 2 {
			b = appendInt32(append(b, 1+1), 7)
		}
		b = append(b, 0+1, 0)
	}
	return append(appendInt32(b, 0), 0)
}

// brokerAnswer is what it says of a broker.
func brokerAnswer(id int32, host string, port int32) []byte {
	return append(appendString(appendInt32(appendString(appendInt32(nil, id), host), port), "rack"), 0)
}

// metadataAnswer is a good one, of version 11, if these are.
func metadataAnswer(brokers, topics [][]byte) []byte {
	b := append(make([]byte, 5), byte(len(brokers)+1))
	for _, broker := range brokers {
		b = append(b, broker...)
	}
	b = appendInt32(appendString(b, "cluster"), 7)
	b = append(b, byte(len(topics)+1))
	for _, topic := range topics {
		b = append(b, topic...)
	}
	return append(b, 0)
}

func goodMetadata() []byte {
	return metadataAnswer([][]byte{brokerAnswer(7, "host", 9092)}, [][]byte{topicAnswer("log", 3)})
}

func TestMetadataThatContradictsItselfIsRefused(t *testing.T) {
	m, err := decodeMetadata(goodMetadata())
	if err != nil || m.brokers[7] != "host:9092" || m.topics["log"].partitions[3].epoch != 12 {
		t.Fatalf("%+v, %v", m, err)
	}
	broker, topic := brokerAnswer(7, "host", 9092), topicAnswer("log", 3)
	for name, bad := range map[string][]byte{
		"a broker twice":       metadataAnswer([][]byte{broker, broker}, nil),
		"no host":              metadataAnswer([][]byte{brokerAnswer(7, "", 9092)}, nil),
		"no port":              metadataAnswer([][]byte{brokerAnswer(7, "host", 0)}, nil),
		"a port past all":      metadataAnswer([][]byte{brokerAnswer(7, "host", 65536)}, nil),
		"a topic twice":        metadataAnswer(nil, [][]byte{topic, topic}),
		"a partition twice":    metadataAnswer(nil, [][]byte{topicAnswer("log", 3, 3)}),
		"a negative partition": metadataAnswer(nil, [][]byte{topicAnswer("log", -1)}),
		"a byte too many":      append(goodMetadata(), 0),
	} {
		if m, err := decodeMetadata(bad); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for n := range goodMetadata() {
		if _, err := decodeMetadata(goodMetadata()[:n]); !errors.Is(err, errMalformed) {
			t.Errorf("cut short after %d bytes: %v", n, err)
		}
	}
}

// partitionAnswer is what a good answer of Fetch says of a partition.
func partitionAnswer(index int32, code errorCode, records []byte) []byte {
	b := append(appendInt32(nil, index), byte(code>>8), byte(code))
	b = appendInt64(appendInt64(appendInt64(b, 9), 9), 4)
	b = append(b, 1+1) // an aborted transaction
	b = append(appendInt64(appendInt64(b, 1), 2), 0)
	b = appendInt32(b, -1)
	return append(appendString(b, string(records)), 0)
}

// fetchAnswer is a good one, if these are.
func fetchAnswer(code errorCode, id [16]byte, partitions ...[]byte) []byte {
	b := append(make([]byte, 1+4), byte(code>>8), byte(code))
	b = append(appendInt32(b, 0), 1+1)
	b = append(b, id[:]...)
	b = append(b, byte(len(partitions)+1))
	for _, p := range partitions {
		b = append(b, p...)
	}
	return append(b, 0, 0)
}

// Records of another partition, taken for those that were asked for, would be applied at
// offsets that are not theirs.
func TestAFetchTakesRecordsOfItsPartitionAlone(t *testing.T) {
	id, other := [16]byte{1}, [16]byte{2}
	r := fetchRequest{id: id, partition: 3}
	good := partitionAnswer(3, errNone, values(4, "a"))
	whole := fetchAnswer(errNone, id, good)
	f, err := r.decode(whole)
	if err != nil || f.code != errNone || f.highWatermark != 9 || f.logStart != 4 || string(f.records) != string(values(4, "a")) {
		t.Errorf("%+v, %v", f, err)
	}
	for name, bad := range map[string][]byte{
		"another topic":     fetchAnswer(errNone, other, good),
		"another partition": fetchAnswer(errNone, id, partitionAnswer(2, errNone, nil)),
		"one more":          fetchAnswer(errNone, id, good, partitionAnswer(2, errNone, nil)),
		"twice":             fetchAnswer(errNone, id, good, good),
		"none":              fetchAnswer(errNone, id),
		"a byte too many":   append(fetchAnswer(errNone, id, good), 0),
	} {
		if f, err := r.decode(bad); !errors.Is(err, errMalformed) || f.records != nil {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	for n := range whole {
		if _, err := r.decode(whole[:n]); !errors.Is(err, errMalformed) {
			t.Errorf("cut short after %d bytes: %v", n, err)
		}
	}
	for name, refusal := range map[string][]byte{
		"the whole request": fetchAnswer(errUnknownTopicID, id),
		"both":              fetchAnswer(errUnknownTopicID, id, good),
		"the partition":     fetchAnswer(errNone, id, partitionAnswer(3, errUnknownTopicID, nil)),
	} {
		if f, err := r.decode(refusal); f.code != errUnknownTopicID || len(f.records) != 0 || err != nil {
			t.Errorf("an error of %s: %+v, %v", name, f, err)
		}
	}
}
