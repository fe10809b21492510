package archtest

import (
	"slices"
	"strings"
	"testing"
)

// mayImport are the arrows between the packages of this module. A package that is not
// listed fails the test: whoever adds one says here, and in docs/architecture.md, what it may
// know.
var mayImport = map[string][]string{
	"authz":   {},
	"spell":   {},
	"disk":    {},
	"docs":    {},
	"authzen": {"authz"},
	"posture": {"authz"},
	"rules":   {"authz", "spell"},
	"cache":   {"authz"},
	"clock":   {"authz", "disk"},

	"identity":          {"authz"},
	"engine":            {"authz", "rules", "posture", "cache"},
	"engine/enginetest": {"authz", "posture", "rules"}, // for tests
	"disk/disktest":     {"disk"},                      // for tests

	"signals":            {"authz", "posture", "spell"},
	"signals/deadletter": {"authz", "signals", "disk"},
	"signals/journal":    {"authz", "signals", "disk"},
	"signals/kafka":      {"authz", "signals", "signals/deadletter", "disk"},
	"signals/snapshot":   {"authz", "posture", "signals", "disk"},
	"signals/spool":      {"authz", "signals", "disk"},

	"signals/cloudevents": {"authz", "signals"},
	"signals/ssf":         {"authz", "signals"},

	"server/credential": {"authz", "signals"},
	"server/recent":     {"authz", "posture"},
	"server/decision":   {"authz", "authzen", "engine", "signals", "server/credential", "server/recent"},
	"server/control": {"authz", "authzen", "docs", "engine", "posture", "rules", "signals",
		"signals/cloudevents", "server/credential", "server/recent"},

	// It asks over the wire; the rooms are for its race in process, signals for reading positions.
	"loadtest":         {"authz", "engine", "posture", "rules", "signals", "loadtest/history"},
	"loadtest/history": {},

	// A real Kafka for tests and development. It knows nothing of this house.
	"e2e/broker":       {},
	"e2e/broker/kafka": {"e2e/broker"},
	"e2e":              {"e2e/broker"}, // it starts the programs and asks over the wire

	"examples/soc/idp": {}, // what stands outside knows nothing of this house

	"cmd/pdp":  {"*"},
	"archtest": {},
}

// mayImportInTests is what tests may import besides.
var mayImportInTests = []string{"disk/disktest"}

// forbidden are packages of others, or of the standard library, that only some may
// import, and why.
var forbidden = []struct {
	path string // this and whatever is below it
	only []string
	why  string
}{
	{"cel.dev/cel-go", []string{"rules"}, "rules hides the language, so that its version and its costs are one package's business"},
	{"github.com/google/cel-go", nil, "the project moved to cel.dev/cel-go; the types of the old path are others"},
	{"github.com/valyala/fasthttp", []string{"server/decision", "loadtest"}, "nothing taken from a fasthttp request may outlive its handler; one package keeps watch over that. loadtest reads answers with it, for a client that costs more than the server measures itself"},
	{"github.com/dgraph-io/ristretto", []string{"cache"}, "ristretto may drop, keep and confuse entries; cache makes that harmless"},
	{"github.com/prometheus/client_golang", []string{"server/control"}, "counters stay where they are counted; the format is the control port's business"},
	{"github.com/alecthomas/kong", []string{"cmd/pdp"}, "only the program has a command line"},
	{"github.com/fsnotify/fsnotify", []string{"cmd/pdp"}, "only the program watches folders"},
	{"github.com/segmentio/kafka-go", []string{"signals/kafka", "loadtest"}, "its readers skip what is missing and unpack without a bound; signals/kafka uses its wire protocol alone. loadtest is a client like any other"},
	{"github.com/twmb/franz-go", nil, "it is the other side in tests"},
	{"github.com/klauspost/compress", []string{"signals/snapshot", "signals/kafka", "server/control"}, "compressed input is unbounded until somebody bounds it; these packages do"},
	{"github.com/pierrec/lz4", []string{"signals/kafka"}, "compressed input is unbounded until somebody bounds it; one package does"},
	{"go.yaml.in/yaml", []string{"rules", "cmd/pdp"}, "bundles and the configuration are YAML, nothing else is"},
	{"gopkg.in/yaml.v3", nil, "its project is dead; go.yaml.in/yaml/v3 lives"},
	{"encoding/json", []string{"cmd/pdp"}, "it takes duplicate members, invalid UTF-8 and members in any case; use go-json-experiment/json"},
	{"github.com/stretchr/testify", nil, "the standard library's testing is enough"},
	{"log", nil, "log/slog is handed down; nothing logs to a global"},
	{"unsafe", []string{"authzen", "cache", "posture", "rules", "engine", "server/decision", "server/credential", "identity", "authz"}, "only hot paths may trade safety for speed"},
	{"net/http", []string{"server/control", "cmd/pdp", "loadtest", "signals/ssf", "examples/soc/idp"}, "the wire belongs to the servers; signals/ssf asks transmitters, and is asked by them"},
	{"github.com/go-jose/go-jose", []string{"signals/ssf"}, "whoever verifies a token names its algorithms, its type and its issuer; one package does, and decrypts nothing"},
	{"github.com/golang-jwt/jwt", nil, "tests sign with it what go-jose verifies"},
	{"os/exec", []string{"loadtest", "e2e/broker"}, "an engine of decisions starts no programs; loadtest starts the engine, e2e/broker a broker"},
}

// without are imports that a package does without, to stay what it is.
var without = []struct {
	pkgs []string
	path string
	why  string
}{
	{[]string{"authz", "posture", "engine", "cache", "identity", "authzen"}, "os", "it does no I/O"},
	{[]string{"authz", "posture", "engine", "cache", "identity", "authzen", "rules"}, "net", "it does no I/O"},
	{[]string{"authz", "posture", "engine", "cache", "identity", "authzen", "rules"}, "context", "it waits for nothing"},
	{[]string{"authz", "posture", "engine", "cache", "identity", "authzen", "rules"}, "log/slog", "it returns what is wrong"},
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	for _, s := range sources(t) {
		allowed, listed := mayImport[s.pkg]
		if !listed {
			t.Errorf("%s: package %s is not in mayImport: say there what it may import", s.path, s.pkg)
			continue
		}
		for path := range s.imports() {
			own, ok := strings.CutPrefix(path, module+"/")
			if !ok || own == s.pkg || slices.Contains(allowed, own) || slices.Contains(allowed, "*") {
				continue
			}
			if s.test && (slices.Contains(mayImportInTests, own) || testsMayImport(s.pkg, own)) {
				continue
			}
			t.Errorf("%s imports %s; package %s may import only %v", s.path, own, s.pkg, allowed)
		}
	}
}

// testsMayImport reports whether a test may see a package that its package may not. A
// test may look at the house from above, but nobody imports the program.
func testsMayImport(_, imported string) bool { return imported != "cmd/pdp" && imported != "archtest" }

func TestLibrariesAreImportedOnlyWhereTheyBelong(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for path := range s.imports() {
			for _, f := range forbidden {
				if (path == f.path || strings.HasPrefix(path, f.path+"/") && f.path != "log") && !slices.Contains(f.only, s.pkg) {
					t.Errorf("%s imports %s, which only %v may: %s", s.path, path, f.only, f.why)
				}
			}
			for _, w := range without {
				if path == w.path && slices.Contains(w.pkgs, s.pkg) {
					t.Errorf("%s imports %s, which package %s does without: %s", s.path, path, s.pkg, w.why)
				}
			}
		}
	}
}
