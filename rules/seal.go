package rules

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkSeal compares the listed files with the SHA-256 that bundle.yaml states for them. A
// sealed bundle names every listed file and nothing else, so that a half-finished copy
// never loads without its deny rules.
func (b *Bundle) checkSeal(listed listing, options LoadOptions, errs *errorList) {
	if options.ignoreSeal {
		return
	}
	if listed.seal == nil {
		if options.RequireSeal && b.Seal == nil {
			errs.add(Error{Pos: Pos{File: manifestName}, Message: "is not sealed, and a seal is demanded; pdp rules seal writes one"})
		}
		return
	}
	fail := func(pos Pos, format string, args ...any) {
		errs.addAt(b, pos, "", format, args...)
	}
	for _, file := range keys(listed.seal) {
		pos := listed.seal[file]
		if !slices.Contains(b.Files, file) {
			fail(pos, "seal: %s is not listed in files%s", quoted(file), errs.hint(file, b.Files))
		}
	}
	for _, file := range b.Files {
		want, sealed := b.Seal[file]
		data, there := b.Sources[file]
		pos, named := listed.seal[file]
		switch {
		case !named:
			fail(listed.sealAt, "seal: %s is listed in files and not sealed", file)
		case sealed && there && hexSum(data) != want:
			fail(pos, "seal: %s is not what was sealed: its SHA-256 is %s", file, hexSum(data))
		}
	}
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// WriteSeal writes the SHA-256 of the files that the bundle in dir lists into its
// bundle.yaml and leaves everything else in it as it is. The bundle must be right but for
// its seal: where it is not, the error is of type Errors. On an error nothing is written.
func WriteSeal(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, currentLink)); err == nil {
		return fmt.Errorf("%s holds %s: seal the bundle where it is written, not where it is mounted", dir, currentLink)
	}
	folder := readFolder(os.DirFS(dir))
	before, errs := parseFolder(folder, LoadOptions{ignoreSeal: true})
	if len(errs) > 0 {
		return errs
	}
	sealed := before.sealedManifest()
	folder.data[manifestName] = sealed
	after, errs := parseFolder(folder, LoadOptions{RequireSeal: true})
	if len(errs) > 0 || !before.sameManifest(after) {
		return fmt.Errorf("%s: the seal cannot be written without changing the rest; write it by hand, as\n%s", manifestName, before.sealText())
	}
	return replaceFile(filepath.Join(dir, manifestName), sealed)
}

// sealText is the member "seal" for the files as they are.
func (b *Bundle) sealText() []byte {
	var text bytes.Buffer
	text.WriteString("seal:\n")
	for _, file := range slices.Sorted(slices.Values(b.Files)) {
		fmt.Fprintf(&text, "  %s: %s\n", file, hexSum(b.Sources[file]))
	}
	return text.Bytes()
}

// sealedManifest is the text of bundle.yaml with the seal in it, in the place of any that it
// has. It is right for manifests in block style; the caller checks.
func (b *Bundle) sealedManifest() []byte {
	text := b.text(manifestName)
	out := bytes.Clone(text.data)
	first, last := b.sealLines()
	if first == 0 {
		if !bytes.HasSuffix(out, []byte("\n")) {
			out = append(out, '\n')
		}
		return append(out, b.sealText()...)
	}
	var rest []byte
	if last < len(text.starts) {
		rest = out[text.starts[last]:]
	}
	return slices.Concat(out[:text.starts[first-1]], b.sealText(), rest)
}

// sealLines gives the first and the last line of the seal in bundle.yaml; 0 for none.
func (b *Bundle) sealLines() (first, last int) {
	var errs errorList
	_, root := b.openDocument(manifestName, &errs)
	if root == nil {
		return 0, 0
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if key.Value != "seal" {
			continue
		}
		last = value.Line
		for _, n := range value.Content {
			last = max(last, n.Line)
		}
		if value.Style&yaml.FlowStyle != 0 {
			// Names and digests hold no brace, so the first one closes it.
			text := b.text(manifestName)
			for last < len(text.starts) {
				if line, _ := text.line(last); strings.Contains(line, "}") {
					break
				}
				last++
			}
		}
		return key.Line, last
	}
	return 0, 0
}

// sameManifest reports whether the manifests of two bundles say the same but for the seal.
func (b *Bundle) sameManifest(other *Bundle) bool {
	bare := func(b *Bundle) ([]string, map[string]Profile, Agentless) {
		profiles := make(map[string]Profile, len(b.Profiles))
		for name, p := range b.Profiles {
			q := *p
			q.Pos = Pos{}
			profiles[name] = q
		}
		agentless := b.Agentless
		agentless.Pos = Pos{}
		return b.Files, profiles, agentless
	}
	files, profiles, agentless := bare(b)
	otherFiles, otherProfiles, otherAgentless := bare(other)
	return slices.Equal(files, otherFiles) && reflect.DeepEqual(profiles, otherProfiles) && reflect.DeepEqual(agentless, otherAgentless)
}
