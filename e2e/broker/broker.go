//go:build unix

// Package broker runs a real Apache Kafka on this machine, for tests and development: one
// node in KRaft mode (broker and controller in one process), or several that are a cluster,
// on loopback, from jars that Maven fetches once. It is no way to run Kafka for anything
// else: all copies are on one disk, and it asks for no credential.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Config says which broker, and where it keeps everything.
type Config struct {
	Jars string // as Jars gives them
	Dir  string // data, log and pid; its owner's alone. Made where it is not there
	Port int    // for clients; the controller has the next one. Both on 127.0.0.1
	// Settings are added to server.properties, over those that are set here.
	Settings map[string]string
	// Detached leaves the broker running when this process ends. Otherwise it ends with this
	// process, however that ends, where the system can do that (Linux).
	Detached bool
}

// Broker is one broker, which may run or not. Its methods are for one goroutine at a time.
type Broker struct {
	cfg     Config
	id      int     // node.id
	quorum  *quorum // nil for a node of its own
	process *os.Process
	ended   chan struct{} // closed when process has ended; of Start alone
}

const (
	propertiesName = "server.properties"
	pidName        = "pid"
	logName        = "broker.log"
	dataName       = "data"
)

// startTime and stopTime bound how long a broker may take; the usual is 3 s and 1 s, but
// three that start together on a busy machine have taken a minute.
const (
	startTime = 3 * time.Minute
	stopTime  = 30 * time.Second
)

// New gives the broker of a folder, without starting it. A process that runs it already, as
// its pid file says, is found.
func New(cfg Config) (*Broker, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkOwn(cfg.Dir); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, id: 1}
	return b, b.find()
}

// checkOwn refuses a folder that somebody else made, for the usual one is in a place where
// anyone may make one.
func checkOwn(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a folder that this user alone may write", dir)
	}
	return nil
}

// Address is where clients connect.
func (b *Broker) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.cfg.Port)) }

// Log is the file that the broker prints to. It is emptied at each start.
func (b *Broker) Log() string { return filepath.Join(b.cfg.Dir, logName) }

// Pid is the broker's process, 0 where none runs.
func (b *Broker) Pid() int {
	if !b.running() {
		return 0
	}
	return b.process.Pid
}

// find looks for a process that an earlier one has left running here. A pid may be another
// program's by now, so its command line must name our properties.
func (b *Broker) find() error {
	text, err := os.ReadFile(filepath.Join(b.cfg.Dir, pidName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// What holds no pid gives 0.
	if pid, _ := strconv.Atoi(strings.TrimSpace(string(text))); pid > 1 && strings.Contains(commandLine(pid), b.properties()) {
		b.process, err = os.FindProcess(pid)
	}
	return err
}

func (b *Broker) properties() string { return filepath.Join(b.cfg.Dir, propertiesName) }

func (b *Broker) running() bool {
	if b.process == nil {
		return false
	}
	if b.ended != nil {
		select {
		case <-b.ended:
			return false
		default:
			return true
		}
	}
	return strings.Contains(commandLine(b.process.Pid), b.properties())
}

// Start starts the broker on what its folder holds, and waits until it takes clients. One
// that runs is left as it is.
func (b *Broker) Start(ctx context.Context) error {
	if b.running() {
		return b.await(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := b.format(ctx); err != nil {
		return err
	}
	log, err := os.OpenFile(b.Log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// A small heap and one compiler: on two cores a broker is ready in half the time.
	cmd := exec.Command("java", "-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", filepath.Join(b.cfg.Jars, "*"), "kafka.Kafka", b.properties())
	cmd.Dir = b.cfg.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(b.cfg.Detached)
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		// Where a broker is to end with its parent, that is the thread that started it.
		lockThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	b.process, b.ended = cmd.Process, ended
	if err := os.WriteFile(filepath.Join(b.cfg.Dir, pidName), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		return errors.Join(err, b.Kill())
	}
	if err := b.await(ctx); err != nil {
		return errors.Join(err, b.Kill())
	}
	return nil
}

// serving is what the broker prints when everything is up.
const serving = "Kafka Server started"

// await waits until the broker has said that it serves, and its port answers.
func (b *Broker) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		text, err := os.ReadFile(b.Log())
		if err != nil {
			return err
		}
		if strings.Contains(string(text), serving) {
			conn, err := net.DialTimeout("tcp", b.Address(), time.Second)
			if err == nil {
				return conn.Close()
			}
		}
		if !b.running() {
			return fmt.Errorf("the broker ended by itself:\n%s", tail(text))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the broker does not answer: %w\n%s", ctx.Err(), tail(text))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the broker in order (SIGTERM) and waits until it is gone.
func (b *Broker) Stop() error {
	if !b.running() {
		return nil
	}
	if err := b.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if b.gone(stopTime) {
		return nil
	}
	return errors.Join(fmt.Errorf("the broker did not stop within %s and was killed", stopTime), b.Kill())
}

// Kill ends the broker as a defect would (SIGKILL) and waits until it is gone.
func (b *Broker) Kill() error { return b.end(syscall.SIGKILL) }

func (b *Broker) end(how syscall.Signal) error {
	if !b.running() {
		return nil
	}
	if err := b.process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if !b.gone(stopTime) {
		return fmt.Errorf("process %d does not end", b.process.Pid)
	}
	return nil
}

func (b *Broker) signal(s syscall.Signal) error {
	if !b.running() {
		return errors.New("the broker does not run")
	}
	return b.process.Signal(s)
}

// gone waits for the end of the process and reports whether it came.
func (b *Broker) gone(within time.Duration) bool {
	for deadline := time.Now().Add(within); b.running(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	_ = os.Remove(filepath.Join(b.cfg.Dir, pidName)) // a stale one is noticed by its command line
	return true
}

// Wipe removes everything that a stopped broker has kept. The next start makes a new
// cluster.
func (b *Broker) Wipe() error {
	if b.running() {
		return errors.New("the broker runs")
	}
	return os.RemoveAll(filepath.Join(b.cfg.Dir, dataName))
}

// Suspend stops a broker where it is (SIGSTOP); Resume lets it go on.
func (b *Broker) Suspend() error { return b.signal(syscall.SIGSTOP) }

// Resume lets a suspended broker go on.
func (b *Broker) Resume() error { return b.signal(syscall.SIGCONT) }
