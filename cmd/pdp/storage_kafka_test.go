package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
	"vigil/signals/snapshot"
)

// sharedStorage is a storage over brokers whose partitions begin at the given offsets.
func sharedStorage(t *testing.T, dir string, starts ...int64) *kafkaStorage {
	t.Helper()
	now := func() authz.Instant { return 1000 }
	b := newCluster(int32(len(starts)), now)
	for p, start := range starts {
		b.parts[int32(p)].start = start
	}
	log := &clusterLog{cluster: b, now: now, marks: map[int32]int64{}}
	s := &kafkaStorage{kafka: log}
	s.signals, s.marks, s.continues = log, log.Marks, snapshot.Of(log.ID())
	s.dir, s.log = snapshot.Dir{Path: dir}, slog.New(slog.DiscardHandler)
	s.now, s.raise, s.keep = now, func(authz.Instant) {}, 3
	return s
}

// saveAt saves a snapshot of a log at positions, with an entity that tells it apart.
func saveAt(t *testing.T, dir snapshot.Dir, log signals.LogID, now authz.Instant, at signals.Positions) string {
	t.Helper()
	path, err := dir.Save(snapshot.Meta{Log: log, Positions: at, Now: now, Marks: []byte("{}")}, posture.NewStore())
	must(t, err)
	return path
}

// TestAReplicaBeginsWhereTheLogStillGoesOnOrNotAtAll: what is gone between a snapshot and
// the log may have been a revocation.
func TestAReplicaBeginsWhereTheLogStillGoesOnOrNotAtAll(t *testing.T) {
	type at = signals.Positions
	this, other := signals.LogID{1}, signals.LogID{2}
	damage := func(t *testing.T, path string) {
		data, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, data[:len(data)-1], 0o600))
	}
	for _, c := range []struct {
		name   string
		starts []int64
		save   func(t *testing.T, d snapshot.Dir)
		from   at     // where it begins
		want   string // in the error; "" for a start
	}{
		{"nothing kept, a whole log", []int64{0, 0}, nil, at{}, ""},
		{"nothing kept, a log that was cut", []int64{0, 42}, nil, nil, "the partition log/1 begins at offset 42"},
		{"a snapshot", []int64{0, 0}, func(t *testing.T, d snapshot.Dir) { saveAt(t, d, this, 1, at{0: 5, 1: 7}) }, at{0: 5, 1: 7}, ""},
		{"a snapshot just where the log begins", []int64{5, 7}, func(t *testing.T, d snapshot.Dir) { saveAt(t, d, this, 1, at{0: 5, 1: 7}) }, at{0: 5, 1: 7}, ""},
		{"a snapshot before where one partition begins", []int64{5, 8}, func(t *testing.T, d snapshot.Dir) { saveAt(t, d, this, 1, at{0: 9, 1: 7}) }, nil, "it stands at offset 7 of log/1, which begins at 8"},
		{"a snapshot before where the log begins, and an older one that sorts after it", []int64{5, 5}, func(t *testing.T, d snapshot.Dir) {
			saveAt(t, d, this, 2, at{0: 900, 1: 4})
			saveAt(t, d, this, 1, at{0: 6, 1: 6})
		}, at{0: 6, 1: 6}, ""},
		{"a partition that came later", []int64{0, 0}, func(t *testing.T, d snapshot.Dir) { saveAt(t, d, this, 1, at{0: 5}) }, at{0: 5}, ""},
		{"a partition that came later and was cut", []int64{0, 3}, func(t *testing.T, d snapshot.Dir) { saveAt(t, d, this, 1, at{0: 5}) }, nil, "the partition log/1 begins at offset 3"},
		{"a partition that is followed no more", []int64{0}, func(t *testing.T, d snapshot.Dir) { saveAt(t, d, this, 1, at{0: 5, 9: 1000}) }, at{0: 5}, ""},
		{"a newer one without it", []int64{0}, func(t *testing.T, d snapshot.Dir) {
			saveAt(t, d, this, 1, at{0: 5, 9: 1000})
			saveAt(t, d, this, 2, at{0: 6})
		}, at{0: 6}, ""},
		{"a damaged one and an older one", []int64{3}, func(t *testing.T, d snapshot.Dir) {
			saveAt(t, d, this, 1, at{0: 5})
			damage(t, saveAt(t, d, this, 2, at{0: 6}))
		}, at{0: 5}, ""},
		{"a damaged one, a whole log", []int64{0}, func(t *testing.T, d snapshot.Dir) { damage(t, saveAt(t, d, this, 2, at{0: 6})) }, at{}, ""},
		{"a damaged one, a log that was cut", []int64{6}, func(t *testing.T, d snapshot.Dir) { damage(t, saveAt(t, d, this, 2, at{0: 6})) }, nil, "begins at offset 6"},
		{"one of a topic that had the same name", []int64{0}, func(t *testing.T, d snapshot.Dir) { saveAt(t, d, other, 1, at{0: 6}) }, nil, "not the log that the snapshots are of"},
		{"one of another log beside one of this", []int64{0}, func(t *testing.T, d snapshot.Dir) {
			saveAt(t, d, other, 2, at{0: 600})
			saveAt(t, d, this, 1, at{0: 6})
		}, at{0: 6}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sharedStorage(t, t.TempDir(), c.starts...)
			if c.save != nil {
				c.save(t, s.dir)
			}
			err := s.restore(context.Background(), nil)
			switch {
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("started, or said %v; want %q", err, c.want)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			if !s.from.Covers(c.from) || !c.from.Covers(s.from) || len(s.from) != len(c.from) {
				t.Errorf("begins at %v, want %v", s.from, c.from)
			}
		})
	}
}

// TestTheHintOfARefusedStartSaysWhatToDo: whoever reads it has no other words.
func TestTheHintOfARefusedStartSaysWhatToDo(t *testing.T) {
	n := &node{}
	var f *failure
	for err, want := range map[error]string{
		&holeError{"log/0", 7, snapshot.ErrNone}: "--bootstrap-from", &strangeError{"/d/snapshots", snapshot.ErrNone}: "move /d/snapshots away",
		fs.ErrPermission: "",
	} {
		if !errors.As(n.refusal(context.Background(), err), &f) || f.code != exitInput || !strings.Contains(f.hint, want) || want == "" && f.hint != "" {
			t.Errorf("%v: %+v, want %q", err, f, want)
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.refusal(over, fs.ErrPermission); errors.As(err, &f) {
		t.Error("what was told to end is said to be refused")
	}
}

// TestTheMarksOfASnapshotAreNoOlderThanItsPositions: else a log that was cut between the two
// would not be noticed.
func TestTheMarksOfASnapshotAreNoOlderThanItsPositions(t *testing.T) {
	s := sharedStorage(t, t.TempDir(), 0)
	s.store = posture.NewStore()
	s.applied = func() signals.Progress {
		p := signals.Progress{Log: s.signals.ID(), Applied: signals.Positions{0: 3}}
		s.kafka.(*clusterLog).marks[0] = 7 // is delivered meanwhile
		return p
	}
	meta, ok := s.meta()
	if !ok || string(meta.Marks) != `{"0":7}` {
		t.Errorf("marks %s", meta.Marks)
	}
	s.snapshot()
	names, err := filepath.Glob(filepath.Join(s.dir.Path, "snapshot-*.vigil"))
	must(t, err)
	again := sharedStorage(t, s.dir.Path, 0)
	must(t, again.restore(context.Background(), nil))
	if len(names) != 1 || again.kafka.(*clusterLog).marks[0] != 7 || again.from[0] != 3 {
		t.Errorf("%v, marks %v, from %v", names, again.kafka.(*clusterLog).marks, again.from)
	}
}
