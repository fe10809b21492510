//go:build !linux

package main

import (
	"context"
	"io"
	"os"
	"os/exec"
)

// pinnedCommand runs another program where the system keeps no program on a processor.
func pinnedCommand(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) < 2 {
		return badUsage("pinned is for this program's own use")
	}
	cmd := exec.CommandContext(ctx, args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, log
	return cmd.Run()
}
