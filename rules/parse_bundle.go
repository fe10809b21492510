package rules

import (
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
)

// The keys that a file may hold. The schemas list the same; a test compares them.
var (
	manifestKeys  = []string{"vigil", "files", "sources", "profiles", "agentless", "seal"}
	profileKeys   = []string{"max_feed_age", "on_stale", "requires", "max_attestation_age", "needs", "on_silence"}
	agentlessKeys = []string{"types", "profile"}
)

// formatVersion is the version of every file of a bundle.
const formatVersion = "1"

const (
	maxProfiles       = 100
	maxAgentlessTypes = 100
	maxFeedAge        = 30 * 24 * time.Hour
	maxAttestationAge = 366 * 24 * time.Hour
)

// requirable are the kinds of entity that a profile may demand of a request. The agent and
// the tenant are always there; code and model come from the registration.
var requirable = []authz.Kind{
	authz.KindInstance, authz.KindUser, authz.KindSession, authz.KindToken, authz.KindGrant, authz.KindTool,
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	hexPattern  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

const nameHint = "letters, digits, '.', '_' and '-', at most 128, the first a letter or digit"

// Parse reads bundle.yaml and the files it lists, strictly, and gathers every error. It also
// checks what one file says of another and needs no understanding of expressions. The
// Bundle is never nil; it holds what could be read.
func Parse(fsys fs.FS) (*Bundle, Errors) { return parseFolder(readFolder(fsys), LoadOptions{}) }

func parseFolder(folder *folder, options LoadOptions) (*Bundle, Errors) {
	b := &Bundle{
		Required:   make(map[string]*RequiredSource),
		Profiles:   make(map[string]*Profile),
		Attributes: make(map[string]map[string]*Attribute),
		Actions:    make(map[string]*Action),
		Lists:      make(map[string]*NamedList),
		Sources:    make(map[string][]byte),
		texts:      make(map[string]*sourceText),
	}
	errs := &folder.errs
	if _, ok := folder.data[manifestName]; !ok {
		if !slices.ContainsFunc(errs.kept, func(e Error) bool { return e.Pos.File == manifestName || e.Pos.File == "" }) {
			errs.add(Error{Pos: Pos{File: manifestName}, Message: "is missing"})
		}
		return b, errs.finish()
	}
	for _, name := range folder.names {
		if data, ok := folder.data[name]; ok {
			b.Sources[name] = data
			b.texts[name] = newSourceText(name, data)
		}
	}
	listed, complete := b.parseManifest(errs)
	if complete {
		b.checkListing(folder, listed, errs)
		b.checkSeal(listed, options, errs)
	}
	// In the order of names: the order in the list means nothing.
	for _, file := range slices.Sorted(slices.Values(b.Files)) {
		if _, ok := b.Sources[file]; ok {
			b.parseRuleFile(file, errs)
		}
	}
	b.check(errs)
	b.parseTests(errs)
	return b, errs.finish()
}

// listing is what bundle.yaml says of other files, with the places where it does.
type listing struct {
	files  map[string]Pos
	seal   map[string]Pos
	sealAt Pos
}

// parseManifest reads bundle.yaml. complete says whether its list of files is known.
func (b *Bundle) parseManifest(errs *errorList) (listed listing, complete bool) {
	d, root := b.openDocument(manifestName, errs)
	if root == nil {
		return listed, false
	}
	if !d.version(root) {
		return listed, false
	}
	fields, ok := d.fields(root, "bundle.yaml", manifestKeys)
	if !ok {
		return listed, false
	}
	d.require(root, fields, "vigil", "files", "profiles")
	if e, ok := fields["files"]; ok {
		listed.files = make(map[string]Pos)
		b.Files = d.words(e.value, "files", MaxFiles, func(n *yaml.Node) (string, bool) {
			name, ok := d.str(n, "a file", 1024)
			if !ok {
				return "", false
			}
			if err := checkFileName(name); err != nil {
				d.fail(n, "%v", err)
				return "", false
			}
			if _, twice := listed.files[name]; !twice {
				listed.files[name] = d.pos(n)
			}
			return name, true
		})
		complete = e.value.Kind == yaml.SequenceNode
	}
	if e, ok := fields["sources"]; ok {
		b.parseSources(d, e.value)
	}
	if e, ok := fields["profiles"]; ok {
		b.parseProfiles(d, e.value)
	}
	if e, ok := fields["agentless"]; ok {
		b.parseAgentless(d, e.value)
	}
	if e, ok := fields["seal"]; ok {
		listed.sealAt = d.pos(e.key)
		listed.seal = b.parseSeal(d, e.value)
	}
	return listed, complete
}

// version checks the version of a file before anything else in it, for nobody knows what
// another version means. That it is missing is reported by require.
func (d *document) version(root *yaml.Node) bool {
	for i := 0; i+1 < len(root.Content) && root.Kind == yaml.MappingNode; i += 2 {
		v := root.Content[i+1]
		if root.Content[i].Value != "vigil" || v.Kind == yaml.AliasNode {
			continue
		}
		if v.Kind != yaml.ScalarNode || v.Tag != "!!int" || v.Value != formatVersion {
			d.fail(v, "vigil: want %s, the version of the format that this engine reads, got %s", formatVersion, kindOf(v))
			return false
		}
	}
	return true
}

func (b *Bundle) parseProfiles(d *document, n *yaml.Node) {
	list, ok := d.entries(n, "profiles")
	switch {
	case !ok:
		return
	case len(list) == 0:
		d.fail(n, "no profile is declared; every agent needs the profile of its class")
	case len(list) > maxProfiles:
		d.fail(n, "%d profiles, more than %d", len(list), maxProfiles)
		return
	}
	for _, e := range list {
		if !namePattern.MatchString(e.name) {
			d.fail(e.key, "the profile %s: want %s", quoted(e.name), nameHint)
			continue
		}
		if p := d.profile(e); p != nil {
			b.Profiles[e.name] = p
		}
	}
}

func (d *document) profile(named entry) *Profile {
	what := "the profile " + quoted(named.name)
	fields, ok := d.fields(named.value, what, profileKeys)
	if !ok {
		return nil
	}
	p := &Profile{Name: named.name, Pos: d.pos(named.key)}
	if e, ok := fields["max_feed_age"]; ok {
		p.MaxFeedAge, _ = d.duration(e.value, "max_feed_age", time.Millisecond, maxFeedAge)
	}
	if e, ok := fields["on_stale"]; ok {
		i, _ := d.choice(e.value, "on_stale", staleNames)
		p.OnStale = OnStale(i)
		if _, bounded := fields["max_feed_age"]; !bounded {
			d.fail(e.key, "on_stale without max_feed_age: the view would never be stale")
		}
	}
	if e, ok := fields["requires"]; ok {
		names := make([]string, len(requirable))
		for i, k := range requirable {
			names[i] = k.String()
		}
		d.words(e.value, "requires", len(requirable), func(n *yaml.Node) (string, bool) {
			i, ok := d.choice(n, "member", names)
			if ok && !slices.Contains(p.Requires, requirable[i]) {
				p.Requires = append(p.Requires, requirable[i])
			}
			return n.Value, ok
		})
		slices.Sort(p.Requires)
	}
	if e, ok := fields["max_attestation_age"]; ok {
		p.MaxAttestationAge, _ = d.duration(e.value, "max_attestation_age", time.Second, maxAttestationAge)
	}
	d.needs(p, fields)
	return p
}

// staleNames are the degradations by OnStale.
var staleNames = []string{"deny", "approval"}

func (s OnStale) String() string { return staleNames[s] }

func (b *Bundle) parseAgentless(d *document, n *yaml.Node) {
	fields, ok := d.fields(n, "agentless", agentlessKeys)
	if !ok {
		return
	}
	d.require(n, fields, "types")
	b.Agentless.Pos = d.pos(n)
	if e, ok := fields["types"]; ok {
		b.Agentless.Types = d.words(e.value, "types", maxAgentlessTypes, func(n *yaml.Node) (string, bool) {
			return d.word(n, "a subject type", typePattern, typeHint)
		})
	}
	e, ok := fields["profile"]
	if !ok {
		if len(b.Agentless.Types) > 0 {
			d.fail(n, "the key %q is missing: subjects without an agent need the controls of one", "profile")
		}
		return
	}
	if name, ok := d.str(e.value, "profile", 1024); ok {
		b.Agentless.Profile = name
		if b.Profiles[name] == nil {
			d.fail(e.value, "unknown profile %s%s", quoted(name), d.errs.hint(name, keys(b.Profiles)))
		}
	}
}

func (b *Bundle) parseSeal(d *document, n *yaml.Node) map[string]Pos {
	list, ok := d.entries(n, "seal")
	if !ok {
		return nil
	}
	b.Seal = make(map[string]string, len(list))
	places := make(map[string]Pos, len(list))
	for _, e := range list {
		places[e.name] = d.pos(e.key)
		// Digits alone, or with one e, are a number to YAML and as good a digest as any.
		if e.value.Kind != yaml.ScalarNode || !hexPattern.MatchString(e.value.Value) {
			d.wrongKind(e.value, "the seal of "+quoted(e.name)+" as 64 hex digits in lower case (SHA-256)")
			continue
		}
		b.Seal[e.name] = e.value.Value
	}
	return places
}

// checkListing compares the files that are listed with those that are there. What is listed
// and missing would be rules that are not in force; what is there and not listed would look
// as if it were.
func (b *Bundle) checkListing(folder *folder, listed listing, errs *errorList) {
	for _, file := range b.Files {
		if _, there := slices.BinarySearch(folder.names, file); !there {
			unlisted := slices.DeleteFunc(slices.Clone(folder.names), func(name string) bool {
				return name == manifestName || strings.HasSuffix(name, testSuffix) || slices.Contains(b.Files, name)
			})
			errs.addAt(b, listed.files[file], "", "%s is listed and missing%s", file, errs.hint(file, unlisted))
		}
	}
	for _, name := range folder.names {
		_, isListed := listed.files[name]
		if name != manifestName && !isListed && !strings.HasSuffix(name, testSuffix) && folder.data[name] != nil {
			errs.add(Error{Pos: Pos{File: shownName(name)}, Message: "is here and not listed in bundle.yaml"})
		}
	}
}

// keys gives the keys of m in order.
func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
