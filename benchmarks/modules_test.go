package main

import (
	"os"
	"regexp"
	"testing"
)

// What is compared has the versions that the engine has.
func TestLibrariesHaveTheEnginesVersions(t *testing.T) {
	requirement := regexp.MustCompile(`(?m)^\t(\S+) (v\S+)`)
	versions := map[string]string{}
	for i, name := range []string{"../go.mod", "go.mod"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range requirement.FindAllStringSubmatch(string(data), -1) {
			switch {
			case i == 0:
				versions[m[1]] = m[2]
			case versions[m[1]] != m[2]:
				t.Errorf("%s is %s here and %q in the engine", m[1], m[2], versions[m[1]])
			}
		}
	}
	if len(versions) == 0 {
		t.Error("the engine requires nothing")
	}
}
