package kafka

import (
	"testing"

	"vigil/authz"
)

func says(leader, epoch int32, asked authz.Instant) claim {
	return claim{leader: leader, epoch: epoch, replicas: []int32{1, 2, 3}, asked: asked}
}

func TestALeaderIsConfirmedByEnoughReplicas(t *testing.T) {
	of := func(leader, epoch int32, asked authz.Instant, replicas ...int32) claim {
		return claim{leader, epoch, replicas, asked}
	}
	tests := []struct {
		name    string
		minISR  int
		answers map[int32]claim
		want    authz.Instant
	}{
		{"nobody was asked", 2, nil, 0},
		{"one of three is too few", 2, map[int32]claim{1: says(1, 5, 10)}, 0},
		{"two of three, as of the earlier", 2, map[int32]claim{1: says(1, 5, 10), 2: says(1, 5, 8)}, 8},
		{"three of three, as of the second", 2, map[int32]claim{1: says(1, 5, 10), 2: says(1, 5, 8), 3: says(1, 5, 9)}, 9},
		{"all where one has what is acknowledged", 1, map[int32]claim{1: says(1, 5, 10), 2: says(1, 5, 8)}, 0},
		{"all of them", 1, map[int32]claim{1: says(1, 5, 10), 2: says(1, 5, 8), 3: says(1, 5, 9)}, 8},
		{"all where it is not known how many", 0, map[int32]claim{1: says(1, 5, 10), 2: says(1, 5, 8)}, 0},
		{"one where all have what is acknowledged", 3, map[int32]claim{2: says(1, 5, 8)}, 8},
		{"one where more than all are asked for", 9, map[int32]claim{2: says(1, 5, 8)}, 8},
		{"one that is behind does not count", 2, map[int32]claim{1: says(1, 5, 10), 2: says(1, 4, 11)}, 0},
		{"one that is ahead does not count", 2, map[int32]claim{1: says(1, 5, 10), 2: says(2, 6, 11)}, 0},
		{"another leader in the epoch does not count", 2, map[int32]claim{1: says(1, 5, 10), 2: says(2, 5, 11)}, 0},
		{"brokers without the partition do not count", 2, map[int32]claim{1: says(1, 5, 10), 7: says(1, 5, 11)}, 0},
		{"a partition of one replica", 1, map[int32]claim{1: of(1, 5, 10, 1)}, 10},
		{"replicas are being moved: the larger set", 2, map[int32]claim{1: of(1, 5, 10, 1, 2, 3), 2: of(1, 5, 9, 1, 2, 3, 4, 5, 6)}, 0},
		{"no broker names a replica", 2, map[int32]claim{1: of(1, 5, 10)}, 0},
		{"a replica named twice is one", 2, map[int32]claim{1: of(1, 5, 10, 1, 1, 2, 2, 3, 3)}, 0},
	}
	for _, tc := range tests {
		for range 20 { // maps have no order
			if got := confirmedAt(1, 5, tc.minISR, tc.answers); got != tc.want {
				t.Fatalf("%s: %d, want %d", tc.name, got, tc.want)
			}
		}
	}
}

// fresh makes one of the partitions 0 to n-1 that are followed from broker 1 in epoch 5.
func fresh(n int32) *freshness {
	f := new(freshness)
	for number := range n {
		f.add(number, 2)
	}
	f.begin(1)
	for number := range n {
		f.follows(number, 1, 5)
	}
	return f
}

// confirm has two of three replicas asked about the partitions 0 to n-1.
func (f *freshness) confirm(n int32, asked authz.Instant) {
	for broker := int32(1); broker <= 2; broker++ {
		f.heard(n, broker, 1, 5, asked)
	}
}

func (f *freshness) heard(n, broker, leader, epoch int32, asked authz.Instant) {
	claims := make(map[int32]claim)
	for number := range n {
		claims[number] = says(leader, epoch, asked)
	}
	f.answered(broker, claims)
}

func (f *freshness) want(t *testing.T, what string, at authz.Instant) {
	t.Helper()
	if got := f.freshAt(); got != at {
		t.Errorf("%s: fresh at %d, want %d", what, got, at)
	}
}

func TestAViewIsAsFreshAsItsOldestPart(t *testing.T) {
	f := fresh(2)
	f.reachedAt(0, 100)
	f.reachedAt(1, 90)
	f.want(t, "nobody has confirmed a leader", 0)
	f.confirm(2, 95)
	f.want(t, "partition 1 reached it at 90", 90)
	f.reachedAt(1, 120)
	f.want(t, "the leaders were confirmed at 95", 95)
	f.confirm(2, 130)
	f.want(t, "partition 0 reached it at 100", 100)
	f.reachedAt(0, 125)
	f.want(t, "partition 1 reached it at 120", 120)
}

func TestFreshnessNeverGoesBack(t *testing.T) {
	f := fresh(1)
	f.reachedAt(0, 100)
	f.confirm(1, 100)
	f.want(t, "first", 100)
	f.reachedAt(0, 50)
	f.confirm(1, 60)
	f.want(t, "answers that come late", 100)
	f.follows(0, 2, 6)
	f.want(t, "another leader", 100)
	f.begin(70)
	f.want(t, "followed anew", 100)
	f.add(7, 2)
	f.want(t, "another partition", 100)

	// A leader that was confirmed long ago, as of a late answer.
	f = fresh(1)
	f.reachedAt(0, 100)
	f.confirm(1, 100)
	f.heard(1, 3, 2, 6, 60)
	f.heard(1, 1, 2, 6, 110)
	f.follows(0, 2, 6)
	f.reachedAt(0, 120)
	f.want(t, "confirmed at 60", 100)
}

// What the leader before was found to have says nothing about what the next one took
// meanwhile, although the next one is confirmed at once.
func TestWhatWasReachedUnderOneLeaderDoesNotCountForTheNext(t *testing.T) {
	f := fresh(1)
	f.reachedAt(0, 10)
	f.confirm(1, 10)
	f.reachedAt(0, 200) // of a leader that was deposed at 50
	f.heard(1, 2, 2, 6, 210)
	f.heard(1, 3, 2, 6, 210)
	f.follows(0, 2, 6)
	f.want(t, "nothing was reached under leader 2", 10)
	f.reachedAt(0, 205)
	f.want(t, "reached under leader 2", 205)
}

func TestABrokerThatDoesNotKnowOfAPartitionConfirmsNothing(t *testing.T) {
	f := fresh(2)
	f.reachedAt(0, 100)
	f.reachedAt(1, 100)
	f.confirm(1, 100)
	f.want(t, "they list one partition of two", 0)
	f.confirm(2, 100)
	f.want(t, "they list both", 100)

	// Nor where others confirm that partition: those that lead the first may lead a third.
	f = fresh(2)
	f.reachedAt(0, 100)
	f.reachedAt(1, 100)
	both := map[int32]claim{0: says(1, 5, 100), 1: {1, 5, []int32{4, 5, 6}, 100}}
	f.confirm(1, 100)
	f.answered(4, both)
	f.answered(5, both)
	f.want(t, "the replicas of partition 0 do not list partition 1", 0)
	f.answered(1, both)
	f.answered(2, both)
	f.want(t, "all list both", 100)
}

func TestAPartitionThatAppearsHoldsTheViewUntilItIsReadAndConfirmed(t *testing.T) {
	f := fresh(1)
	f.reachedAt(0, 100)
	f.confirm(1, 100)
	f.want(t, "first", 100)
	if !f.add(1, 2) || f.add(1, 2) {
		t.Error("it is added once")
	}
	f.reachedAt(0, 200)
	f.confirm(2, 200)
	f.want(t, "nobody follows the new one", 100)
	f.follows(1, 1, 5)
	f.want(t, "it has reached nothing", 100)
	f.reachedAt(1, 190)
	f.want(t, "it has", 190)
}

func TestItHasCaughtUpWhenAllOfTheStartIsThere(t *testing.T) {
	f := fresh(2)
	caught := f.begin(100)
	closed := func() bool {
		select {
		case <-caught:
			return true
		default:
			return false
		}
	}
	f.follows(0, 1, 5)
	f.follows(1, 1, 5)
	f.confirm(2, 99)
	f.reachedAt(0, 100)
	f.reachedAt(1, 150)
	if closed() {
		t.Error("the leaders were confirmed before the start only")
	}
	f.confirm(2, 101)
	if !closed() {
		t.Error("all of it is there")
	}
	caught = f.begin(100)
	f.confirm(2, 200)
	if closed() {
		t.Error("what the Follow before has reached counts")
	}
}
