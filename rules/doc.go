// Package rules turns a bundle of YAML files with CEL expressions into an immutable
// Set: parsed, type-checked, bounded in cost, indexed. It is the only importer of CEL.
//
// LoadDir is the way in: it reads a directory (readFolder), parses its files strictly
// (Parse), checks what they say of one another, and compiles the expressions (Compile).
// Everything that can be wrong with a bundle is found when it loads, all of it at once,
// with file, line, column and the line itself. Bundles may come from anywhere: size,
// depth, number and cost of everything in them are bounded.
//
// Nothing depends on the order of files, rules or keys. A bundle can be sealed with the
// digests of its files (WriteSeal), kept (Bundle.Save), and brings its own tests
// (TestRun). Schema describes its files for editors.
package rules
