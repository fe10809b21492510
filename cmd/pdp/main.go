// Command pdp is Vigil: the engine and the tools to work with it.
//
// It is the only package that reads the environment and that wires the others
// together. The work is in the packages it calls.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(newApp().Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
