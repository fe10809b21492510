package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vigil/engine"
	"vigil/identity"
	"vigil/server/credential"
	"vigil/server/decision"
)

// config is everything that `serve` can be told. It is made in three layers: one YAML
// file, the environment over it, flags over those. Nothing is checked before all three
// are in, and then everything that is wrong is said at once.
type config struct {
	DataDir string
	Rules   rulesConfig
	Log     logConfig

	Decision portConfig
	MaxBody  int64 // bytes of a request to the decision port
	// MaxConnections bounds the connections to the decision port; MaxPerAddress those of
	// one IP address, 0 being any number.
	MaxConnections, MaxPerAddress int

	Drain       time.Duration // how long a stopping process goes on deciding while it is not ready
	Unavailable string        // "error": 503 when no decision can be made; "deny": 200 with decision false
	PublicURL   string        // https URL of the decision port in its metadata; "" for that of the request
	Anonymous   string        // who may ask for decisions without a credential: "loopback" or "none"

	Control portConfig
	Pprof   bool // profiles on the control port, for clients with the scope admin

	Principal    identity.Mapping
	Clients      []credential.Client
	Issuers      []issuerConfig // of security events
	Cache        engine.CacheMode
	CacheEntries int
	Logging      loggingConfig
	Snapshot     snapshotConfig

	// at says where each setting was made, by its path ("decision.listen"), in words fit
	// to begin an error: "vigil.yaml:7:12", "VIGIL_DECISION_LISTEN", "--decision-listen".
	at map[string]string
	// classes are those that clients name in may.classes, with where; the bundle must
	// declare them, which only shows once it is loaded.
	classes []namedAt
}

type rulesConfig struct {
	Dir         string
	Watch       bool // load the bundle again when its files change
	RequireSeal bool // refuse a bundle that is not sealed
}

type logConfig struct {
	Kind string // "journal" or "kafka"
	// For kind "kafka" alone.
	Kafka     kafkaConfig
	Bootstrap bootstrapConfig
}

type portConfig struct {
	Listen   string // host:port, or unix:/path
	Insecure bool   // listen beyond loopback without TLS
	TLS      struct{ Cert, Key, ClientCA string }
	Hosts    []string // names that a Host header may carry besides the address itself and localhost
}

type loggingConfig struct {
	Level     slog.Level
	Format    string // text or json
	Decisions string // off, denied or all
}

type snapshotConfig struct {
	Every time.Duration
	Keep  int
}

type namedAt struct{ name, where string }

// The ports that Vigil listens on unless told otherwise.
const (
	defaultDecision = "127.0.0.1:7070"
	defaultControl  = "127.0.0.1:7071"
)

func defaultConfig(env environment) *config {
	c := &config{
		DataDir: defaultDataDir(env),
		MaxBody: 64 << 10,

		MaxConnections: decision.DefaultConnections,

		Drain:        5 * time.Second,
		Unavailable:  "error",
		Anonymous:    "loopback",
		Principal:    identity.DefaultMapping(),
		CacheEntries: 100_000,
		Logging:      loggingConfig{Level: slog.LevelInfo, Format: "text", Decisions: "denied"},
		Snapshot:     snapshotConfig{Every: 5 * time.Minute, Keep: 3},
		at:           map[string]string{},
	}
	c.Log.Kind = "journal"
	c.Decision.Listen = defaultDecision
	c.Control.Listen = defaultControl
	return c
}

// defaultDataDir follows the XDG base directory specification: state that should
// survive restarts. It is "" where the environment names no home.
func defaultDataDir(env environment) string {
	if dir := env.get("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "vigil")
	}
	if home := env.get("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "vigil")
	}
	return ""
}

// where says where the setting at path was made.
func (c *config) where(path string) string {
	if w := c.at[path]; w != "" {
		return w
	}
	return path + " (default)"
}

// maxConfig bounds the configuration file, in bytes.
const maxConfig = 1 << 20

// loadConfig reads file ("" for none), then the environment, then flags (by path of
// the setting), and checks the whole as an engine needs it.
func loadConfig(file string, env environment, flags map[string]string) (*config, error) {
	return readConfig(file, env, flags, (*config).checkServing)
}

// loadSettings is loadConfig for a command that decides nothing, and so needs no rules.
func loadSettings(file string, env environment, flags map[string]string) (*config, error) {
	return readConfig(file, env, flags, (*config).check)
}

func readConfig(file string, env environment, flags map[string]string, check func(*config) problems) (*config, error) {
	c := defaultConfig(env)
	var all problems
	if file != "" {
		data, err := readBounded(file, maxConfig)
		if err != nil {
			return nil, problems{{file, plainOSError(err)}}
		}
		read, whole := c.readYAML(file, data)
		if !whole {
			return nil, read // whatever is missing may be there
		}
		all = read
	}
	all = append(all, c.readEnvironment(env)...)
	all = append(all, c.readFlags(flags)...)
	all = append(all, check(c)...)
	if len(all) > 0 {
		all.sort(file)
		return nil, all
	}
	return c, nil
}

// readBounded reads a file that must not be longer than limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAllBounded(f, limit)
}

// problem is one thing wrong with the configuration.
type problem struct {
	Where   string // file:line:column, a variable or a flag; "" where it is nobody's
	Message string
}

func (p problem) String() string {
	if p.Where == "" {
		return p.Message
	}
	return p.Where + ": " + p.Message
}

// problems is everything wrong with the configuration.
type problems []problem

func (ps problems) Error() string {
	text := ""
	for i, p := range ps {
		if i > 0 {
			text += "\n"
		}
		text += p.String()
	}
	return text
}

func (ps *problems) add(where, format string, args ...any) {
	*ps = append(*ps, problem{Where: where, Message: fmt.Sprintf(format, args...)})
}

// sort puts what is wrong with file first, by line and column.
func (ps problems) sort(file string) {
	place := func(p problem) (line, column int) {
		rest, ok := strings.CutPrefix(p.Where, file+":")
		if _, err := fmt.Sscanf(rest, "%d:%d", &line, &column); !ok || err != nil {
			return math.MaxInt, 0
		}
		return line, column
	}
	slices.SortStableFunc(ps, func(a, b problem) int {
		la, ca := place(a)
		lb, cb := place(b)
		return cmp.Or(cmp.Compare(la, lb), cmp.Compare(ca, cb))
	})
}
