//go:build unix

package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// format writes the properties, and makes the data folder where there is none yet.
func (b *Broker) format(ctx context.Context) error {
	data := filepath.Join(b.cfg.Dir, dataName)
	listeners := fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", b.cfg.Port, b.cfg.Port+1)
	settings := map[string]string{
		"process.roles":                       "broker,controller",
		"node.id":                             strconv.Itoa(b.id),
		"controller.quorum.bootstrap.servers": fmt.Sprintf("127.0.0.1:%d", b.cfg.Port+1),
		"listeners":                           listeners,
		"advertised.listeners":                listeners,
		"controller.listener.names":           "CONTROLLER",
		"listener.security.protocol.map":      "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs":                            data,
		// A topic is made by whoever knows its settings, or not at all.
		"auto.create.topics.enable": "false",
		// What one node cannot have more of.
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		// A small machine: 50 partitions of a topic that hardly anybody uses, 128 MiB for a
		// cleaner that has nothing to clean.
		"offsets.topic.num.partitions":         "1",
		"transaction.state.log.num.partitions": "1",
		"group.initial.rebalance.delay.ms":     "0",
		"log.cleaner.dedupe.buffer.size":       "8388608",
		// After kill -9 the controller waits for the end of the old broker's lease: 9 s usually.
		"broker.session.timeout.ms":    "4000",
		"broker.heartbeat.interval.ms": "500",
		"num.network.threads":          "2",
		"num.io.threads":               "4",
	}
	if b.quorum != nil {
		settings["controller.quorum.bootstrap.servers"] = b.quorum.controllers()
	}
	maps.Copy(settings, b.cfg.Settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", name, settings[name])
	}
	if err := os.WriteFile(b.properties(), []byte(text.String()), 0o600); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(data, "meta.properties"))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A folder that is half made is made anew.
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	as := []string{"--standalone", "-t", newID()}
	if b.quorum != nil {
		as = b.quorum.format()
	}
	_, err = b.storage(ctx, append([]string{"format", "-c", b.properties()}, as...)...)
	return err
}

// storage runs Kafka's tool for data folders and gives the last line it prints.
func (b *Broker) storage(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "java", append([]string{"-Xmx128m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(b.cfg.Jars, "*"), "kafka.tools.StorageTool"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		return "", fmt.Errorf("kafka.tools.StorageTool %s: %w\n%s", args[0], err, tail(out))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}
