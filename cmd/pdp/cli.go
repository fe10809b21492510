package main

const description = `Vigil decides what AI agents may do, and stops deciding "yes" the moment a risk signal says so.

Start with "pdp serve", ask with "pdp decide", stop an agent with "pdp signal quarantine", and ask why with "pdp explain".`

// commands is the whole command line.
type commands struct {
	Serve     serveCmd     `cmd:"" help:"Run the decision engine."`
	Config    configCmd    `cmd:"" help:"Check a configuration."`
	Status    statusCmd    `cmd:"" help:"Say how a running engine is. Exit 1 while it makes no decisions."`
	Rules     rulesCmd     `cmd:"" help:"Check, test and seal rules."`
	Decide    decideCmd    `cmd:"" help:"Ask for a decision. Exit 0 for allow, 1 otherwise."`
	Explain   explainCmd   `cmd:"" help:"Say how a decision comes about, gate by gate and rule by rule."`
	Decisions decisionsCmd `cmd:"" help:"List recent decisions that were not an allow."`
	Signal    signalCmd    `cmd:"" help:"Send a risk signal: quarantine, revoke, register and the like."`
	Respond   respondCmd   `cmd:"" help:"Respond to an incident: contain an agent, narrow it, let it act with approval only; and undo that."`
	Entity    entityCmd    `cmd:"" help:"Say what is known of agents, users, sessions and the like."`
	Snapshot  snapshotCmd  `cmd:"" help:"Save posture to a file, or put a saved one into a data folder."`
	Journal   journalCmd   `cmd:"" help:"Look after the embedded signal log of a stopped engine."`
	Topics    topicsCmd    `cmd:"" help:"Make and check the Kafka topics that hold the signals."`
	Stream    streamCmd    `cmd:"" help:"Manage the streams of security events at identity providers and other transmitters."`
	Letters   lettersCmd   `cmd:"" name:"deadletters" help:"List the records of the signal log that could not be applied, from the files in a data folder."`
	Token     tokenCmd     `cmd:"" help:"Make credentials for clients."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

// connection says which engine to talk to and as whom.
type connection struct {
	DecisionURL string `help:"The decision port, as http://host:port, https://host:port or unix:/path." env:"VIGIL_DECISION_URL" default:"${decision}" group:"Connection:"`
	ControlURL  string `help:"The control port." env:"VIGIL_CONTROL_URL" default:"${control}" group:"Connection:"`
	TokenFile   string `help:"File that holds the bearer token. By default the local token that serve wrote for this port." env:"VIGIL_TOKEN_FILE" group:"Connection:"`
	CAFile      string `name:"ca-file" help:"Certificates to trust for https." env:"VIGIL_CA_FILE" group:"Connection:"`
	CertFile    string `name:"cert-file" help:"Client certificate to show for https, in PEM." env:"VIGIL_CERT_FILE" group:"Connection:"`
	KeyFile     string `name:"key-file" help:"Its private key, in PEM." env:"VIGIL_KEY_FILE" group:"Connection:"`
	// Longer than an engine takes to say that the outcome of a signal is unknown.
	Timeout string `help:"How long to wait for an answer." default:"15s" group:"Connection:"`
}

// format says how to print a result.
type format struct {
	Output string `short:"o" help:"text or json." enum:"text,json" default:"text"`
}

func (f format) json() bool { return f.Output == "json" }

// settingFlags are the settings that can be made on the command line; see the table in
// config_settings.go. A nil flag was not given.
type settingFlags struct {
	DataDir    *string `help:"Folder for the signal log, snapshots and the last good rules." group:"Settings (over the environment VIGIL_..., over the file):"`
	RulesDir   *string `help:"Folder of the rules." group:"Settings (over the environment VIGIL_..., over the file):"`
	RulesWatch *string `help:"Load the rules again when their files change: true or false." group:"Settings (over the environment VIGIL_..., over the file):"`

	RulesRequireSeal *string `help:"Refuse rules that are not sealed: true or false." group:"Settings (over the environment VIGIL_..., over the file):"`
	DecisionListen   *string `help:"Where to answer decisions: host:port or unix:/path." group:"Settings (over the environment VIGIL_..., over the file):"`
	ControlListen    *string `help:"Where to take signals and questions." group:"Settings (over the environment VIGIL_..., over the file):"`
	LogKind          *string `help:"Where signals are kept: journal, in the data folder, or kafka, which many replicas can share." group:"Settings (over the environment VIGIL_..., over the file):"`
	LogKafkaBrokers  *string `help:"Some brokers of the Kafka cluster, as host:port,host:port." group:"Settings (over the environment VIGIL_..., over the file):"`
	LogKafkaTopic    *string `help:"The topic that is the signal log." group:"Settings (over the environment VIGIL_..., over the file):"`
	Cache            *string `help:"Decision cache: on, off or verify." group:"Settings (over the environment VIGIL_..., over the file):"`
	CacheEntries     *string `help:"How many decisions to keep." group:"Settings (over the environment VIGIL_..., over the file):"`
	LoggingLevel     *string `help:"debug, info, warn or error." group:"Settings (over the environment VIGIL_..., over the file):"`
	LoggingFormat    *string `help:"text or json." group:"Settings (over the environment VIGIL_..., over the file):"`
	LoggingDecisions *string `help:"Which decisions to log: off, denied or all." group:"Settings (over the environment VIGIL_..., over the file):"`
}

// byPath gives the flags that were given, by the path of their setting.
func (f *settingFlags) byPath() map[string]string {
	given := map[string]string{}
	for path, value := range map[string]*string{
		"data_dir": f.DataDir, "rules.dir": f.RulesDir, "rules.watch": f.RulesWatch,
		"rules.require_seal": f.RulesRequireSeal, "decision.listen": f.DecisionListen,
		"control.listen": f.ControlListen, "log.kind": f.LogKind, "log.kafka.brokers": f.LogKafkaBrokers,
		"log.kafka.topic": f.LogKafkaTopic, "cache": f.Cache, "cache_entries": f.CacheEntries,
		"logging.level": f.LoggingLevel, "logging.format": f.LoggingFormat,
		"logging.decisions": f.LoggingDecisions,
	} {
		if value != nil {
			given[path] = *value
		}
	}
	return given
}

type configFile struct {
	Config string `short:"c" help:"Configuration file." env:"VIGIL_CONFIG"`
}

// unread says why a command that is about a configuration has none. Without a file the
// errors are those of an empty one, and what is missing is the file.
func (f *configFile) unread(err error) error {
	out := &failure{code: exitInput, err: err}
	if f.Config == "" {
		out.hint = "Name a configuration with --config."
	}
	return out
}
