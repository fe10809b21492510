package rules

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sealedDir(t *testing.T, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		manifestName: manifest,
		"a.yaml":     "vigil: 1\nrules: [{id: deny-all, effect: deny, when: 'true'}]\n",
		"b.yaml":     "vigil: 1\n",
	})
	return dir
}

func parseSealed(dir string) Errors {
	_, errs := parseFolder(readFolder(os.DirFS(dir)), LoadOptions{RequireSeal: true})
	return errs
}

// TestSealKeepsTheRestOfTheManifest seals manifests written in many ways, twice.
func TestSealKeepsTheRestOfTheManifest(t *testing.T) {
	old := strings.Repeat("0e", 32)
	const start = "# ours\nvigil: 1 # one\nfiles: [b.yaml, a.yaml]\n"
	for name, manifest := range map[string]string{
		"no seal":           start + "profiles:\n  default: {} # theirs\n",
		"no last newline":   start + "profiles: {default: {}}",
		"old seal last":     start + "profiles: {default: {}}\nseal:\n  a.yaml: " + old + "\n  gone.yaml: " + old + "\n",
		"old seal first":    "seal:\n  a.yaml: " + old + "\n" + start + "profiles: {default: {}}\n# end\n",
		"old seal in flow":  start + "seal: {a.yaml: " + old + ",\n  b.yaml: " + old + "\n  }\nprofiles: {default: {}}\n",
		"empty seal":        start + "seal: {}\nprofiles: {default: {}}\n",
		"windows line ends": strings.ReplaceAll(start+"profiles: {default: {}}\n", "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := sealedDir(t, manifest)
			path := filepath.Join(dir, manifestName)
			if errs := parseSealed(dir); errs == nil {
				t.Fatal("it was sealed before")
			}
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
			if err := WriteSeal(dir); err != nil {
				t.Fatal(err)
			}
			if errs := parseSealed(dir); errs != nil {
				t.Fatal(errs)
			}
			sealed, _ := os.ReadFile(path)
			for line := range strings.Lines(manifest) {
				line = strings.TrimSpace(line)
				if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "vigil") || strings.HasPrefix(line, "default") {
					if !strings.Contains(string(sealed), line) {
						t.Errorf("%q is lost:\n%s", line, sealed)
					}
				}
			}
			if err := WriteSeal(dir); err != nil {
				t.Fatal(err)
			}
			if again, _ := os.ReadFile(path); string(again) != string(sealed) {
				t.Errorf("sealing twice changes it:\n%s", again)
			}
			if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
				t.Errorf("permissions: %v", info.Mode())
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 3 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

// TestAHalfCopiedBundleNeverLoads changes, cuts and removes each byte's worth of a sealed
// file: none of it loads.
func TestAHalfCopiedBundleNeverLoads(t *testing.T) {
	dir := sealedDir(t, "vigil: 1\nfiles: [a.yaml, b.yaml]\nprofiles: {default: {}}\n")
	if err := WriteSeal(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.yaml")
	whole, _ := os.ReadFile(path)
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, errs := Parse(os.DirFS(dir)); errs == nil {
			t.Fatalf("the first %d bytes of %d were accepted", n, len(whole))
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, errs := Parse(os.DirFS(dir)); errs == nil {
		t.Error("accepted without the file")
	}
}

func TestASealCanBeDemanded(t *testing.T) {
	dir := sealedDir(t, "vigil: 1\nfiles: [a.yaml, b.yaml]\nprofiles: {default: {}}\n")
	if _, errs := Parse(os.DirFS(dir)); errs != nil {
		t.Fatal(errs)
	}
	_, set, errs := LoadDirWith(dir, LoadOptions{RequireSeal: true})
	if want := "bundle.yaml: is not sealed, and a seal is demanded; pdp rules seal writes one"; set != nil || errs.Error() != want {
		t.Errorf("got %s, want %s", errs, want)
	}
}

func TestWhatIsWrongIsNotSealed(t *testing.T) {
	dir := sealedDir(t, "vigil: 1\nfiles: [a.yaml]\nprofiles: {default: {}}\n")
	before, _ := os.ReadFile(filepath.Join(dir, manifestName))
	err := WriteSeal(dir)
	if errs, ok := errors.AsType[Errors](err); !ok || !strings.Contains(errs.Error(), "b.yaml: is here and not listed") {
		t.Errorf("got %v", err)
	}
	// A manifest in flow style has no place for a member on lines of its own.
	flow := sealedDir(t, "{vigil: 1, files: [a.yaml, b.yaml], profiles: {default: {}}}\n")
	if err := WriteSeal(flow); err == nil || !strings.Contains(err.Error(), "write it by hand") {
		t.Errorf("got %v", err)
	}
	volume := t.TempDir()
	mount(t, volume, "..v1", onDisk("r"))
	if err := WriteSeal(volume); err == nil || !strings.Contains(err.Error(), "where it is written") {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, manifestName)); string(after) != string(before) {
		t.Error("the manifest was changed")
	}
}
