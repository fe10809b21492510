// Package rules turns a bundle of YAML files with CEL expressions into an immutable
// Set: parsed, type-checked, bounded in cost, indexed. It is the only importer of CEL.
//
// Everything that can be wrong with a bundle is found when it loads, all of it at once,
// with file, line and column.
package rules
