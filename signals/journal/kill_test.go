package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	childEnv = "VIGIL_JOURNAL_CHILD" // the folder in which a child appends
	killsEnv = "VIGIL_JOURNAL_KILLS" // how often to kill; 40
)

func isChild() bool { return os.Getenv(childEnv) != "" }

// child appends from several goroutines until it is killed. It reports what was
// acknowledged, and only that, a line each.
func child() {
	j, err := Open(os.Getenv(childEnv), Options{SegmentBytes: 64 << 10, MarkAfter: time.Millisecond})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("open", j.Head())
	start := j.Head()
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				var batch [][]byte
				for k := range 1 + (g+i)%3 {
					batch = append(batch, fmt.Appendf(nil, "%d/%d/%d/%d %s", start, g, i, k, strings.Repeat("x", (g*31+i)%400)))
				}
				at, err := j.Append(context.Background(), batch)
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				for k, p := range at {
					word, _, _ := strings.Cut(string(batch[k]), " ")
					_, _ = os.Stdout.WriteString(fmt.Sprintf("acknowledged %d %s\n", p.Offset, word))
				}
			}
		})
	}
	group.Wait()
}

func kills(t *testing.T) int {
	if s := os.Getenv(killsEnv); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return 5
	}
	return 40
}

// Killed by SIGKILL at any moment under load, over and over, in one folder: what was
// acknowledged before any of the kills is there, in its place.
func TestKill9LosesNoAcknowledgedRecord(t *testing.T) {
	folder := t.TempDir()
	acknowledged := map[int64]string{}
	unreported := 0
	for round := range kills(t) {
		for offset, word := range runAndKill(t, folder, time.Duration(rand.Int64N(int64(25*time.Millisecond)))) {
			if before, known := acknowledged[offset]; known && before != word {
				t.Fatalf("round %d: record %d was acknowledged as %s and as %s", round, offset, before, word)
			}
			acknowledged[offset] = word
		}
		j, err := Open(folder, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		records, err := follow(j, 0)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for offset, word := range acknowledged {
			if offset >= int64(len(records)) {
				t.Fatalf("round %d: record %d, %s, was acknowledged; the log ends at %d", round, offset, word, len(records))
			}
			if got, _, _ := strings.Cut(records[offset], " "); got != word {
				t.Fatalf("round %d: record %d is %s, acknowledged was %s", round, offset, got, word)
			}
		}
		// What is shown now must be shown for good, reported or not.
		for offset, record := range records {
			if _, known := acknowledged[int64(offset)]; !known {
				unreported++
				acknowledged[int64(offset)], _, _ = strings.Cut(record, " ")
			}
		}
		checkOrder(t, records)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d records, %d of them never reported", len(acknowledged), unreported)
}

// checkOrder wants each goroutine's records in the order in which it appended them.
func checkOrder(t *testing.T, records []string) {
	t.Helper()
	last := map[[2]int][2]int{}
	for offset, record := range records {
		var start, g, i, k int
		if _, err := fmt.Sscanf(record, "%d/%d/%d/%d", &start, &g, &i, &k); err != nil {
			t.Fatalf("record %d is %.40q", offset, record)
		}
		who, at := [2]int{start, g}, [2]int{i, k}
		if before, seen := last[who]; seen && (at[0] < before[0] || at[0] == before[0] && at[1] <= before[1]) {
			t.Fatalf("record %d, %s, stands behind %v of the same appender", offset, record, before)
		}
		last[who] = at
	}
}

// runAndKill runs a child, kills it a while after it is at work, and gives what it
// reported in whole lines.
func runAndKill(t *testing.T, folder string, after time.Duration) map[int64]string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+folder)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := map[int64]string{}
	lines := bufio.NewReader(out)
	var timer *time.Timer
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		var offset int64
		var word string
		if _, err := fmt.Sscanf(line, "acknowledged %d %s", &offset, &word); err == nil {
			got[offset] = word
		} else if strings.HasPrefix(line, "open ") {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		} else {
			_ = cmd.Process.Kill()
			t.Errorf("the child says %q", line)
		}
	}
	if timer != nil {
		timer.Stop()
	}
	_ = cmd.Wait()
	if cmd.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", cmd.ProcessState)
	}
	return got
}

// A second process is refused while a first uses the folder, and told which one it is;
// the kernel frees the folder when the first is killed.
func TestSecondProcessIsRefusedAndNamesTheFirst(t *testing.T) {
	folder := t.TempDir()
	j, err := Open(folder, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+folder)
	out, err := cmd.Output()
	if err == nil || !strings.Contains(string(out), "in use by process "+strconv.Itoa(os.Getpid())) {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := j.Append(t.Context(), [][]byte{[]byte("still mine")}); err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := runAndKill(t, folder, time.Millisecond); got[0] != "" {
		t.Errorf("the child wrote over record 0: %s", got[0])
	}
}
