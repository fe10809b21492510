package ssf

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

type example struct {
	Title string
	JSON  json.RawMessage
}

// examples reads the examples of a specification.
func examples(t testing.TB, name string) (sets, subjects []example) {
	t.Helper()
	body, err := os.ReadFile("testdata/" + name + "-examples.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Examples, Sets, Subjects []example }
	if err := json.Unmarshal(body, &file); err != nil {
		t.Fatal(err)
	}
	return append(file.Examples, file.Sets...), file.Subjects
}

// TestExamplesOfTheSpecificationsSayWhatTheyShould signs every SET that CAEP 1.0, SSF 1.0
// and RISC 1.0 show, as the issuer and for the audience that each names, and holds what it
// comes to against a golden file. Devices are instances here, and a tenant is ignored.
func TestExamplesOfTheSpecificationsSayWhatTheyShould(t *testing.T) {
	var got bytes.Buffer
	said := 0
	for _, name := range []string{"caep", "risc", "ssf"} {
		sets, _ := examples(t, name)
		if len(sets) < 4 {
			t.Fatalf("%d examples in %s", len(sets), name)
		}
		for n, x := range sets {
			var c jwt.MapClaims
			if err := json.Unmarshal(x.JSON, &c); err != nil {
				t.Fatal(err)
			}
			i := newIssuer(t, func(cfg *Config) {
				cfg.Issuer = c["iss"].(string)
				cfg.Audience = []string{fmt.Sprint(c["aud"])}
				if list, ok := c["aud"].([]any); ok {
					cfg.Audience = []string{list[1].(string)}
				}
				cfg.Subjects = DefaultSubjects()
				cfg.Subjects["device"] = []string{"instance:{sub}"}
				cfg.Subjects["user"] = append(cfg.Subjects["user"], "{phone_number}")
				cfg.SubjectIssuers = []string{"https://idp.example.com/3456789/", "https://idp.example.com/3957ea72-1b66-44d6-a044-d805712b9288/"}
			})
			fmt.Fprintf(&got, "%s %d %s\n", name, n+1, x.Title)
			set, err := i.Verify(t.Context(), []byte(sign(t, jwt.SigningMethodRS256, rsaKey(), c, nil)))
			if err != nil {
				t.Errorf("%s %d %s: %v", name, n+1, x.Title, err)
				continue
			}
			translated, err := i.Translate(set)
			if err != nil {
				t.Errorf("%s %d %s: %v", name, n+1, x.Title, err)
				continue
			}
			for _, r := range translated.Readings {
				fmt.Fprintf(&got, "  %s: %s %s\n", short(r.Event), r.Outcome, r.Detail)
			}
			for k := range translated.Signals {
				said++
				fmt.Fprintf(&got, "  %s\n", translated.Signals[k].AppendJSON(nil))
			}
		}
	}
	golden(t, "testdata/examples.golden", got.Bytes())
	if said < 15 {
		t.Errorf("the examples say only %d things", said)
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for n := range max(len(gotLines), len(wantLines)) {
		if g, w := line(gotLines, n), line(wantLines, n); g != w {
			t.Errorf("%s:%d:\n got %s\nwant %s", path, n+1, g, w)
			return
		}
	}
}

func line(lines []string, n int) string {
	if n < len(lines) {
		return lines[n]
	}
	return "(nothing)"
}

func TestExampleSubjectsAreRead(t *testing.T) {
	_, subjects := examples(t, "ssf")
	for n, x := range subjects {
		var wrapped struct {
			SubID json.RawMessage `json:"sub_id"`
		}
		raw := x.JSON
		if json.Unmarshal(raw, &wrapped) == nil && wrapped.SubID != nil {
			raw = wrapped.SubID
		}
		s, err := parseSubject([]byte(raw), false)
		if err != nil || (s.Simple == nil) == (s.Members == nil) {
			t.Errorf("%d %s: %+v, %v", n, x.Title, s, err)
		}
	}
	if len(subjects) != 11 {
		t.Errorf("%d subjects", len(subjects))
	}
}
