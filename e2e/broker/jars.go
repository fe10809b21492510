//go:build unix

package broker

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Version is the Kafka that runs; pom.xml names the same.
const Version = "4.3.1"

//go:embed pom.xml
var pom []byte

// ErrMissing is that this machine has no Java, or neither the jars nor a Maven to fetch
// them with. What needs a broker is then skipped.
var ErrMissing = errors.New("a real Kafka needs Java 17 or newer and Maven")

// leastJava is what Kafka 4 runs on.
const leastJava = 17

// jarsTime bounds the fetching of the jars; it is 54 MB once.
const jarsTime = 10 * time.Minute

// manifestName is a file beside the jars that lists them with their sizes. It is written
// last, before the folder gets its name.
const manifestName = "complete"

// Jars gives the folder with the jars of Kafka below cache, and fetches them with Maven
// where they are not there whole. Several processes may call it at once.
func Jars(ctx context.Context, cache string) (string, error) {
	if err := checkJava(ctx); err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "kafka-"+Version)
	if whole(dir) {
		return dir, nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return "", fmt.Errorf("%w: there is no mvn, and no Kafka in %s", ErrMissing, dir)
	}
	ctx, cancel := context.WithTimeout(ctx, jarsTime)
	defer cancel()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(cache, "kafka-fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	lib := filepath.Join(fresh, "lib")
	if err := os.WriteFile(filepath.Join(fresh, "pom.xml"), pom, 0o644); err != nil {
		return "", err
	}
	fetch := exec.CommandContext(ctx, mvn, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory="+lib, "-DincludeScope=runtime")
	fetch.Dir = fresh
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetching Kafka %s with Maven: %w\n%s", Version, err, tail(out))
	}
	if err := writeManifest(lib); err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	// Another process may have been quicker; its jars are as good.
	if err := os.Rename(lib, dir); err != nil && !whole(dir) {
		return "", err
	}
	return dir, nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

func checkJava(ctx context.Context) error {
	java, err := exec.LookPath("java")
	if err != nil {
		return fmt.Errorf("%w: there is no java", ErrMissing)
	}
	out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: java -version: %w: %s", ErrMissing, err, tail(out))
	}
	if m := javaVersion.FindSubmatch(out); m != nil {
		if major, err := strconv.Atoi(string(m[1])); err == nil && major < leastJava {
			return fmt.Errorf("%w: java is %d", ErrMissing, major)
		}
	}
	return nil
}

func writeManifest(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var text strings.Builder
	kafka := false
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		kafka = kafka || e.Name() == "kafka_2.13-"+Version+".jar"
		fmt.Fprintf(&text, "%d %s\n", info.Size(), e.Name())
	}
	if !kafka {
		return fmt.Errorf("maven fetched %d files and no Kafka %s", len(entries), Version)
	}
	return os.WriteFile(filepath.Join(dir, manifestName), []byte(text.String()), 0o644)
}

// whole reports whether every jar of the manifest is there with its size. A cache folder is
// a place where things disappear.
func whole(dir string) bool {
	manifest, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil || len(manifest) == 0 {
		return false
	}
	for line := range strings.Lines(string(manifest)) {
		size, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode()&fs.ModeType != 0 || strconv.FormatInt(info.Size(), 10) != size {
			return false
		}
	}
	return true
}

// tail gives the end of what a program printed.
func tail(out []byte) string {
	return strings.TrimSpace(string(out[max(0, len(out)-2000):]))
}
