// Package archtest holds the house together: its tests fail when a package imports what
// it may not, reads a clock or the environment where it may not, lacks its comment, or
// when a file has outgrown one idea or names a place on somebody's machine.
package archtest
