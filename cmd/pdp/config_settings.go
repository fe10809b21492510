package main

import (
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vigil/engine"
)

// setting is one scalar (or list of words) of the configuration. The same table reads
// the YAML file, the environment and the flags, so that a setting means the same
// wherever it is made. Its variable is VIGIL_ and the path in capitals with
// underscores; its flag is the path with hyphens.
type setting struct {
	path string
	set  func(c *config, value string) error
	list bool // a YAML list; elsewhere words separated by commas
	file bool // a path, taken relative to the configuration file that names it
	// option is the name of its flag where that says more than the path does.
	option string
}

func (s *setting) variable() string {
	return "VIGIL_" + strings.ToUpper(strings.ReplaceAll(s.path, ".", "_"))
}

func (s *setting) flag() string {
	if s.option != "" {
		return s.option
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.path)
}

// settings is every setting but the clients and the inputs of the log, whose shape is
// richer, and the principal's claims, which are paths.
var settings = []setting{
	{path: "data_dir", file: true, set: func(c *config, v string) error { return words(&c.DataDir, v) }},
	{path: "rules.dir", file: true, set: func(c *config, v string) error { return words(&c.Rules.Dir, v) }},
	{path: "rules.watch", set: func(c *config, v string) error { return boolean(&c.Rules.Watch, v) }},
	{path: "rules.require_seal", set: func(c *config, v string) error { return boolean(&c.Rules.RequireSeal, v) }},
	{path: "log.kind", set: func(c *config, v string) error {
		c.Log.Kind = v // also a wrong one, of which nothing follows
		return oneOf(&c.Log.Kind, v, "journal", "kafka")
	}},
	{path: "log.bootstrap_from", list: true, option: "bootstrap-from", set: func(c *config, v string) error { return controlURLs(&c.Log.Bootstrap.From, v) }},
	{path: "log.bootstrap_token_file", file: true, set: func(c *config, v string) error { return words(&c.Log.Bootstrap.TokenFile, v) }},
	{path: "log.bootstrap_ca", file: true, set: func(c *config, v string) error { return words(&c.Log.Bootstrap.CA, v) }},
	{path: "log.kafka.brokers", list: true, set: func(c *config, v string) error { return brokers(&c.Log.Kafka.Brokers, v) }},
	{path: "log.kafka.topic", set: func(c *config, v string) error { return topicName(&c.Log.Kafka.Topic, v) }},
	{path: "log.kafka.tls.enabled", set: func(c *config, v string) error { return boolean(&c.Log.Kafka.TLS.Enabled, v) }},
	{path: "log.kafka.tls.ca", file: true, set: func(c *config, v string) error { return words(&c.Log.Kafka.TLS.CA, v) }},
	{path: "log.kafka.tls.cert", file: true, set: func(c *config, v string) error { return words(&c.Log.Kafka.TLS.Cert, v) }},
	{path: "log.kafka.tls.key", file: true, set: func(c *config, v string) error { return words(&c.Log.Kafka.TLS.Key, v) }},
	{path: "log.kafka.sasl.mechanism", set: func(c *config, v string) error {
		return oneOf(&c.Log.Kafka.SASL.Mechanism, v, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
	}},
	{path: "log.kafka.sasl.user", set: func(c *config, v string) error { return words(&c.Log.Kafka.SASL.User, v) }},
	{path: "log.kafka.sasl.password_file", file: true, set: func(c *config, v string) error { return words(&c.Log.Kafka.SASL.PasswordFile, v) }},
	{path: "log.kafka.allow_weak", list: true, option: "allow-weak-log", set: func(c *config, v string) error { return weakSettings(&c.Log.Kafka.AllowWeak, v) }},
	{path: "log.kafka.dead_letter_topic", set: func(c *config, v string) error { return topicName(&c.Log.Kafka.DeadLetterTopic, v) }},

	{path: "decision.listen", set: func(c *config, v string) error { return listenAddress(&c.Decision.Listen, v) }},
	{path: "decision.insecure", set: func(c *config, v string) error { return boolean(&c.Decision.Insecure, v) }},
	{path: "decision.tls.cert", file: true, set: func(c *config, v string) error { return words(&c.Decision.TLS.Cert, v) }},
	{path: "decision.tls.key", file: true, set: func(c *config, v string) error { return words(&c.Decision.TLS.Key, v) }},
	{path: "decision.tls.client_ca", file: true, set: func(c *config, v string) error { return words(&c.Decision.TLS.ClientCA, v) }},
	{path: "decision.max_body", set: func(c *config, v string) error { return size(&c.MaxBody, v, 1<<10, 16<<20) }},
	{path: "decision.max_connections", set: func(c *config, v string) error { return integer(&c.MaxConnections, v, 1, 1_000_000) }},
	{path: "decision.max_connections_per_address", set: func(c *config, v string) error { return integer(&c.MaxPerAddress, v, 0, 1_000_000) }},
	{path: "decision.drain", set: func(c *config, v string) error { return duration(&c.Drain, v, 0, 10*time.Minute) }},
	{path: "decision.unavailable", set: func(c *config, v string) error { return oneOf(&c.Unavailable, v, "error", "deny") }},
	{path: "decision.anonymous", set: func(c *config, v string) error { return oneOf(&c.Anonymous, v, "loopback", "none") }},
	{path: "decision.public_url", set: func(c *config, v string) error { return publicURL(&c.PublicURL, v) }},
	{path: "decision.hosts", list: true, set: func(c *config, v string) error { return hostNames(&c.Decision.Hosts, v) }},

	{path: "control.listen", set: func(c *config, v string) error { return listenAddress(&c.Control.Listen, v) }},
	{path: "control.insecure", set: func(c *config, v string) error { return boolean(&c.Control.Insecure, v) }},
	{path: "control.tls.cert", file: true, set: func(c *config, v string) error { return words(&c.Control.TLS.Cert, v) }},
	{path: "control.tls.key", file: true, set: func(c *config, v string) error { return words(&c.Control.TLS.Key, v) }},
	{path: "control.tls.client_ca", file: true, set: func(c *config, v string) error { return words(&c.Control.TLS.ClientCA, v) }},
	{path: "control.pprof", set: func(c *config, v string) error { return boolean(&c.Pprof, v) }},
	{path: "control.hosts", list: true, set: func(c *config, v string) error { return hostNames(&c.Control.Hosts, v) }},

	{path: "cache", set: setCache},
	{path: "cache_entries", set: func(c *config, v string) error { return integer(&c.CacheEntries, v, 16, 100_000_000) }},
	{path: "logging.level", set: setLevel},
	{path: "logging.format", set: func(c *config, v string) error { return oneOf(&c.Logging.Format, v, "text", "json") }},
	{path: "logging.decisions", set: func(c *config, v string) error { return oneOf(&c.Logging.Decisions, v, "off", "denied", "all") }},
	{path: "snapshot.every", set: func(c *config, v string) error { return duration(&c.Snapshot.Every, v, time.Second, 24*time.Hour) }},
	{path: "snapshot.keep", set: func(c *config, v string) error { return integer(&c.Snapshot.Keep, v, 1, 100) }},
}

func settingAt(path string) *setting {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.path == path })
	if i < 0 {
		return nil
	}
	return &settings[i]
}

func words(dst *string, v string) error {
	if v == "" {
		return fmt.Errorf("it is empty")
	}
	*dst = v
	return nil
}

func boolean(dst *bool, v string) error {
	switch v {
	case "true":
		*dst = true
	case "false":
		*dst = false
	default:
		return fmt.Errorf("want true or false, not %q", v)
	}
	return nil
}

func oneOf(dst *string, v string, choices ...string) error {
	if !slices.Contains(choices, v) {
		return fmt.Errorf("want %s, not %q%s", strings.Join(choices, ", "), v, didYouMean(v, choices))
	}
	*dst = v
	return nil
}

func integer(dst *int, v string, low, high int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return fmt.Errorf("want a whole number from %d to %d, not %q", low, high, v)
	}
	*dst = n
	return nil
}

func duration(dst *time.Duration, v string, low, high time.Duration) error {
	d, err := parseDuration(v)
	if err != nil {
		return err
	}
	if d < low || d > high {
		return fmt.Errorf("want %s to %s, not %s", low, high, v)
	}
	*dst = d
	return nil
}

// parseDuration reads what time.ParseDuration reads, and whole days as "7d".
func parseDuration(v string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(v, "d"); ok {
		n, err := strconv.Atoi(days)
		if err == nil && n >= 0 && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("want a duration such as 90s, 5m, 2h or 7d, not %q", v)
	}
	return d, nil
}

// size reads a number of bytes: "65536", "64KiB", "1MiB", "64kB".
func size(dst *int64, v string, low, high int64) error {
	digits := strings.TrimRight(v, "kKMGiB")
	unit, ok := map[string]int64{
		"": 1, "B": 1, "kB": 1000, "KiB": 1 << 10, "MB": 1000 * 1000, "MiB": 1 << 20, "GB": 1000 * 1000 * 1000, "GiB": 1 << 30,
	}[v[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || n < 0 || n > math.MaxInt64/max(unit, 1) {
		return fmt.Errorf("want a size such as 65536, 64KiB or 1MiB, not %q", v)
	}
	if n *= unit; n < low || n > high {
		return fmt.Errorf("want %d to %d bytes, not %s", low, high, v)
	}
	*dst = n
	return nil
}

func setCache(c *config, v string) error {
	var mode string
	if err := oneOf(&mode, v, "on", "off", "verify"); err != nil {
		return err
	}
	c.Cache = map[string]engine.CacheMode{"on": engine.CacheOn, "off": engine.CacheOff, "verify": engine.CacheVerify}[mode]
	return nil
}

func setLevel(c *config, v string) error {
	var level string
	if err := oneOf(&level, v, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return c.Logging.Level.UnmarshalText([]byte(level))
}

func hostNames(dst *[]string, v string) error {
	var names []string
	for name := range strings.SplitSeq(v, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" || strings.ContainsAny(name, "/ \t:@*") {
			return fmt.Errorf("want host names without port, such as pdp.example.com, not %q", name)
		}
		names = append(names, name)
	}
	*dst = names
	return nil
}

// publicURL is the identifier of a decision point (AuthZEN 1.0, section 9.1).
func publicURL(dst *string, v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(v, "?#") || strings.HasSuffix(v, "/") {
		return fmt.Errorf("want an https URL without query, fragment and trailing slash, not %q", v)
	}
	*dst = v
	return nil
}

// relativeTo makes a path of the configuration file stand relative to that file.
func relativeTo(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}
