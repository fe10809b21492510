// The benchmarks are a module of their own, so that nothing that only they need becomes a
// dependency of the engine. go.work joins the two; the commands in the Makefile run here.
module vigil/benchmarks

go 1.26.0

require (
	cel.dev/cel-go v0.33.2
	github.com/go-json-experiment/json v1.27.2
	github.com/klauspost/compress v1.20.3
	github.com/valyala/fasthttp v1.78.0
	golang.org/x/sys v0.49.0
)
