package rules

import (
	_ "embed"
	"slices"
)

// The schemas are written by hand, for their descriptions are what an editor shows; tests
// hold them to what Parse accepts.
var (
	//go:embed schema/bundle.schema.json
	bundleSchema []byte
	//go:embed schema/rules.schema.json
	rulesSchema []byte
	//go:embed schema/rules_test.schema.json
	testSchema []byte
)

// SchemaFile is one JSON Schema (draft 2020-12).
type SchemaFile struct {
	Name    string // such as "bundle.schema.json"
	Applies string // the files it is for, as a pattern of names
	JSON    []byte
}

// Schema gives the JSON Schemas of the files of a bundle, for editors. They accept what
// Parse accepts; Parse checks more, such as that names are declared.
func Schema() []SchemaFile {
	return []SchemaFile{
		{"bundle.schema.json", manifestName, slices.Clone(bundleSchema)},
		{"rules.schema.json", "*" + yamlSuffix, slices.Clone(rulesSchema)},
		{"rules_test.schema.json", "*" + testSuffix, slices.Clone(testSchema)},
	}
}
