//go:build unix

package broker

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The nodes of a cluster find each other by what each of them is told alone.
func TestTheNodesOfAClusterAreToldTheSameOfIt(t *testing.T) {
	dir := t.TempDir()
	ports := []int{21000, 21010, 21020}
	all, err := NewCluster(Config{Dir: dir, Settings: map[string]string{"broker.session.timeout.ms": "3000"}}, ports)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range all {
		// Its folder is made already, so that no program is run.
		data := filepath.Join(b.cfg.Dir, dataName)
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "meta.properties"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.format(t.Context()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(b.properties())
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		for _, want := range []string{
			"node.id=" + []string{"1", "2", "3"}[i],
			"controller.quorum.bootstrap.servers=127.0.0.1:21001,127.0.0.1:21011,127.0.0.1:21021",
			"broker.session.timeout.ms=3000",
			"log.dirs=" + data,
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("node %d is not told %s:\n%s", i+1, want, text)
			}
		}
		if !strings.Contains(string(text), "PLAINTEXT://"+b.Address()) || !slices.Equal(b.quorum.format(), all[0].quorum.format()) {
			t.Errorf("node %d: %s, %v\n%s", i+1, b.Address(), b.quorum.format(), text)
		}
	}
	as := all[0].quorum.format()
	if len(as) != 4 || strings.Count(as[1], "@127.0.0.1:21") != 3 || strings.HasPrefix(as[3], "-") || len(as[3]) != 22 {
		t.Errorf("%v", as)
	}
}
