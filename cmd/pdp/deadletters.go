package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"vigil/authz"
	"vigil/signals"
	"vigil/signals/deadletter"
)

// lettersCmd reads the files of an engine and not the engine, so that it also answers
// for one that is stopped.
type lettersCmd struct {
	dataFolder
	Since string `help:"Only what the log took since this time (RFC 3339) or so long ago, as 10m."`
	Limit int    `help:"At most so many, the latest." default:"50"`
	format
}

// deadLetters is what is printed for machines.
type deadLetters struct {
	Dir     string       `json:"dir"`
	Letters []deadLetter `json:"letters"` // oldest first
	// Skipped are letters that were not written, for too many came at once or the disk
	// failed; Damaged are lines of the files that cannot be read.
	Skipped uint64 `json:"skipped"`
	Damaged int    `json:"damaged"`
}

type deadLetter struct {
	Partition string `json:"partition,omitzero"` // its name, where it has one
	Number    int32  `json:"number"`
	Offset    int64  `json:"offset"`
	Appended  string `json:"appended,omitzero"`
	Source    string `json:"source,omitzero"`
	ID        string `json:"id,omitzero"`
	Reason    string `json:"reason"`
	Size      int    `json:"size"`
	Record    []byte `json:"record"` // base64; the first bytes of it
	Truncated bool   `json:"truncated,omitzero"`
}

func (c *lettersCmd) Run(a *app) error {
	if c.Limit < 1 || c.Limit > 1_000_000 {
		return badInput("--limit: want 1 to 1000000, not %d", c.Limit)
	}
	var since authz.Instant
	if c.Since != "" {
		text, err := parseSince(c.Since)
		if err != nil {
			return badInput("--since: %s", err)
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return badInput("--since: %s", err)
		}
		since = authz.InstantOf(at)
	}
	data, err := c.path(a)
	if err != nil {
		return err
	}
	if _, err := os.Stat(data); err != nil {
		return badInput("data folder %s: %s", data, plainOSError(err))
	}
	dir := filepath.Join(data, deadLettersName)
	limit := c.Limit
	if since != 0 {
		limit = math.MaxInt // what is in the files, which are bounded
	}
	found, err := deadletter.Read(nil, dir, limit)
	if err != nil {
		return badInput("%s: %s", dir, plainOSError(err))
	}
	letters := slices.DeleteFunc(found.Letters, func(l signals.DeadLetter) bool {
		return l.Appended != 0 && l.Appended < since // one whose time is not known may be meant
	})
	letters = letters[max(0, len(letters)-c.Limit):]
	if c.json() {
		out := deadLetters{Dir: dir, Letters: []deadLetter{}, Skipped: found.Skipped, Damaged: found.Damaged}
		for i := range letters {
			out.Letters = append(out.Letters, shownDeadLetter(&letters[i]))
		}
		return a.printJSON(out)
	}
	a.printDeadLetters(letters)
	if found.Skipped > 0 {
		fmt.Fprintf(a.stderr, "not written, for too many came at once or the disk failed: %d\n", found.Skipped)
	}
	if found.Damaged > 0 {
		fmt.Fprintf(a.stderr, "lines that cannot be read: %d\n", found.Damaged)
	}
	fmt.Fprintf(a.stderr, "files: %s\n", dir)
	return nil
}

func shownDeadLetter(l *signals.DeadLetter) deadLetter {
	out := deadLetter{
		Partition: l.Partition, Number: l.Position.Partition, Offset: l.Position.Offset, Source: l.Source,
		ID: l.ID, Reason: l.Reason, Size: l.Size, Record: l.Record, Truncated: l.Size > len(l.Record),
	}
	if l.Appended != 0 {
		out.Appended = l.Appended.String()
	}
	return out
}

func (a *app) printDeadLetters(letters []signals.DeadLetter) {
	if len(letters) == 0 {
		fmt.Fprintln(a.stderr, "No dead letters.")
		return
	}
	rows := [][]string{{"APPENDED", "PARTITION", "OFFSET", "SOURCE", "ID", "SIZE", "REASON"}}
	for i := range letters {
		l := shownDeadLetter(&letters[i])
		if l.Partition == "" {
			l.Partition = strconv.Itoa(int(l.Number))
		}
		rows = append(rows, []string{orDash(l.Appended), l.Partition, strconv.FormatInt(l.Offset, 10), orDash(l.Source), orDash(l.ID), strconv.Itoa(l.Size), l.Reason})
	}
	table(a.stdout, rows)
}

// orDash keeps the place of a cell that holds nothing.
func orDash(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}
