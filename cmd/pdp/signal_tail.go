package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/server/control"
)

type tailCmd struct {
	Tenant string `help:"Only this tenant."`
	Count  int    `help:"End after so many signals. 0 is never." default:"0"`
	connection
	format
}

// tailSilence is how long nothing may come from an engine that is followed. It says that it
// is alive every 10 s.
const tailSilence = 40 * time.Second

func (c *tailCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	transport := cl.http.Transport.(*http.Transport)
	transport.ResponseHeaderTimeout, cl.http.Timeout = cl.http.Timeout, 0 // the answer has no end
	seen := 0
	for {
		again, err := c.follow(ctx, a, cl, &seen)
		if err != nil || !again {
			return err
		}
	}
}

// follow prints what one request gives. It reports whether there is more to be asked for.
func (c *tailCmd) follow(ctx context.Context, a *app, cl *client, seen *int) (again bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(tailSilence, func() { cancel(errors.New("nothing came for " + tailSilence.String())) })
	defer silent.Stop()
	path := "/v1/tail"
	if c.Tenant != "" {
		path += "?" + url.Values{"tenant": {c.Tenant}}.Encode()
	}
	resp, err := cl.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := readAllBounded(resp.Body, maxAnswer)
		if err != nil {
			return false, cl.unreachable(err, false)
		}
		return false, cl.problem(&answer{status: resp.StatusCode, header: resp.Header, body: body})
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxTailLine)
	for lines.Scan() {
		silent.Reset(tailSilence)
		var line control.TailLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return false, &failure{code: exitUnreachable, err: fmt.Errorf("%s does not answer as Vigil's control port does: %w", cl.shown, err)}
		}
		if c.json() {
			fmt.Fprintln(a.stdout, lines.Text())
		} else {
			a.printTailLine(&line)
		}
		switch line.Kind {
		case "signal":
			if *seen++; *seen == c.Count {
				return false, nil
			}
		case "end":
			if line.Detail == control.TailTimeOver {
				return true, nil
			}
			return false, &failure{code: exitUnreachable, err: errors.New(printable(line.Detail))}
		}
	}
	err = lines.Err()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if err == nil {
		err = errors.New("the connection ended")
	}
	return false, cl.unreachable(err, false)
}

// maxTailLine bounds a line: a signal about 64 entities, each with what holds it.
const maxTailLine = 16 << 20

func (a *app) printTailLine(l *control.TailLine) {
	switch l.Kind {
	case "begin":
		fmt.Fprintf(a.stderr, "Following what comes after %s.\n", printable(l.AsOf))
	case "dropped":
		fmt.Fprintf(a.stderr, "%d were left out: they came faster than they could be printed.\n", l.Dropped)
	case "signal":
		s := l.Signal
		if len(s.Entities) == 0 {
			fmt.Fprintln(a.stdout, printable(fmt.Sprintf("%s  %s  %s  %s  %s", s.Appended, s.Outcome, s.Source, s.ID, s.Detail)))
			return
		}
		what, why := s.Type, ""
		if f := s.Fact; f != nil {
			what = factText(*f)
			why = strings.TrimSpace(strings.Join([]string{f.Actor, f.Ticket, f.Reason}, " "))
		}
		for _, e := range s.Entities {
			fmt.Fprintln(a.stdout, strings.TrimRight(printable(fmt.Sprintf("%s  %s  %s  %s  now %s  %s %s  %s",
				s.Appended, e.Ref, what, strings.ReplaceAll(e.Outcome, "_", " "), standingOf(e), s.Source, s.ID, why)), " "))
		}
	}
}
