package rules

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestTheDocumentedLimitsAreTheLimits holds the table in docs/rules.md against the constants.
func TestTheDocumentedLimitsAreTheLimits(t *testing.T) {
	text, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	n := func(number int) string {
		if number < 1000 {
			return fmt.Sprint(number)
		}
		return fmt.Sprintf("%d,%03d", number/1000, number%1000)
	}
	for _, row := range []string{
		fmt.Sprintf("| a bundle | %s files and as many tests, %d MiB, %s rules, %d profiles, %d sources |",
			n(MaxFiles), MaxBundleSize>>20, n(MaxRules), maxProfiles, maxSources),
		fmt.Sprintf("| a file | %d MiB, %s lines |", MaxFileSize>>20, n(maxLines)),
		fmt.Sprintf("| declarations | %s attributes, %s actions, %s lists of %s values, %s bytes of a value |",
			n(maxAttributes), n(maxActions), n(maxLists), n(maxListValues), n(maxText)),
		fmt.Sprintf("| a rule | %d KiB of `when`, %s names in each part of `on`, %d obligations, `granularity` of %dh |",
			maxWhen>>10, n(maxOn), maxObligations, maxGranularity/time.Hour),
		fmt.Sprintf("| a profile | `max_feed_age` of %dh, `max_attestation_age` of %dh |", maxFeedAge/time.Hour, maxAttestationAge/time.Hour),
		fmt.Sprintf("The first %d errors are told", maxErrors),
		fmt.Sprintf("more than %s cost units is an error", n(MaxRuleCost)),
		fmt.Sprintf("without it strings have %s bytes and lists %d elements", n(defaultMaxString), defaultMaxList),
		fmt.Sprintf("of those below `sources`; %d at most", maxNeeds),
	} {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/rules.md does not say: %s", row)
		}
	}
}
