//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"vigil/e2e/broker"
)

// What all tests share: the programs, built once, and a broker that each test finds
// running, and leaves running.
var (
	workDir       string // for all tests; removed in the end
	pdp, loadtest string
	jars          string // of Kafka
	kafka         *broker.Broker
	missing       error // why there is no broker
)

// patience bounds every wait for something that has to come.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	workDir, err = os.MkdirTemp("", "vigil-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(workDir)
	pdp, loadtest = filepath.Join(workDir, "pdp"), filepath.Join(workDir, "loadtest")
	for program, path := range map[string]string{pdp: "vigil/cmd/pdp", loadtest: "vigil/loadtest"} {
		if out, err := exec.Command("go", "build", "-o", program, path).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("go build %s: %w\n%s", path, err, out)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return 0, err
	}
	jars, err = broker.Jars(context.Background(), filepath.Join(cache, "vigil"))
	if errors.Is(err, broker.ErrMissing) {
		missing = err
		return m.Run(), nil
	}
	if err != nil {
		return 0, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return 0, err
	}
	kafka, err = broker.New(broker.Config{Jars: jars, Dir: filepath.Join(workDir, "broker"), Port: ports[0]})
	if err != nil {
		return 0, err
	}
	if err := kafka.Start(context.Background()); err != nil {
		return 0, err
	}
	code = m.Run()
	err = kafka.Stop()
	for _, b := range sharedNodes {
		err = errors.Join(err, b.Kill()) // a quorum of them is needed to stop in order
	}
	return code, err
}

// freePorts finds so many ports that nobody listens on, nor on the next one of each. They
// are taken a moment later; on a machine where others start servers all the time that may
// fail. They are below those that Linux gives to whoever connects: a broker that comes back
// finds its own free.
func freePorts(n int) (ports []int, err error) {
	for range 100 {
		port := 20_000 + 2*rand.IntN(5_000)
		first, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer first.Close()
		second, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		if err != nil {
			continue
		}
		defer second.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no neighbouring ports are free")
}

// needKafka skips what a broker is needed for where none can be had. A broker that a failed
// test has left stopped is started again.
func needKafka(t *testing.T) {
	t.Helper()
	if missing != nil {
		t.Skip(missing)
	}
	startKafka(t)
}

func startKafka(t *testing.T) {
	t.Helper()
	must(t, kafka.Start(t.Context()))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fromEnv gives a size.
func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number of at least 1", name, text)
	}
	return n
}

// until polls: another process has no condition to wait on.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}
