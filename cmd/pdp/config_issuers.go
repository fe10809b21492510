package main

import (
	"crypto/tls"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
	"vigil/server/credential"
	"vigil/signals/ssf"
)

// issuerConfig is a transmitter of security events, as it is configured. Files are read
// when the node starts.
type issuerConfig struct {
	SSF      ssf.Config // but for its clock
	KeysFile string     // a JWK set, where Keys.URI is ""
	Push     *ssf.PushConfig
	// PushCerts are the names in certificates that may push; see credential.Names.
	PushCerts []string
	Poll      *pollConfig
	Topic     *topicConfig
	Stream    *streamConfig // how its stream is managed; nil where that is not our affair
	where     string
}

// topicConfig is a topic that an issuer's events are read from, of the brokers of the log.
type topicConfig struct {
	Name string
	// ACL: the brokers let none but the issuer write there; signatures are not looked at.
	ACL   bool
	where string
}

// pollConfig is a stream that is polled.
type pollConfig struct {
	Endpoint string
	credentialConfig
}

// eventTopics are the topics that issuers' events are read from.
func (c *config) eventTopics() (names []string) {
	for i := range c.Issuers {
		if t := c.Issuers[i].Topic; t != nil {
			names = append(names, t.Name)
		}
	}
	return names
}

var (
	issuerKeys = []string{"name", "issuer", "audience", "algorithms", "keys", "interop", "legacy", "max_events", "tenants", "may",
		"subjects", "subject_issuers", "simple", "critical", "scores", "table", "push", "poll", "topic", "stream"}
	keysKeys  = []string{"uri", "file", "refresh", "survive"}
	pushKeys  = []string{"token_sha256", "cert_names", "anonymous"}
	pollKeys  = append([]string{"endpoint"}, credentialKeys...)
	topicKeys = []string{"name", "authentic"}
	tableKeys = []string{"event", "when", "about", "say"}
)

const maxIssuers = 100

// issuers reads the list of transmitters.
func (r *yamlReader) issuers(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode || len(n.Content) > maxIssuers {
		r.bad(n, "issuers: want a list of at most %d transmitters", maxIssuers)
		return
	}
	names, issuers := map[string]string{}, map[string]string{}
	for _, item := range n.Content {
		if item.Kind != yaml.MappingNode {
			r.bad(item, "issuers: want a mapping with name, issuer, audience, algorithms, keys, may, and push, poll or topic")
			continue
		}
		before := len(r.problems)
		c := r.issuer(item)
		if first, twice := names[c.SSF.Name]; twice {
			r.bad(item, "another issuer with the name %q; the first is at %s", c.SSF.Name, first)
		}
		if first, twice := issuers[c.SSF.Issuer]; twice {
			r.bad(item, "another issuer %q; the first is at %s", c.SSF.Issuer, first)
		}
		names[c.SSF.Name], issuers[c.SSF.Issuer] = r.place(item), r.place(item)
		if len(r.problems) == before { // else it would be said twice
			r.checkIssuer(item, c)
		}
		r.config.Issuers = append(r.config.Issuers, c)
	}
}

// checkIssuer asks the package that will take it.
func (r *yamlReader) checkIssuer(n *yaml.Node, c issuerConfig) {
	trial := c.SSF
	trial.Now = func() authz.Instant { return 0 }
	if c.KeysFile != "" { // which is read at the start
		trial.Keys.URI = "https://localhost/"
	}
	i, err := ssf.New(trial)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			r.bad(n, "%s", line)
		}
		return
	}
	if c.Push == nil && c.Poll == nil && c.Topic == nil && c.Stream == nil {
		r.bad(n, "issuer %q: its events come by push, by poll or by topic; say which", c.SSF.Name)
	}
	receiver := ssf.NewReceiver(i, nil, nil)
	if c.Push != nil {
		push := *c.Push
		push.Certified = c.certified(trial.Now)
		if _, err := ssf.NewPush(receiver, push); err != nil {
			r.bad(n, "issuer %q: %v", c.SSF.Name, err)
		}
	}
	if c.Poll != nil {
		if _, err := ssf.NewPoller(receiver, ssf.PollConfig{Endpoint: c.Poll.Endpoint}); err != nil {
			r.bad(n, "issuer %q: %v", c.SSF.Name, err)
		}
	}
	if c.Stream != nil {
		r.checkStream(member(n, "stream"), &c, receiver)
	}
}

// certified says which connections are the transmitter's by their certificate; nil where
// none can be.
func (c *issuerConfig) certified(now func() authz.Instant) func(*tls.ConnectionState) bool {
	if len(c.PushCerts) == 0 {
		return nil
	}
	return func(conn *tls.ConnectionState) bool {
		// Verified chains are there only where the control port had the certificate checked.
		if conn == nil || len(conn.VerifiedChains) == 0 || len(conn.PeerCertificates) == 0 ||
			!credential.InForce(conn.VerifiedChains[0], now().Time()) {
			return false
		}
		for name := range credential.Names(conn.PeerCertificates[0]) {
			if slices.Contains(c.PushCerts, name) {
				return true
			}
		}
		return false
	}
}

func (r *yamlReader) issuer(n *yaml.Node) issuerConfig {
	c := issuerConfig{where: r.place(n)}
	s := &c.SSF
	s.Authority.Tenants = []string{authz.DefaultTenant}
	for key, value := range r.pairs(n, "issuers") {
		switch key.Value {
		case "name":
			s.Name, _ = r.scalar(value)
			if strings.ContainsFunc(s.Name, notNameRune) || len(s.Name) > 64 {
				r.bad(value, "want a name of 1 to 64 letters, digits, '.', '_' or '-'; signals are under it, as issuer:NAME")
			}
		case "issuer":
			s.Issuer, _ = r.scalar(value)
		case "audience":
			s.Audience, _ = r.words(value)
		case "algorithms":
			s.Algorithms, _ = r.words(value)
		case "keys":
			r.issuerKeys(value, &c)
		case "interop":
			r.truth(value, &s.Interop)
		case "legacy":
			r.truth(value, &s.Legacy)
		case "max_events":
			s.MaxEvents = r.number(value)
		case "tenants":
			s.Authority.Tenants = r.ids(value, "tenant")
		case "may":
			tenants := s.Authority.Tenants
			r.may(value, &s.Authority)
			s.Authority.Tenants = tenants
			if s.Authority.Overrule {
				r.bad(value, "may.overrule: an issuer overrules nobody; its events speak for itself")
			}
		case "subjects":
			s.Subjects = ssf.Subjects(r.lists(value))
		case "subject_issuers":
			s.SubjectIssuers, _ = r.words(value)
		case "simple":
			s.Simple = r.texts(value)
		case "critical":
			s.Critical, _ = r.words(value)
		case "scores":
			s.Scores = map[string]int{}
			for level, score := range r.pairs(value, "scores") {
				s.Scores[level.Value] = r.number(score)
			}
		case "table":
			s.Table = r.table(value)
		case "push":
			c.Push = r.push(value, &c.PushCerts)
		case "poll":
			c.Poll = r.poll(value)
		case "stream":
			c.Stream = r.stream(value)
		case "topic":
			c.Topic = r.topic(value)
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, issuerKeys))
		}
	}
	s.Unsigned = c.Topic != nil && c.Topic.ACL && c.Push == nil && c.Poll == nil
	if member(n, "may") == nil {
		r.bad(n, "issuer %q: `may` does not say what its events may say: want may: {types: [...], kinds: [...]}", s.Name)
	}
	return c
}

func (r *yamlReader) issuerKeys(n *yaml.Node, c *issuerConfig) {
	k := &c.SSF.Keys
	for key, value := range r.pairs(n, "keys") {
		text, _ := r.scalar(value)
		var err error
		switch key.Value {
		case "uri":
			k.URI = text
		case "file":
			c.KeysFile = relativeTo(r.file, text)
		case "refresh":
			err = duration(&k.Refresh, text, time.Minute, 24*time.Hour)
		case "survive":
			err = duration(&k.Survive, text, time.Minute, 30*24*time.Hour)
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, keysKeys))
		}
		if err != nil {
			r.bad(value, "keys.%s: %s", key.Value, err)
		}
	}
	if (k.URI == "") == (c.KeysFile == "") {
		r.bad(n, "keys: want either uri, the issuer's jwks_uri, or file, a key set")
	}
}

func (r *yamlReader) push(n *yaml.Node, certs *[]string) *ssf.PushConfig {
	p := &ssf.PushConfig{}
	for key, value := range r.pairs(n, "push") {
		switch key.Value {
		case "token_sha256":
			p.Tokens = r.tokenHashes(value)
		case "cert_names":
			if *certs, _ = r.words(value); len(*certs) == 0 || slices.Contains(*certs, "") {
				r.bad(value, "push.cert_names: want DNS names or URIs that stand in the transmitter's certificate")
			}
		case "anonymous":
			r.truth(value, &p.Anonymous)
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, pushKeys))
		}
	}
	return p
}

func (r *yamlReader) poll(n *yaml.Node) *pollConfig {
	p := &pollConfig{}
	for key, value := range r.pairs(n, "poll") {
		switch {
		case key.Value == "endpoint":
			p.Endpoint, _ = r.scalar(value)
		case !r.credential(key, value, &p.credentialConfig):
			r.bad(key, "unknown key %q%s; secrets stand in files of their own", key.Value, didYouMean(key.Value, pollKeys))
		}
	}
	r.checkCredential(n, "poll", &p.credentialConfig)
	return p
}

func (r *yamlReader) topic(n *yaml.Node) *topicConfig {
	t := &topicConfig{where: r.place(n)}
	authentic := "signature"
	for key, value := range r.pairs(n, "topic") {
		text, ok := r.scalar(value)
		var err error
		switch key.Value {
		case "name":
			err = topicName(&t.Name, text)
		case "authentic":
			err = oneOf(&authentic, text, "signature", "acl")
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, topicKeys))
		}
		if err != nil && ok {
			r.bad(value, "topic.%s: %s", key.Value, err)
		}
	}
	if n.Kind == yaml.MappingNode && member(n, "name") == nil {
		r.bad(n, "topic: want its name")
	}
	t.ACL = authentic == "acl"
	return t
}

func (r *yamlReader) table(n *yaml.Node) (rules []ssf.Rule) {
	if n.Kind != yaml.SequenceNode {
		r.bad(n, `table: want a list of rows, such as {event: recovery-activated, about: user, say: "require_approval for 24h"}`)
		return nil
	}
	for _, item := range n.Content {
		rule := ssf.Rule{}
		for key, value := range r.pairs(item, "table") {
			text, _ := r.scalar(value)
			switch key.Value {
			case "event":
				rule.Event = text
			case "when":
				rule.When = text
			case "about":
				rule.About = text
			case "say":
				rule.Say = text
			default:
				r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, tableKeys))
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

// lists reads a mapping of names to lists of texts.
func (r *yamlReader) lists(n *yaml.Node) map[string][]string {
	out := map[string][]string{}
	for key, value := range r.pairs(n, "subjects") {
		out[key.Value], _ = r.words(value)
	}
	return out
}

// texts reads a mapping of names to texts.
func (r *yamlReader) texts(n *yaml.Node) map[string]string {
	out := map[string]string{}
	for key, value := range r.pairs(n, "simple") {
		out[key.Value], _ = r.scalar(value)
	}
	return out
}

func (r *yamlReader) truth(n *yaml.Node, dst *bool) {
	text, ok := r.scalar(n)
	if !ok {
		return
	}
	if err := boolean(dst, text); err != nil {
		r.bad(n, "%s", err)
	}
}

func (r *yamlReader) number(n *yaml.Node) int {
	text, ok := r.scalar(n)
	if !ok {
		return 0
	}
	v, err := strconv.Atoi(text)
	if err != nil {
		r.bad(n, "want a number, not %q", text)
	}
	return v
}
