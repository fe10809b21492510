package deadletter

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/disk"
	"vigil/disk/disktest"
	"vigil/signals"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dir = "/d"

// clock moves by hand.
type clock struct{ now atomic.Int64 }

func (c *clock) Now() authz.Instant { return authz.Instant(c.now.Load()) }

func newClock() *clock {
	c := new(clock)
	c.now.Store(1795575850 * int64(time.Second))
	return c
}

func open(t *testing.T, m disk.FS, c *clock, change ...func(*Config)) *File {
	t.Helper()
	cfg := Config{Dir: dir, Now: c.Now, FS: m}
	for _, f := range change {
		f(&cfg)
	}
	f, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func letter(i int) signals.DeadLetter {
	record := fmt.Appendf(nil, "record %d", i)
	return signals.DeadLetter{
		Position: signals.Position{Partition: 5<<12 | 3, Offset: int64(i)}, Partition: "risk/3", Appended: 1795575850_000000001,
		Source: "topic:risk", ID: fmt.Sprint(i), Reason: `it is "bad"`, Record: record, Size: len(record),
	}
}

func mustRead(t *testing.T, m disk.FS, limit int) Found {
	t.Helper()
	found, err := Read(m, dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func offsets(found Found) (all []int64) {
	for _, l := range found.Letters {
		all = append(all, l.Position.Offset)
	}
	return all
}

// TestLettersAreReadBackAsTheyWere, on a real disk, where nobody else may read them.
func TestLettersAreReadBackAsTheyWere(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "dead")
	f := open(t, disk.OS, newClock(), func(cfg *Config) { cfg.Dir = folder })
	want := []signals.DeadLetter{
		letter(0),
		{Position: signals.Position{Partition: signals.SpoolPartition, Offset: 9}, Partition: "spool", Appended: 1, Reason: "r", Record: []byte{0xff, 0, '\n'}, Size: 70000},
		{Reason: "nothing else is known"},
	}
	for _, l := range want {
		f.Add(l)
	}
	f.Add(signals.DeadLetter{Position: signals.Position{Offset: 1}, Reason: "no\xffUTF-8", ID: string(make([]byte, longestText+1))})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Read(nil, folder, 10)
	if err != nil || len(got.Letters) != 4 || got.Skipped != 0 || got.Damaged != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if !reflect.DeepEqual(got.Letters[:3], want) {
		t.Errorf("got  %+v\nwant %+v", got.Letters, want)
	}
	if l := got.Letters[3]; l.Reason != "no\uFFFDUTF-8" || len(l.ID) != longestText {
		t.Errorf("got %q, an id of %d bytes", l.Reason, len(l.ID))
	}
	for path, perm := range map[string]fs.FileMode{folder: 0o700, filepath.Join(folder, fileName): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != perm {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if f.Add(letter(5)); f.Stats().Skipped != 1 || f.Stats().Written != 4 {
		t.Errorf("after it was closed: %+v", f.Stats())
	}
	if none, err := Read(nil, t.TempDir(), 10); err != nil || len(none.Letters) != 0 {
		t.Errorf("an empty folder: %+v, %v", none, err)
	}
}

// TestAMillionDeadLettersNeitherWaitNorFillTheDisk: what is not written is counted, and the
// file says so. The disk is stuck for the first half.
func TestAMillionDeadLettersNeitherWaitNorFillTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := disktest.New(), newClock()
		stuck := make(chan struct{})
		m.SetFault(func(_ disktest.Op, _ string, asked int) (int, error) {
			<-stuck
			return asked, nil
		})
		f := open(t, m, c)
		const n = 1_000_000
		big := letter(0)
		big.Record = bytes.Repeat([]byte("x"), signals.MaxDeadRecord)
		for i := range n {
			if i == n/2 {
				close(stuck)
				time.Sleep(time.Second) // as long as it takes
			}
			if i%1000 == 0 {
				c.now.Add(int64(time.Millisecond))
			}
			big.Position.Offset = int64(i)
			f.Add(big)
		}
		synctest.Wait()
		time.Sleep(2 * settleAfter)
		synctest.Wait()
		st := f.Stats()
		if st.Written+st.Skipped != n || st.Written == 0 || st.LastError != "" {
			t.Errorf("%+v", st)
		}
		if used := m.Used(); used > 3*bytesAtOnce {
			t.Errorf("%d bytes", used)
		}
		if found := mustRead(t, m, n); uint64(len(found.Letters)) != st.Written || found.Skipped != st.Skipped || found.Damaged != 0 {
			t.Errorf("%d letters and %d skipped in the file, %+v in fact", len(found.Letters), found.Skipped, st)
		}
		// Afterwards there is room again, as time goes by.
		c.now.Add(int64(time.Minute))
		f.Add(letter(n))
		synctest.Wait()
		if f.Stats().Written != st.Written+1 {
			t.Error("after a quiet minute nothing is written")
		}
	})
}

// TestTheRateIsBounded by letters and by bytes, whatever the clock does.
func TestTheRateIsBounded(t *testing.T) {
	for _, size := range []int{0, signals.MaxDeadRecord} {
		synctest.Test(t, func(t *testing.T) {
			m, c := disktest.New(), newClock()
			f := open(t, m, c)
			add := func(n int) uint64 {
				before := f.Stats().Written
				for range n {
					f.Add(signals.DeadLetter{Record: make([]byte, size)})
					synctest.Wait() // so that the queue is never full
				}
				return f.Stats().Written - before
			}
			most := min(atOnce, bytesAtOnce/(size+512))
			if got := add(atOnce + 100); got != uint64(most) {
				t.Errorf("records of %d bytes: %d at once, want %d", size, got, most)
			}
			c.now.Add(-int64(time.Hour))
			if got := add(10); got != 0 {
				t.Errorf("%d after the clock went back", got)
			}
			c.now.Add(int64(time.Hour + time.Second))
			most = min(perSecond, bytesPerSecond/(size+512))
			if got := add(perSecond + 10); got > uint64(most)+1 || got < uint64(most)-1 {
				t.Errorf("records of %d bytes: %d in a second, want %d", size, got, most)
			}
		})
	}
}

// TestAFullFileIsPutAsideAndOneOldIsKept: the latest are always there, and nothing grows.
func TestAFullFileIsPutAsideAndOneOldIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := disktest.New(), newClock()
		const most = 4096
		small := func(cfg *Config) { cfg.MaxBytes = most }
		f := open(t, m, c, small)
		for i := range 200 {
			if i%50 == 49 { // a start in between changes nothing
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				f = open(t, m, c, small)
			}
			f.Add(letter(i))
			synctest.Wait()
			if used := m.Used(); used > 2*most {
				t.Fatalf("%d bytes after %d letters", used, i+1)
			}
			got := offsets(mustRead(t, m, 5))
			for k, offset := range got {
				if offset != int64(i-len(got)+1+k) {
					t.Fatalf("after %d letters the latest are %v", i+1, got)
				}
			}
			if len(got) != min(i+1, 5) {
				t.Fatalf("after %d letters: %v", i+1, got)
			}
		}
	})
}

// TestALineThatWasNotFinishedCostsNoOther: the process may end anywhere in a write.
func TestALineThatWasNotFinishedCostsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := func() []byte {
			m := disktest.New()
			f := open(t, m, newClock())
			f.Add(letter(0))
			f.Add(letter(1))
			_ = f.Close()
			return m.Contents(dir + "/" + fileName)
		}()
		first := bytes.IndexByte(whole, '\n') + 1
		for cut := range len(whole) + 1 {
			m := disktest.New()
			m.Put(dir+"/"+fileName, whole[:cut])
			f := open(t, m, newClock())
			f.Add(letter(2))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			want := []int64{2}
			if cut >= first-1 {
				want = []int64{0, 2}
			}
			if cut >= len(whole)-1 {
				want = []int64{0, 1, 2}
			}
			if found := mustRead(t, m, 10); !reflect.DeepEqual(offsets(found), want) {
				t.Fatalf("cut at %d: %v, want %v", cut, offsets(found), want)
			}
		}
	})
}

// TestADiskThatFailsIsCountedAndSurvived: every letter is in the file, or counted in it.
func TestADiskThatFailsIsCountedAndSurvived(t *testing.T) {
	for _, op := range []disktest.Op{disktest.OpOpen, disktest.OpWrite, disktest.OpSync, disktest.OpRename} {
		for _, most := range []int64{600, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				m, c := disktest.New(), newClock()
				f := open(t, m, c, func(cfg *Config) { cfg.MaxBytes = most })
				wait := func() {
					time.Sleep(2 * settleAfter)
					synctest.Wait()
				}
				m.SetFault(func(at disktest.Op, _ string, asked int) (int, error) {
					if at == op {
						return asked / 2, errors.New("no")
					}
					return asked, nil
				})
				for i := range 8 {
					f.Add(letter(i))
					wait()
				}
				st := f.Stats()
				if failed := st.LastError != ""; failed != (op != disktest.OpRename || most == 600) && op != disktest.OpSync || st.Written+st.Skipped != 8 {
					t.Errorf("%s fails: %+v", op, st)
				}
				m.SetFault(nil)
				f.Add(letter(8))
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				st = f.Stats()
				found := mustRead(t, m, 10)
				if n := len(found.Letters); n == 0 || found.Letters[n-1].Position.Offset != 8 || st.Written+st.Skipped != 9 {
					t.Errorf("%s failed: %v, %+v", op, offsets(found), st)
				}
				if most > 600 && (uint64(len(found.Letters)) != st.Written || found.Skipped != st.Skipped) {
					t.Errorf("%s failed: %d letters and %d skipped in the file, %+v in fact", op, len(found.Letters), found.Skipped, st)
				}
			})
		}
	}
}

// TestARecordIsToldOnce, though each start reads the log again.
func TestARecordIsToldOnce(t *testing.T) {
	m := disktest.New()
	f := open(t, m, newClock())
	for _, i := range []int{0, 1, 2, 1, 0, 3} {
		f.Add(letter(i))
	}
	other := letter(1)
	other.Partition, other.Position.Partition = "risk/4", 5<<12|4
	f.Add(other)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := offsets(mustRead(t, m, 10)); !reflect.DeepEqual(got, []int64{2, 1, 0, 3, 1}) {
		t.Errorf("got %v", got)
	}
	if got := offsets(mustRead(t, m, 2)); !reflect.DeepEqual(got, []int64{3, 1}) {
		t.Errorf("the latest two are %v", got)
	}
}

// TestLinesOfOthersAreNoLetters.
func TestLinesOfOthersAreNoLetters(t *testing.T) {
	m := disktest.New()
	m.Put(dir+"/"+fileName, []byte(`{"v":2,"offset":1}`+"\n"+`{"v":1}`+"\nhello\n\n"+`{"v":1,"offset":7,"later":true}`+"\n"))
	if found := mustRead(t, m, 10); found.Damaged != 3 || !reflect.DeepEqual(offsets(found), []int64{7}) {
		t.Errorf("%+v", found)
	}
}
