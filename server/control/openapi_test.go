package control

import (
	"fmt"
	"maps"
	"math"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"vigil/docs"
)

type object = map[string]any

var document = sync.OnceValue(func() object {
	var doc object
	if err := yaml.Unmarshal(docs.OpenAPI, &doc); err != nil {
		panic(err)
	}
	return doc
})

// resolve follows a $ref within the document.
func resolve(node any) object {
	o, _ := node.(object)
	ref, ok := o["$ref"].(string)
	if !ok {
		return o
	}
	var at any = document()
	for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		at = at.(object)[name]
	}
	if at == nil {
		panic("nothing at " + ref)
	}
	return resolve(at)
}

// operations are those of one port, by "METHOD path".
func operations(port string) map[string]object {
	ops := map[string]object{}
	for path, item := range document()["paths"].(object) {
		for method, op := range item.(object) {
			op, ok := op.(object)
			if !ok {
				continue
			}
			for _, tag := range op["tags"].([]any) {
				if tag == port {
					ops[strings.ToUpper(method)+" "+path] = op
				}
			}
		}
	}
	return ops
}

func TestRoutesAndDocumentAreTheSame(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Pprof = true })
	ops := operations("control")
	for _, r := range w.server.table() {
		op, ok := ops[r.name()]
		if !ok {
			t.Errorf("%s is not in the document", r.name())
			continue
		}
		delete(ops, r.name())
		security, stated := op["security"]
		if isOpen := stated && len(security.([]any)) == 0; isOpen != (r.scope == open) {
			t.Errorf("%s: the document says open %v", r.name(), isOpen)
		}
		if _, hasBody := op["requestBody"]; hasBody != r.body {
			t.Errorf("%s: the document says body %v", r.name(), hasBody)
		}
		description, _ := op["description"].(string)
		if word := "`" + scopeName(r.scope) + "`"; r.scope != open && r.scope != anyone && !strings.Contains(description, word) {
			t.Errorf("%s: the description does not name the scope %s", r.name(), word)
		}
	}
	for name := range ops {
		t.Errorf("%s is in the document only", name)
	}
}

func TestReferencesOfTheDocumentResolve(t *testing.T) {
	var walk func(node any)
	walk = func(node any) {
		switch node := node.(type) {
		case object:
			resolve(node)
			for _, child := range node {
				walk(child)
			}
		case []any:
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(document())
}

// TestSchemasAreTheGoTypes holds the members of every schema against the Go type of that
// name, both ways, and required ones against those that are never left out.
func TestSchemasAreTheGoTypes(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var check func(typ reflect.Type)
	check = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			check(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || typ.PkgPath() != reflect.TypeFor[Problem]().PkgPath() {
			return
		}
		seen[typ] = true
		schema, ok := document()["components"].(object)["schemas"].(object)[typ.Name()].(object)
		if !ok {
			t.Errorf("no schema %s", typ.Name())
			return
		}
		required, _ := schema["required"].([]any)
		properties := schema["properties"].(object)
		names := map[string]bool{}
		for i := range typ.NumField() {
			name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			names[name] = true
			if _, ok := properties[name]; !ok {
				t.Errorf("%s.%s is not in the document", typ.Name(), name)
			}
			if must := options == ""; must != slices.Contains(required, any(name)) {
				t.Errorf("%s.%s: required should be %v", typ.Name(), name, must)
			}
			check(typ.Field(i).Type)
		}
		for name := range properties {
			if !names[name] {
				t.Errorf("%s.%s is in the document only", typ.Name(), name)
			}
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s is open in the document", typ.Name())
		}
	}
	for _, v := range []any{
		Problem{}, SignalsResponse{}, EntityResponse{}, EntitiesResponse{}, HistoryResponse{}, DryRunResponse{}, TailLine{}, SignalFactsResponse{}, ExplainResponse{}, DecisionsResponse{},
		RulesResponse{}, ReloadRequest{}, StatusResponse{}, HealthResponse{}, WhoamiResponse{}, PositionResponse{}, EventsResponse{},
	} {
		check(reflect.TypeOf(v))
	}
}

// checkDocumented holds an answer against the document: its status, its media type and,
// where it is JSON, its body.
func checkDocumented(t testing.TB, method, path string, got *reply) {
	t.Helper()
	op := operationOf(method, path)
	if op == nil {
		if got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed && got.status < 400 {
			t.Errorf("%s %s: answered %d, but is not in the document", method, path, got.status)
		}
		return
	}
	response := resolve(op["responses"].(object)[fmt.Sprint(got.status)])
	if response == nil {
		t.Errorf("%s %s: status %d is not in the document: %s", method, path, got.status, got.body)
		return
	}
	if response["content"] == nil && got.body == "" {
		return
	}
	mediaType, _, _ := mime.ParseMediaType(got.header.Get("Content-Type"))
	content, _ := response["content"].(object)
	media, ok := content[mediaType].(object)
	if !ok {
		t.Errorf("%s %s: %d as %q is not in the document", method, path, got.status, mediaType)
		return
	}
	if !strings.HasSuffix(mediaType, "json") || mediaType == tailType || media["schema"] == nil || method == http.MethodHead {
		return
	}
	var body any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		t.Errorf("%s %s: %v in %q", method, path, err, got.body)
		return
	}
	if err := conforms(media["schema"], body, ""); err != nil {
		t.Errorf("%s %s: %d is not as documented: %v in %s", method, path, got.status, err, got.body)
	}
}

func operationOf(method, path string) object {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	all := operations("control")
	maps.Copy(all, operations("decision"))
	for name, op := range all {
		m, p, _ := strings.Cut(name, " ")
		prefix, _, variable := strings.Cut(p, "{")
		if m == method && (p == path || variable && strings.HasPrefix(path, prefix)) {
			return op
		}
	}
	return nil
}

// conforms checks a value against the part of JSON Schema that the document uses. A
// keyword that it does not know is an error, so that none is passed over.
func conforms(schema, value any, at string) error {
	s := resolve(schema)
	for keyword, want := range s {
		var err error
		switch keyword {
		case "type":
			err = hasType(want.(string), value)
		case "enum":
			if !slices.Contains(want.([]any), value) {
				err = fmt.Errorf("%v is not one of %v", value, want)
			}
		case "oneOf":
			fits := 0
			for _, option := range want.([]any) {
				if conforms(option, value, at) == nil {
					fits++
				}
			}
			if fits != 1 {
				err = fmt.Errorf("%d of the alternatives fit", fits)
			}
		case "const":
			if fmt.Sprint(want) != fmt.Sprint(value) {
				err = fmt.Errorf("%v is not %v", value, want)
			}
		case "format":
			if text, ok := value.(string); ok && want == "date-time" {
				_, err = time.Parse(time.RFC3339Nano, text)
			}
		case "pattern":
			if text, ok := value.(string); ok && !regexp.MustCompile(want.(string)).MatchString(text) {
				err = fmt.Errorf("%q does not match %v", text, want)
			}
		case "minimum":
			if n, ok := value.(float64); ok && n < float64(want.(int)) {
				err = fmt.Errorf("%v is below %v", n, want)
			}
		case "maximum":
			if n, ok := value.(float64); ok && n > float64(want.(int)) {
				err = fmt.Errorf("%v is above %v", n, want)
			}
		case "required":
			for _, name := range want.([]any) {
				if o, ok := value.(object); ok && !has(o, name.(string)) {
					err = fmt.Errorf("%v is missing", name)
				}
			}
		case "properties":
			if o, ok := value.(object); ok {
				for name, member := range want.(object) {
					if has(o, name) && err == nil {
						err = conforms(member, o[name], at+"/"+name)
					}
				}
			}
		case "additionalProperties":
			err = additional(s, want, value, at)
		case "items":
			if list, ok := value.([]any); ok {
				for i := range list {
					if err == nil {
						err = conforms(want, list[i], fmt.Sprintf("%s/%d", at, i))
					}
				}
			}
		case "description", "example", "minLength", "maxLength", "minItems", "maxItems", "default":
		default:
			err = fmt.Errorf("the keyword %q is not known to this test", keyword)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

func has(o object, name string) bool { _, ok := o[name]; return ok }

func additional(s object, want, value any, at string) error {
	o, ok := value.(object)
	if !ok {
		return nil
	}
	known, _ := s["properties"].(object)
	for name, member := range o {
		switch {
		case has(known, name):
		case want == false:
			return fmt.Errorf("%q is not documented", name)
		default:
			if err := conforms(want, member, at+"/"+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func hasType(want string, value any) error {
	ok := false
	switch v := value.(type) {
	case string:
		ok = want == "string"
	case bool:
		ok = want == "boolean"
	case float64:
		ok = want == "number" || want == "integer" && v == math.Trunc(v)
	case object:
		ok = want == "object"
	case []any:
		ok = want == "array"
	}
	if !ok {
		return fmt.Errorf("%v is no %s", value, want)
	}
	return nil
}
