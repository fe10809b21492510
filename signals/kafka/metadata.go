package kafka

import (
	"context"
	"errors"
)

// clusterMeta is what one broker believes of the cluster and of the topics that it was
// asked about.
type clusterMeta struct {
	cluster    string           // the cluster's id, "" where it has none
	controller int32            // the broker that makes topics; -1 for none
	brokers    map[int32]string // host:port by id
	topics     map[string]topicMeta
}

// topicMeta is a topic. One that does not exist has a code and no partitions.
type topicMeta struct {
	id         [16]byte // KIP-516; zero where code is set
	code       errorCode
	partitions map[int32]partitionMeta
}

// partitionMeta is who has a partition.
type partitionMeta struct {
	leader   int32 // -1 for none
	epoch    int32 // of the leader
	replicas []int32
	inSync   []int32
	code     errorCode // may be set although the rest is good, as for a replica that is down
}

// metadata asks the broker about the cluster and these topics; none for the cluster alone.
// It makes no topic.
func (c *conn) metadata(ctx context.Context, topics []string) (*clusterMeta, error) {
	return nil, errors.ErrUnsupported
}
