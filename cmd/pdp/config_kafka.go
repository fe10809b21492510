package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
	"vigil/signals"
	"vigil/signals/cloudevents"
	"vigil/signals/kafka"
)

// kafkaConfig is the signal log on Kafka, as it is configured. config.kafka makes of it
// what the log needs.
type kafkaConfig struct {
	Brokers []string // host:port
	Topic   string   // the log, which replicas alone write
	TLS     struct {
		Enabled       bool
		CA, Cert, Key string // files; CA "" is what the machine trusts
	}
	// SASL has its password in a file alone, for configurations are shown around.
	SASL            struct{ Mechanism, User, PasswordFile string }
	AllowWeak       []string
	DeadLetterTopic string // "" for none
	Inputs          []kafka.Input
}

// inputsPath is where the inputs stand. They are read by inputs and not by the table of
// settings.
const inputsPath = "log.kafka.inputs"

const (
	maxBrokers = 100
	maxInputs  = 100
)

// weakWords are the settings of topics that somebody may accept to be weaker than the
// contract needs, as the check of the topics names them.
var weakWords = []string{
	"replication", "min_insync_replicas", "unclean_election", "timestamp_type", "cleanup_policy", "retention", "max_message_bytes", "all",
}

func brokers(dst *[]string, v string) error {
	var all []string
	for address := range strings.SplitSeq(v, ",") {
		address = strings.TrimSpace(address)
		host, port, err := net.SplitHostPort(address)
		if n, atoi := strconv.Atoi(port); err != nil || host == "" || atoi != nil || n < 1 || n > 65535 {
			return fmt.Errorf("want brokers as host:port, not %q", address)
		}
		all = append(all, address)
	}
	if len(all) > maxBrokers {
		return fmt.Errorf("%d brokers; name at most %d, the rest is learnt from them", len(all), maxBrokers)
	}
	*dst = all
	return nil
}

// topicName takes what Kafka takes.
func topicName(dst *string, v string) error {
	if v == "" || len(v) > 249 || v == "." || v == ".." || strings.ContainsFunc(v, notNameRune) {
		return fmt.Errorf("want a topic of 1 to 249 letters, digits, '.', '_' or '-', not %q", v)
	}
	*dst = v
	return nil
}

func weakSettings(dst *[]string, v string) error {
	if v == "" { // an empty list
		*dst = nil
		return nil
	}
	var all []string
	for word := range strings.SplitSeq(v, ",") {
		var known string
		if err := oneOf(&known, strings.TrimSpace(word), weakWords...); err != nil {
			return err
		}
		all = append(all, known)
	}
	*dst = all
	return nil
}

var (
	inputKeys = []string{"topic", "format", "tenants", "may"}
	grantKeys = []string{"types", "kinds", "from", "until"}

	// notForInputs are what clients may be told and inputs may not, and why.
	notForInputs = map[string]string{
		"classes":  "classes cannot be asked of an input: what class an agent has when a record is applied may differ between replicas, and all of them must judge it alike",
		"overrule": "an input cannot overrule: what another source says when a record is applied may differ between replicas, and all of them must judge it alike; give the right to a client",
	}
)

// inputs reads the topics that others than replicas write.
func (r *yamlReader) inputs(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		r.bad(n, "%s: want a list of topics, each with what it may say", inputsPath)
		return
	}
	if len(n.Content) > maxInputs {
		r.bad(n, "%s: %d topics; there may be %d", inputsPath, len(n.Content), maxInputs)
		return
	}
	topics := map[string]string{}
	for _, item := range n.Content {
		if item.Kind != yaml.MappingNode {
			r.bad(item, "%s: want a mapping with topic and may", inputsPath)
			continue
		}
		input := r.input(item)
		if first, twice := topics[input.Topic]; twice && input.Topic != "" {
			r.bad(item, "another input from the topic %q; the first is at %s", input.Topic, first)
		}
		topics[input.Topic] = r.place(item)
		if k := &r.config.Log.Kafka; input.Topic != "" {
			r.config.at[inputsPath+"."+input.Topic] = r.place(item)
			k.Inputs = append(k.Inputs, input)
		}
	}
}

// input reads one of them.
func (r *yamlReader) input(n *yaml.Node) kafka.Input {
	var input kafka.Input
	var may *yaml.Node
	tenants := []string{authz.DefaultTenant}
	for key, value := range r.pairs(n, inputsPath) {
		switch key.Value {
		case "topic":
			text, ok := r.scalar(value)
			if !ok {
				continue
			}
			if err := topicName(&input.Topic, text); err != nil {
				r.bad(value, "topic: %s", err)
			}
		case "format":
			input.Decode = r.inputFormat(value)
		case "tenants":
			tenants = r.ids(value, "tenant")
		case "may":
			may = value
		default:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, inputKeys))
		}
	}
	if member(n, "topic") == nil {
		r.bad(n, "an input without a topic")
	}
	if may == nil {
		r.bad(n, "the input %q does not say what it may: want may: [{types: [...], kinds: [...]}]", input.Topic)
		return input
	}
	if may.Kind != yaml.SequenceNode || len(may.Content) == 0 {
		r.bad(may, "may: want a list of grants, such as [{types: [risk], kinds: [agent]}]; each judges what was appended between its from and its until")
		return input
	}
	for _, item := range may.Content {
		grant := r.grant(item)
		grant.Authority.Tenants = tenants
		for i := range input.Grants {
			if overlap(&input.Grants[i], &grant) {
				r.bad(item, "this grant and the one at %s are both for what is appended at some time: give one an until and the other the same as its from", r.place(may.Content[i]))
				break
			}
		}
		input.Grants = append(input.Grants, grant)
	}
	return input
}

// inputFormat reads what the records of an input are; nil for signals.
func (r *yamlReader) inputFormat(n *yaml.Node) kafka.Decoder {
	text, ok := r.scalar(n)
	if !ok {
		return nil
	}
	var format string
	if err := oneOf(&format, text, "signal", "cloudevents"); err != nil {
		r.bad(n, "format: %s", err)
	}
	if format == "cloudevents" {
		return cloudevents.Signal
	}
	return nil
}

// grant reads what an input may say in a stretch of time.
func (r *yamlReader) grant(n *yaml.Node) signals.Grant {
	var g signals.Grant
	for key, value := range r.pairs(n, "may") {
		switch key.Value {
		case "types":
			g.Authority.Types = r.choices(value, "signal type", append([]string{"*"}, signalTypes()...))
		case "kinds":
			g.Authority.Kinds = r.choices(value, "kind of entity", append([]string{"*"}, kindWords()...))
		case "from":
			g.From = r.instant(value)
		case "until":
			g.Until = r.instant(value)
		default:
			if reason := notForInputs[key.Value]; reason != "" {
				r.bad(key, "%s", reason)
				continue
			}
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, grantKeys))
		}
	}
	for _, name := range []string{"types", "kinds"} {
		if n.Kind == yaml.MappingNode && member(n, name) == nil {
			r.bad(n, "may.%s is missing, so that it could say nothing; [\"*\"] is any", name)
		}
	}
	if g.Until != 0 && g.Until <= g.From {
		r.bad(n, "nothing can be appended from %s until %s: until is not after from", g.From, g.Until)
	}
	return g
}

// instant reads a time; 0 where it is none.
func (r *yamlReader) instant(n *yaml.Node) authz.Instant {
	text, ok := r.scalar(n)
	if !ok {
		return 0
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || authz.InstantOf(at) <= 0 {
		r.bad(n, "want a time such as 2026-11-23T00:00:00Z, not %q", text)
		return 0
	}
	return authz.InstantOf(at)
}

// overlap reports whether there is an instant that two grants cover.
func overlap(a, b *signals.Grant) bool {
	before := func(a, b *signals.Grant) bool { return a.Until != 0 && a.Until <= b.From }
	return !before(a, b) && !before(b, a)
}

// shown says in a line what is configured.
func (k *kafkaConfig) shown() string {
	text := fmt.Sprintf("Kafka topic %s by way of %s", k.Topic, strings.Join(k.Brokers, ", "))
	if k.SASL.User != "" {
		text += " as " + k.SASL.User
	}
	var inputs []string
	for _, in := range k.Inputs {
		inputs = append(inputs, in.Topic)
	}
	if len(inputs) > 0 {
		slices.Sort(inputs)
		text += ", inputs " + strings.Join(inputs, ", ")
	}
	if len(k.AllowWeak) > 0 {
		text += ", ALLOWED TO BE WEAK: " + strings.Join(k.AllowWeak, ", ")
	}
	return text
}
