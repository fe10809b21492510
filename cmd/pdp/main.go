// Command pdp is Vigil: the engine and the tools to work with it.
package main

func main() {}
