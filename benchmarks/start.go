package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"vigil/posture"
)

// measureStart starts the engine on a snapshot of many agents until it answers, beside the
// least that reading one can cost: decoding the file with zstd and filling a Go map. Both
// are processes of their own; that of the engine is timed from its very beginning, rules
// and ports included, that of the reference within.
func (b *bench) measureStart(ctx context.Context) error {
	agents := choose(b, 400_000, 1_000_000)
	data, file, err := b.writeData(newFleet(agents))
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	nothing, _, err := b.writeData(posture.NewStore())
	if err != nil {
		return err
	}
	var ready, used, reference, decoding, empty []float64
	for round := range choose(b, 3, 7) {
		b.say("start: %s agents, round %d", thousands(float64(agents)), round+1)
		least, busy, err := b.decodeTime(file, agents)
		if err != nil {
			return err
		}
		e, err := b.serve(ctx, serverProcessor, nothing)
		if err != nil {
			return err
		}
		empty = append(empty, float64(processorTime(e.cmd.Process.Pid)))
		e.stop()
		e, err = b.serve(ctx, serverProcessor, data)
		if err != nil {
			return err
		}
		used = append(used, float64(processorTime(e.cmd.Process.Pid)))
		e.stop()
		ready, reference, decoding = append(ready, float64(e.ready)), append(reference, float64(least)), append(decoding, float64(busy))
	}
	b.add(ratio("start.ready", "from start to ready, "+thousands(float64(agents))+" agents in the snapshot", "zstd decoding the file, and filling a Go map", nanoseconds, ready, reference,
		fmt.Sprintf("the file has %.1f MB; one processor each; starting the process, the journal and the rules are in the time", float64(info.Size())/1e6)))
	if used[0] > 0 {
		b.add(ratio("start.cpu", "from start to ready: processor time", "zstd decoding the file, and filling a Go map", nanoseconds, used, decoding, "what others do on the machine is not in it"))
		b.add(alone("start.empty", "from start to ready without any agent: processor time", nanoseconds, median(empty), "the part of the start that agents have no share in"))
	}
	return nil
}

// decodeTime gives how long the reference took, and how long of that on a processor.
func (b *bench) decodeTime(file string, agents int) (took, busy time.Duration, err error) {
	c, err := b.startSelf(serverProcessor, "decode", file, strconv.Itoa(agents))
	if err != nil {
		return 0, 0, err
	}
	defer c.stop()
	text, err := c.line()
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(text, (*int64)(&took), (*int64)(&busy))
	return took, busy, err
}

// decodeCommand decodes the parts of a snapshot and fills a map with as many agents, and
// prints how long the two took together, in nanoseconds, by the clock and on processors:
// `decode FILE AGENTS`.
func decodeCommand(_ context.Context, args []string, out, _ io.Writer) error {
	if len(args) != 2 {
		return badUsage("decode is for this program's own use")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	agents, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ids := make([]string, agents)
	for i := range ids {
		ids[i] = agentID(i)
	}
	parts, err := partsOf(data)
	if err != nil {
		return err
	}
	begin, used := time.Now(), processorTime(os.Getpid())
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	var buffer []byte
	for _, part := range parts {
		if buffer, err = decoder.DecodeAll(part, buffer[:0]); err != nil {
			return err
		}
	}
	known := map[string]*int{}
	for i, id := range ids {
		known[id] = &i
	}
	took, busy := time.Since(begin), processorTime(os.Getpid())-used
	decoder.Close()
	if len(known) != agents {
		return errors.New("the map is not full")
	}
	fmt.Fprintln(out, int64(took), int64(busy))
	return nil
}

// partsOf finds the compressed parts of a snapshot; see package snapshot for its form.
func partsOf(file []byte) (parts [][]byte, err error) {
	const headerSize = 12
	if len(file) < headerSize+4 {
		return nil, errors.New("too short for a snapshot")
	}
	at := uint64(binary.LittleEndian.Uint32(file[headerSize:]))
	for {
		if at+9 > uint64(len(file)) {
			return nil, errors.New("the snapshot ends early")
		}
		kind, size := file[at], uint64(binary.LittleEndian.Uint32(file[at+1:]))
		if kind == 0 {
			return parts, nil
		}
		if at+9+size > uint64(len(file)) {
			return nil, errors.New("the snapshot ends within a part")
		}
		if kind == 1 {
			parts = append(parts, file[at+9:at+9+size])
		}
		at += 9 + size
	}
}
