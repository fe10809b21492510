package snapshot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"vigil/posture"
	"vigil/signals"
)

// TestReceivedSnapshotsAreWholeOrAbsent: what another process sends is believed as little as
// a file is.
func TestReceivedSnapshotsAreWholeOrAbsent(t *testing.T) {
	log := signals.LogID{7}
	store := posture.NewStore()
	var sent bytes.Buffer
	if err := Write(&sent, Meta{Log: log, Positions: signals.Positions{0: 5}, Now: 1, Marks: []byte("m")}, store); err != nil {
		t.Fatal(err)
	}
	whole := sent.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-3] ^= 1
	broken := errors.New("the connection broke")
	for _, c := range []struct {
		name  string
		r     io.Reader
		limit int64
		want  string // in the error; "" for a snapshot
	}{
		{"whole", bytes.NewReader(whole), 1 << 20, ""},
		{"just as long as may be", iotest.OneByteReader(bytes.NewReader(whole)), int64(len(whole)), ""},
		{"too long", bytes.NewReader(whole), int64(len(whole)) - 1, "longer than"},
		{"a header that is too long", bytes.NewReader(whole), 20, "ends too early"},
		{"endless", io.MultiReader(bytes.NewReader(whole), endless{}), 1 << 20, "longer than"},
		{"cut", bytes.NewReader(whole[:len(whole)-1]), 1 << 20, "damaged"},
		{"cut in the header", bytes.NewReader(whole[:50]), 1 << 20, "damaged"},
		{"a flipped bit", bytes.NewReader(flipped), 1 << 20, "damaged"},
		{"something after it", io.MultiReader(bytes.NewReader(whole), strings.NewReader("x")), 1 << 20, "damaged"},
		{"no snapshot", strings.NewReader("<html>not found</html>" + strings.Repeat(" ", 100)), 1 << 20, "does not begin like a snapshot"},
		{"a connection that breaks", io.MultiReader(bytes.NewReader(whole[:len(whole)-9]), iotest.ErrReader(broken)), 1 << 20, broken.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Dir{Path: filepath.Join(t.TempDir(), "snapshots")}
			path, meta, err := d.Receive(c.r, c.limit, Of(log))
			left, _ := os.ReadDir(d.Path)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || len(left) > 0 {
					t.Errorf("%v, want %q; left is %v", err, c.want, left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := d.Newest(Of(log), 1)
			if err != nil || got.Positions[0] != 5 || meta.Positions[0] != 5 || string(got.Marks) != "m" || len(left) != 1 || filepath.Base(path) != left[0].Name() {
				t.Errorf("%s: %v %v, %v; left is %v", path, meta, got, err, left)
			}
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestAReceivedSnapshotThatIsNotWantedIsNotRead past its header.
func TestAReceivedSnapshotThatIsNotWantedIsNotRead(t *testing.T) {
	var sent bytes.Buffer
	if err := Write(&sent, Meta{Log: signals.LogID{7}, Positions: signals.Positions{0: 5}, Now: 1}, posture.NewStore()); err != nil {
		t.Fatal(err)
	}
	size := sent.Len()
	d := Dir{Path: t.TempDir()}
	if _, _, err := d.Receive(&sent, 1<<20, Of(signals.LogID{8})); err == nil || !strings.Contains(err.Error(), "not of log") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(d.Path); sent.Len() == 0 || sent.Len() == size || len(left) > 0 {
		t.Errorf("%d of %d bytes were not read; left is %v", sent.Len(), size, left)
	}
}
