package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"vigil/engine"
	"vigil/server/credential"
)

const fullConfig = `vigil: 1
data_dir: /var/lib/vigil
rules: {dir: rules, watch: false, require_seal: true}
log: {kind: journal}
decision:
  listen: "0.0.0.0:7070"
  tls: {cert: c.pem, key: k.pem, client_ca: ca.pem}
  max_body: 128KiB
  drain: 7s
  unavailable: deny
  anonymous: none
  hosts: [pdp.example.com, PDP.internal]
  public_url: https://pdp.example.com
control: {listen: "unix:/run/vigil/control.sock", pprof: true}
principal:
  agent: context.actor.agent
  session: [context, session.id]
  tenant: []
  tool_types: [tool, mcp]
clients:
  - name: envoy
    token_sha256: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]
    cert_names: [spiffe://acme/envoy]
    scopes: [decide]
    detail: full
    tenants: [acme, default]
    agentless: [user]
  - name: soar
    token_sha256: [60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752]
    scopes: [signal, read]
    may: {types: [quarantine, release], kinds: [agent], classes: [high-high], overrule: true}
cache: verify
cache_entries: 5000
logging: {level: warn, format: json, decisions: all}
snapshot: {every: 90s, keep: 5}
`

func load(t *testing.T, text string, env environment, flags map[string]string) (*config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vigil.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return loadConfig(file, append(environment{"HOME=/nowhere"}, env...), flags)
}

func TestEverySettingReachesTheConfiguration(t *testing.T) {
	c, err := load(t, fullConfig, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	check("data_dir", c.DataDir, "/var/lib/vigil")
	check("rules.dir is relative to the file", filepath.Base(filepath.Dir(c.Rules.Dir)) != "." && filepath.IsAbs(c.Rules.Dir), true)
	check("require_seal", c.Rules.RequireSeal, true)
	check("listen", c.Decision.Listen, "0.0.0.0:7070")
	check("cert", filepath.Base(c.Decision.TLS.Cert), "c.pem")
	check("max_body", c.MaxBody, int64(128<<10))
	check("drain", c.Drain, 7*time.Second)
	check("unavailable", c.Unavailable, "deny")
	check("anonymous", c.Anonymous, "none")
	check("hosts", c.Decision.Hosts, []string{"pdp.example.com", "pdp.internal"})
	check("public_url", c.PublicURL, "https://pdp.example.com")
	check("control", c.Control.Listen, "unix:/run/vigil/control.sock")
	check("pprof", c.Pprof, true)
	check("agent", c.Principal.Agent, []string{"context", "actor", "agent"})
	check("session", c.Principal.Session, []string{"context", "session.id"})
	check("tenant", c.Principal.Tenant, []string{})
	check("token keeps its default", c.Principal.Token, []string{"context", "token"})
	check("cache", c.Cache, engine.CacheVerify)
	check("cache_entries", c.CacheEntries, 5000)
	check("decisions", c.Logging.Decisions, "all")
	check("every", c.Snapshot.Every, 90*time.Second)
	check("keep", c.Snapshot.Keep, 5)

	envoy, soar := c.Clients[0], c.Clients[1]
	check("envoy scopes", envoy.Scopes, credential.Decide)
	check("envoy caller", []any{envoy.Caller.Name, envoy.Caller.Full, envoy.Caller.Tenants, envoy.Caller.Agentless},
		[]any{"envoy", true, []string{"acme", "default"}, []string{"user"}})
	check("soar scopes", soar.Scopes, credential.Signal|credential.Read)
	check("soar source", soar.Sender.Source.String(), "client:soar")
	check("soar may", []any{soar.Sender.Authority.Types, soar.Sender.Authority.Kinds, soar.Sender.Authority.Classes, soar.Sender.Authority.Overrule, soar.Sender.Authority.Tenants},
		[]any{[]string{"quarantine", "release"}, []string{"agent"}, []string{"high-high"}, true, []string{"default"}})
	if _, err := credential.New(c.Clients); err != nil {
		t.Errorf("the credentials do not make a registry: %v", err)
	}
}

// TestEverySettingHasOneMeaningInEveryLayer makes each setting by file, by variable and
// by flag's name, and wants the same configuration.
func TestEverySettingHasOneMeaningInEveryLayer(t *testing.T) {
	values := map[string]string{
		"data_dir": "/d", "rules.dir": "/r", "rules.watch": "true", "rules.require_seal": "true", "log.kind": "kafka",
		"log.bootstrap_from": "https://a:1,unix:/c.sock", "log.bootstrap_token_file": "/t", "log.bootstrap_ca": "/a",
		"log.kafka.brokers": "a:1,[::1]:2", "log.kafka.topic": "t", "log.kafka.tls.enabled": "true", "log.kafka.tls.ca": "/a", "log.kafka.tls.cert": "/c",
		"log.kafka.tls.key": "/k", "log.kafka.sasl.mechanism": "PLAIN", "log.kafka.sasl.user": "u", "log.kafka.sasl.password_file": "/p",
		"log.kafka.allow_weak": "retention,all", "log.kafka.dead_letter_topic": "d",
		"decision.listen": "127.0.0.1:9", "decision.insecure": "false", "decision.tls.cert": "/c", "decision.tls.key": "/k",
		"decision.tls.client_ca": "/a", "decision.max_body": "2MiB", "decision.max_connections": "77", "decision.max_connections_per_address": "3", "decision.drain": "1m", "decision.unavailable": "deny",
		"decision.anonymous": "none", "decision.hosts": "a.example,b.example", "decision.public_url": "https://a.example",
		"control.listen": "127.0.0.1:10", "control.insecure": "false", "control.tls.cert": "/c", "control.tls.key": "/k",
		"control.tls.client_ca": "/a", "control.pprof": "true", "control.hosts": "c.example", "cache": "off", "cache_entries": "99",
		"logging.level": "debug", "logging.format": "json", "logging.decisions": "off", "snapshot.every": "2m", "snapshot.keep": "7",
	}
	for _, s := range settings {
		value, ok := values[s.path]
		if !ok {
			t.Errorf("%s: give the test a value", s.path)
			continue
		}
		var c [3]*config
		for i := range c {
			c[i] = defaultConfig(environment{"HOME=/nowhere"})
		}
		text := `"` + value + `"`
		if s.list {
			text = `["` + strings.ReplaceAll(value, ",", `", "`) + `"]`
		}
		parts := strings.Split(s.path, ".")
		yaml := strings.Join(parts, ": {") + ": " + text + strings.Repeat("}", len(parts)-1)
		var all problems
		read, _ := c[0].readYAML("/etc/vigil.yaml", []byte("vigil: 1\n"+yaml+"\n"))
		all = append(all, read...)
		all = append(all, c[1].readEnvironment(environment{s.variable() + "=" + value})...)
		all = append(all, c[2].readFlags(map[string]string{s.path: value})...)
		if len(all) > 0 {
			t.Errorf("%s: %v", s.path, all)
		}
		for i := range c {
			if c[i].at[s.path] == "" {
				t.Errorf("%s: layer %d does not say where it was made", s.path, i)
			}
			c[i].at = nil
		}
		if !reflect.DeepEqual(c[0], c[1]) || !reflect.DeepEqual(c[1], c[2]) {
			t.Errorf("%s means different things in the file, the environment and flags", s.path)
		}
	}
}

func TestEverySettingFlagIsASetting(t *testing.T) {
	value := "x"
	f := settingFlags{}
	v := reflect.ValueOf(&f).Elem()
	for i := range v.NumField() {
		v.Field(i).Set(reflect.ValueOf(&value))
	}
	given := f.byPath()
	if len(given) != v.NumField() {
		t.Errorf("%d flags, %d of them reach the configuration", v.NumField(), len(given))
	}
	for path := range given {
		if settingAt(path) == nil {
			t.Errorf("the flag of %s makes no setting", path)
		}
	}
}

func TestWhatIsWrongAcrossSettingsIsSaidWithItsPlace(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"open decision port", `decision: {listen: "0.0.0.0:7070"}`, `:4:20: 0.0.0.0:7070 can be reached from other machines`},
		{"open on all", `decision: {listen: ":7070"}`, `can be reached from other machines`},
		{"open IPv6", `control: {listen: "[2001:db8::1]:7071"}`, `control.insecure: true`},
		{"key without cert", `decision: {tls: {key: k}}`, `has a key without a certificate`},
		{"ca without tls", `decision: {tls: {client_ca: k}}`, `client certificates need TLS`},
		{"one port twice", `control: {listen: "127.0.0.1:7070"}`, `they must differ`},
		{"insecure loopback", `decision: {insecure: true}`, `decision.insecure has no meaning on 127.0.0.1:7070`},
		{"host name to listen on", `decision: {listen: "pdp.example.com:7070"}`, `want an IP address or localhost`},
		{"relative socket", `decision: {listen: "unix:run.sock"}`, `want unix: and an absolute path`},
		{"certificates nobody verifies", `clients: [{name: a, cert_names: [x], scopes: [decide]}]`, `neither port has tls.client_ca`},
		{"a shared token", `clients: [{name: a, token_sha256: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08], scopes: [decide]}, {name: b, token_sha256: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08], scopes: [decide]}]`, `has a token of client "a"`},
		{"no scopes", `clients: [{name: a, token_sha256: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]}]`, `client "a" has no scopes`},
		{"no principal", `principal: {agent: [], actor: []}`, `one of them must have a path`},
		{"an alias", "x: &a 1\nlogging: {level: *a}", `aliases are not read here`},
		{"a merge", "logging: {<<: {level: info}}", `want a plain key`},
		{"a scalar for a section", "logging: info", `logging: want a mapping of settings`},
		{"a list for a scalar", "cache: [on]", `want a single value`},
		{"huge", "decision: {max_body: 99999999999999999999GiB}", `want a size`},
		{"too large", "decision: {max_body: 1GiB}", `want 1024 to 16777216 bytes`},
		{"negative", "snapshot: {every: -5s}", `want 1s to 24h0m0s`},
		{"bad name", `clients: [{name: "a b", token_sha256: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08], scopes: [decide]}]`, `want a name of 1 to 64 letters`},
		{"host with port", `decision: {hosts: ["a.example:7070"]}`, `want host names without port`},
		{"public url", `decision: {public_url: "http://a"}`, `want an https URL`},
	} {
		_, err := load(t, "vigil: 1\nrules: {dir: r}\n\n"+c.yaml+"\n", nil, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestATokenInTheWrongPlaceIsNotRepeated(t *testing.T) {
	_, err := load(t, "vigil: 1\nrules: {dir: r}\nclients: [{name: a, token_sha256: [vgl_topsecret], scopes: [decide]}]\n", nil, nil)
	if err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("got %v", err)
	}
}

// FuzzConfig: no file makes reading it panic, and every error has a place.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(goodIssuer))
	f.Add([]byte("vigil: 1\nissuers: [1, {}, {may: 2, keys: [], push: 3, poll: x, table: {}, subjects: [a], scores: {a: b}}, {name: []}, {stream: 3}, {stream: {events: [1, []], id: [], verify_every: x}}]\n"))
	f.Add([]byte(fullConfig))
	f.Add([]byte("vigil: 1\nclients: [1, {}, {may: 2}, {name: []}]\nprincipal: 3\ndecision: {tls: [x]}\n"))
	f.Add([]byte(kafkaYAML))
	f.Add([]byte("vigil: 1\nlog: {kafka: {inputs: [1, {}, {may: 2}, {topic: []}, {topic: t, may: [{}, 3, {from: x}]}]}}\n"))
	f.Add([]byte("vigil: 1\n? [a]\n: b\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := defaultConfig(environment{"HOME=/nowhere"})
		read, _ := c.readYAML("vigil.yaml", data)
		for _, p := range append(read, c.check()...) {
			if p.Where == "" || p.Message == "" {
				t.Errorf("a problem without a place or a message: %+v", p)
			}
		}
	})
}
