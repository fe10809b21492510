package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// bareAnswer is what the bare server always answers: a decision of ordinary length.
const bareAnswer = `{"decision":true,"context":{"effect":"allow","class":"allow","code":"allowed","obligations":[],"as_of":"v1.AAAAAAAAAAAAAAAAAAAAAAAB"}}`

// bareCommand serves one fixed answer with the timeouts of the decision port: the least
// that a decision over HTTP can cost. It says where on its first line, and ends when its
// input does.
func bareCommand(ctx context.Context, args []string, out, _ io.Writer) error {
	if len(args) > 0 {
		return badUsage("bare takes no flags; run --reference starts it")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	body := []byte(bareAnswer)
	server := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType("application/json")
			ctx.SetBody(body)
		},
		ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second,
		NoDefaultServerHeader: true, MaxRequestBodySize: 64 << 10,
	}
	fmt.Fprintf(out, "http://%s\n", ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Shutdown()
	}()
	stop := context.AfterFunc(ctx, func() { _ = server.Shutdown() })
	defer stop()
	return server.Serve(ln)
}

// measureBare puts the same load on a bare server, in a process of its own as the engine
// is.
func (o *runOptions) measureBare(ctx context.Context, w *Workload, log io.Writer) (result *loadResult, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "bare")
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer closing(&err, func() error {
		input.Close()
		return cmd.Wait()
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the bare server does not say where it is: %w", err)
	}
	to, err := parseTarget(strings.TrimSpace(line), false)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(log, "measuring a bare server for %s\n", o.duration)
	bare := func(duration time.Duration) *loadResult {
		load := o.decisions(w, to, duration)
		load.check = func(_, _, status int, body []byte) string {
			if status != http.StatusOK || effectOf(body) != allow {
				return fmt.Sprintf("status %d: %.100s", status, body)
			}
			return ""
		}
		return load.run(ctx)
	}
	if o.warmup > 0 {
		bare(o.warmup)
	}
	return bare(o.duration), nil
}
