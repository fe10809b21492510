package signals

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"vigil/authz"
)

// TestTheDocumentedLimitsAreTheLimits holds docs/signals.md against the constants.
func TestTheDocumentedLimitsAreTheLimits(t *testing.T) {
	text, err := os.ReadFile("../docs/signals.md")
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(strings.Fields(string(text)), " ")
	for _, limit := range []string{
		fmt.Sprintf("%d,%03d signals and %d MiB in a batch", MaxBatch/1000, MaxBatch%1000, MaxBody>>20),
		fmt.Sprintf("%d KiB of one signal", MaxSignal>>10),
		fmt.Sprintf("%d,%03d bytes of `id`, `actor`, `reason`, `ticket` and the value of a label", MaxText/1000, MaxText%1000),
		fmt.Sprintf("%d `scopes` or `actions`, of %d bytes each", MaxList, MaxName),
		fmt.Sprintf("%d `labels`, with names of %d bytes", MaxLabels, MaxLabel),
		fmt.Sprintf("%d bytes of the id of an entity", authz.MaxID),
		fmt.Sprintf("| `entities` | 1 to %d of", MaxEntities),
		fmt.Sprintf("at most %d days after `time`", int(MaxWaiver.Hours())/24),
	} {
		if !strings.Contains(said, limit) {
			t.Errorf("docs/signals.md does not say: %s", limit)
		}
	}
}
