// Package docs holds the documents that the program itself gives out.
package docs

import _ "embed"

// OpenAPI describes both ports, in OpenAPI 3.1 (YAML). Nobody changes it.
//
//go:embed openapi.yaml
var OpenAPI []byte
