package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vigil/signals/kafka"
)

type topicsCmd struct {
	Check  topicsCheckCmd  `cmd:"" help:"Compare the topics of the signal log with what the contract needs. Exit 1 where one is weaker than was allowed."`
	Create topicsCreateCmd `cmd:"" help:"Make the topics that are missing as the contract needs them, then check all of them."`
}

// topicsFlags say which topics: those of a configuration.
type topicsFlags struct {
	configFile
	AllowWeakLog bool   `help:"Accept topics that are weaker than the contract needs, as log.kafka.allow_weak: [all] does. For development."`
	Timeout      string `help:"How long to wait for the brokers." default:"30s"`
	format
}

// open reads the configuration. The context ends with the time that the brokers have.
func (f *topicsFlags) open(ctx context.Context, a *app) (context.Context, context.CancelFunc, *config, kafka.Config, error) {
	fail := func(err error) (context.Context, context.CancelFunc, *config, kafka.Config, error) {
		return nil, nil, nil, kafka.Config{}, err
	}
	timeout, err := parseDuration(f.Timeout)
	if err != nil || timeout <= 0 {
		return fail(badInput("--timeout: want a duration such as 30s, not %q", f.Timeout))
	}
	flags := map[string]string{}
	if f.AllowWeakLog {
		flags["log.kafka.allow_weak"] = "all"
	}
	cfg, err := loadSettings(f.Config, a.env, flags)
	if err != nil {
		return fail(f.unread(err))
	}
	if cfg.Log.Kind != "kafka" {
		if f.Config == "" {
			return fail(&failure{code: exitInput, err: errors.New("no configuration was named, and it says which topics there are"), hint: "Name it with --config."})
		}
		return fail(&failure{code: exitInput, err: fmt.Errorf("the signal log is no topic: log.kind is %s", cfg.Log.Kind),
			hint: "Name a configuration with log.kind: kafka, with --config."})
	}
	topics, err := cfg.kafka(nil, nil)
	if err != nil {
		return fail(&failure{code: exitInput, err: err})
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, cancel, cfg, topics, nil
}

type topicsCheckCmd struct{ topicsFlags }

func (c *topicsCheckCmd) Run(ctx context.Context, a *app) error {
	ctx, cancel, _, topics, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	defer cancel()
	return a.checkTopics(ctx, topics, c.json(), nil)
}

type topicsCreateCmd struct {
	Partitions  int `help:"Partitions of each topic that is made. By default 3; more can be added while replicas run."`
	Replication int `help:"Copies of each. By default 3; fewer where the configuration allows that."`
	topicsFlags
}

func (c *topicsCreateCmd) Run(ctx context.Context, a *app) error {
	if c.Partitions < 0 || c.Replication < 0 {
		return badInput("--partitions and --replication: want a number above 0")
	}
	ctx, cancel, cfg, topics, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	defer cancel()
	created, err := kafka.Create(ctx, topics, kafka.CreateOptions{
		Partitions: c.Partitions, Replication: c.Replication, DeadLetterTopic: cfg.Log.Kafka.DeadLetterTopic, Topics: cfg.eventTopics(),
	})
	if !c.json() {
		for _, t := range created {
			what := "created"
			if t.Existed {
				what = "was there"
			}
			fmt.Fprintf(a.stdout, "%s: %s, %s\n", what, t.Topic, shape(t))
		}
	}
	var (
		weak    *kafka.WeakError
		refused *kafka.RefusedError
	)
	switch {
	case errors.As(err, &weak):
		return a.judgeTopics(topics, c.json(), created, weak.Findings)
	case errors.As(err, &refused):
		return &failure{code: exitInput, err: err}
	case err != nil:
		return noBrokers(err)
	}
	return a.checkTopics(ctx, topics, c.json(), created)
}

func shape(t kafka.Created) string {
	return fmt.Sprintf("partitions %d, copies %d", t.Partitions, t.Replication)
}

func noBrokers(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("in the time of --timeout: %w", err)
	}
	return &failure{code: exitUnreachable, err: fmt.Errorf("cannot ask Kafka: %w", err),
		hint: "Does it run there? log.kafka.brokers names it, log.kafka.tls and log.kafka.sasl say how to speak to it."}
}

func (a *app) checkTopics(ctx context.Context, topics kafka.Config, asJSON bool, created []kafka.Created) error {
	found, err := kafka.Check(ctx, topics)
	if err != nil {
		return noBrokers(err)
	}
	return a.judgeTopics(topics, asJSON, created, found)
}

// topicsReport is what is printed for machines.
type topicsReport struct {
	Created  []createdTopic `json:"created,omitzero"`
	Findings []topicFinding `json:"findings"`
}

type createdTopic struct {
	Topic       string `json:"topic"`
	Partitions  int    `json:"partitions"`
	Replication int    `json:"replication"`
	Existed     bool   `json:"existed"`
}

type topicFinding struct {
	Topic   string `json:"topic"`
	Setting string `json:"setting"`
	Value   string `json:"value"`
	Want    string `json:"want"`
	Cost    string `json:"cost"`
	Never   bool   `json:"never"` // it cannot be allowed
	Allowed bool   `json:"allowed"`
}

// judgeTopics says what is weak, and fails where something is that was not allowed.
func (a *app) judgeTopics(topics kafka.Config, asJSON bool, created []kafka.Created, found []kafka.Finding) error {
	report := topicsReport{Findings: []topicFinding{}}
	for _, t := range created {
		report.Created = append(report.Created, createdTopic(t))
	}
	refused, never := 0, true
	rows := [][]string{{"TOPIC", "SETTING", "IS", "WANT", "ALLOWED", "WHAT IT COSTS"}}
	for _, f := range found {
		report.Findings = append(report.Findings, topicFinding(f))
		allowed := "yes"
		if !f.Allowed {
			refused++
			never = never && f.Never
			allowed = "NO"
		}
		rows = append(rows, []string{f.Topic, f.Setting, f.Value, f.Want, allowed, f.Cost})
	}
	switch {
	case asJSON:
		if err := a.printJSON(report); err != nil {
			return err
		}
	case len(found) > 0:
		table(a.stdout, rows)
	default:
		names := []string{topics.Topic}
		for _, in := range topics.Inputs {
			names = append(names, in.Topic)
		}
		fmt.Fprintln(a.stdout, "ok, as the contract needs them:", strings.Join(names, ", "))
	}
	if refused == 0 {
		return nil
	}
	f := &failure{code: exitDeny, err: fmt.Errorf("settings of topics that are weaker than the contract needs and not allowed to be: %d", refused)}
	if !never {
		f.hint = "Make them stronger. Where that is not meant, as on one broker for development, name the settings in log.kafka.allow_weak."
	}
	return f
}
