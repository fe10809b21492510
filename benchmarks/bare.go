package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

// bareCommand serves one fixed answer, read from a file, with the timeouts and buffers of
// the decision port: the least that a decision over HTTP can cost. It says where on its
// first line, and ends when its input does.
func bareCommand(ctx context.Context, args []string, out, _ io.Writer) error {
	if len(args) != 1 {
		return badUsage("bare is for this program's own use")
	}
	body, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType("application/json")
			ctx.SetBody(body)
		},
		ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second,
		ReadBufferSize: 16 << 10, WriteBufferSize: 4 << 10, MaxRequestBodySize: 64 << 10,
		NoDefaultServerHeader: true, NoDefaultContentType: true, LazyRequestTime: true, CloseOnShutdown: true,
	}
	fmt.Fprintln(out, ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Shutdown()
	}()
	stop := context.AfterFunc(ctx, func() { _ = server.Shutdown() })
	defer stop()
	return server.Serve(ln)
}
