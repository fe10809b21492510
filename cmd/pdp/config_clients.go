package main

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
	"vigil/server/credential"
	"vigil/signals"
)

// The words of the clients section, as errors suggest them.
var (
	clientKeys = []string{"name", "token_sha256", "cert_names", "scopes", "detail", "tenants", "agentless", "may"}
	mayKeys    = []string{"types", "kinds", "classes", "overrule"}

	scopeWords = map[string]credential.Scope{
		"decide": credential.Decide, "signal": credential.Signal, "read": credential.Read, "admin": credential.Admin,
	}
)

func signalTypes() []string {
	var names []string
	for _, t := range signals.Types() {
		names = append(names, string(t))
	}
	return names
}

func kindWords() []string {
	var names []string
	for _, k := range authz.Kinds() {
		names = append(names, k.String())
	}
	return names
}

// clients reads the list of clients.
func (r *yamlReader) clients(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		r.bad(n, "clients: want a list of clients")
		return
	}
	names := map[string]string{}
	hashes := map[[sha256.Size]byte]string{}
	for _, item := range n.Content {
		c := r.client(item)
		if c == nil {
			continue
		}
		if first, twice := names[c.Name]; twice {
			r.bad(item, "another client with the name %q; the first is at %s", c.Name, first)
		}
		names[c.Name] = r.place(item)
		for _, hash := range c.TokenHashes {
			if owner, shared := hashes[hash]; shared {
				r.bad(item, "client %q has a token of client %q: whoever holds it would be either", c.Name, owner)
			}
			hashes[hash] = c.Name
		}
		r.config.Clients = append(r.config.Clients, *c)
	}
}

// client reads one client, or returns nil when it is too broken to be checked further.
func (r *yamlReader) client(n *yaml.Node) *credential.Client {
	if n.Kind != yaml.MappingNode {
		r.bad(n, "clients: want a mapping with name, token_sha256 or cert_names, and scopes")
		return nil
	}
	c := &credential.Client{}
	var may *yaml.Node
	for key, value := range r.pairs(n, "clients") {
		switch key.Value {
		case "name":
			c.Name, _ = r.scalar(value)
		case "token_sha256":
			c.TokenHashes = r.tokenHashes(value)
		case "cert_names":
			c.CertNames, _ = r.words(value)
		case "scopes":
			c.Scopes = r.scopes(value)
		case "detail":
			c.Caller.Full = r.choice(value, "codes", "full") == "full"
		case "tenants":
			c.Caller.Tenants = r.ids(value, "tenant")
		case "agentless":
			c.Caller.Agentless, _ = r.words(value)
		case "may":
			may = value
			r.may(value, &c.Sender.Authority)
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, clientKeys))
		}
	}
	r.checkClient(n, c, may)
	return c
}

// checkClient fills in what follows from the rest and checks what concerns several
// members at once.
func (r *yamlReader) checkClient(n *yaml.Node, c *credential.Client, may *yaml.Node) {
	if c.Name == "" || len(c.Name) > 64 || strings.ContainsFunc(c.Name, notNameRune) {
		r.bad(n, "client: want a name of 1 to 64 letters, digits, '.', '_' or '-'; decisions and signals are logged under it")
	}
	if len(c.TokenHashes) == 0 && len(c.CertNames) == 0 && member(n, "token_sha256") == nil {
		r.bad(n, "client %q has no credential: give it token_sha256 (make a token with `pdp token new`) or cert_names", c.Name)
	}
	if c.Scopes == 0 && member(n, "scopes") == nil {
		r.bad(n, "client %q has no scopes: want some of decide, signal, read, admin", c.Name)
	}
	sends := c.Scopes&(credential.Signal|credential.Admin) != 0
	switch authority := &c.Sender.Authority; {
	case may == nil && c.Scopes&credential.Signal != 0:
		r.bad(n, "client %q may send signals but `may` does not say which: want may: {types: [...], kinds: [...]}", c.Name)
	case may != nil && !sends:
		r.bad(may, "client %q has no scope signal, so that `may` would say nothing", c.Name)
	case may != nil && len(authority.Types) == 0 && member(may, "types") == nil:
		r.bad(may, "client %q: may.types is missing, so that it could send nothing; [\"*\"] is any", c.Name)
	case may != nil && len(authority.Kinds) == 0 && member(may, "kinds") == nil:
		r.bad(may, "client %q: may.kinds is missing, so that it could send nothing; [\"*\"] is any", c.Name)
	}
	if len(c.Caller.Tenants) == 0 {
		c.Caller.Tenants = []string{authz.DefaultTenant}
	}
	c.Caller.Name = c.Name
	c.Sender.Source = signals.Source{Kind: "client", Name: c.Name}
	c.Sender.Authority.Tenants = c.Caller.Tenants
}

// may reads what a client may say in signals.
func (r *yamlReader) may(n *yaml.Node, a *signals.Authority) {
	for key, value := range r.pairs(n, "may") {
		switch key.Value {
		case "types":
			a.Types = r.choices(value, "signal type", append([]string{"*"}, signalTypes()...))
		case "kinds":
			a.Kinds = r.choices(value, "kind of entity", append([]string{"*"}, kindWords()...))
		case "classes":
			a.Classes = r.ids(value, "class")
			for _, item := range value.Content {
				if item.Value != "*" {
					r.config.classes = append(r.config.classes, namedAt{item.Value, r.place(item)})
				}
			}
		case "overrule":
			text, ok := r.scalar(value)
			if !ok {
				continue
			}
			if err := boolean(&a.Overrule, text); err != nil {
				r.bad(value, "may.overrule: %s", err)
			}
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, mayKeys))
		}
	}
}

func (r *yamlReader) tokenHashes(n *yaml.Node) [][sha256.Size]byte {
	texts, ok := r.words(n)
	if !ok {
		return nil
	}
	if len(texts) == 0 {
		r.bad(n, "token_sha256 is empty")
	}
	var hashes [][sha256.Size]byte
	for i, text := range texts {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != sha256.Size {
			// The text is not repeated: it may be a token that somebody put here by mistake.
			r.bad(n.Content[i], "want the SHA-256 of a token as 64 hex digits; `pdp token new` prints it")
			continue
		}
		hashes = append(hashes, [sha256.Size]byte(raw))
	}
	return hashes
}

func (r *yamlReader) scopes(n *yaml.Node) credential.Scope {
	var all credential.Scope
	for _, word := range r.choices(n, "scope", []string{"decide", "signal", "read", "admin"}) {
		all |= scopeWords[word]
	}
	return all
}

// choices reads a list of words out of known ones.
func (r *yamlReader) choices(n *yaml.Node, what string, known []string) []string {
	texts, ok := r.words(n)
	if !ok {
		return nil
	}
	if len(texts) == 0 {
		r.bad(n, "want at least one %s", what)
	}
	for i, text := range texts {
		if !slices.Contains(known, text) {
			r.bad(n.Content[i], "unknown %s %q%s", what, text, didYouMean(text, known))
		}
	}
	return texts
}

func (r *yamlReader) choice(n *yaml.Node, known ...string) string {
	text, ok := r.scalar(n)
	if !ok {
		return ""
	}
	var word string
	if err := oneOf(&word, text, known...); err != nil {
		r.bad(n, "%s", err)
	}
	return word
}

// ids reads a list of identifiers.
func (r *yamlReader) ids(n *yaml.Node, what string) []string {
	texts, ok := r.words(n)
	if !ok {
		return nil
	}
	if len(texts) == 0 {
		r.bad(n, "want at least one %s", what)
	}
	for i, text := range texts {
		if err := authz.CheckID(text); err != nil {
			r.bad(n.Content[i], "%s: %s", what, err)
		}
	}
	return texts
}

func notNameRune(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
}
