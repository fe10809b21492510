// Package enginetest is what tests of several rooms share about decisions: the naive twin
// of the engine, which they hold the engine against.
package enginetest
