package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"vigil/authz"
	"vigil/signals/kafka"
)

// checkLog finds what is wrong with the log's settings in the light of one another.
func (c *config) checkLog(all *problems) {
	k := &c.Log.Kafka
	switch c.Log.Kind {
	case "journal":
		paths := []string{inputsPath}
		for i := range settings {
			paths = append(paths, settings[i].path)
		}
		for _, path := range paths {
			if where := c.at[path]; where != "" && strings.HasPrefix(path, "log.") && path != "log.kind" {
				all.add(where, "%s has no meaning with log.kind: journal; say log.kind: kafka", path)
			}
		}
		for i := range c.Issuers {
			if t := c.Issuers[i].Topic; t != nil {
				all.add(t.where, "issuer %q: a topic is of the brokers of the signal log: it takes log.kind: kafka, and this is journal", c.Issuers[i].SSF.Name)
			}
		}
		return
	case "kafka":
	default:
		return // which is a problem of its own
	}
	if c.at["log.kafka.brokers"] == "" {
		all.add(c.where("log.kind"), "log.kind: kafka without log.kafka.brokers: name some brokers of the cluster")
	}
	if c.at["log.kafka.topic"] == "" {
		all.add(c.where("log.kind"), "log.kind: kafka without log.kafka.topic: name the topic that is the log")
	}
	c.checkEventTopics(all)
	if (k.TLS.Cert == "") != (k.TLS.Key == "") {
		all.add(c.where("log.kafka.tls.cert"), "log.kafka.tls: cert and key go together")
	}
	if !k.TLS.Enabled && k.TLS.CA+k.TLS.Cert+k.TLS.Key != "" {
		all.add(c.where("log.kafka.tls"), "log.kafka.tls names files and is not enabled: say log.kafka.tls.enabled: true")
	}
	if k.SASL.Mechanism+k.SASL.User+k.SASL.PasswordFile != "" {
		for _, member := range [][2]string{{"mechanism", k.SASL.Mechanism}, {"user", k.SASL.User}, {"password_file", k.SASL.PasswordFile}} {
			if member[1] == "" {
				all.add(c.where("log.kafka.sasl"), "log.kafka.sasl: want mechanism, user and password_file; %s is missing", member[0])
			}
		}
	}
	if k.DeadLetterTopic != "" && k.DeadLetterTopic == k.Topic {
		all.add(c.where("log.kafka.dead_letter_topic"), "the dead letters would go back into the log: choose another topic")
	}
	for _, in := range k.Inputs {
		switch where := c.where(inputsPath + "." + in.Topic); in.Topic {
		case k.Topic:
			all.add(where, "the topic %s is the log, which replicas alone may write: it cannot be an input", in.Topic)
		case k.DeadLetterTopic:
			all.add(where, "the dead letters would come back as signals: the topic %s cannot be an input", in.Topic)
		}
	}
}

// checkEventTopics finds topics of issuers' events that are something else, too.
func (c *config) checkEventTopics(all *problems) {
	k := &c.Log.Kafka
	of := map[string]string{} // issuer by topic
	for i := range c.Issuers {
		t, name := c.Issuers[i].Topic, c.Issuers[i].SSF.Name
		if t == nil || t.Name == "" {
			continue
		}
		isInput := slices.ContainsFunc(k.Inputs, func(in kafka.Input) bool { return in.Topic == t.Name })
		other, taken := of[t.Name]
		switch {
		case t.Name == k.Topic:
			all.add(t.where, "issuer %q: the topic %s is the log, which replicas alone may write", name, t.Name)
		case t.Name == k.DeadLetterTopic:
			all.add(t.where, "issuer %q: the topic %s is that of dead letters: they would come back as events", name, t.Name)
		case isInput:
			all.add(t.where, "issuer %q: the topic %s is an input: its records are signals, and not events of an issuer", name, t.Name)
		case taken:
			all.add(t.where, "issuer %q: the topic %s is that of issuer %q: each needs a topic of its own", name, t.Name, other)
		}
		of[t.Name] = name
	}
}

// warnings are things about the log that are allowed and that somebody may not have meant.
func (l *logConfig) warnings() []string {
	if l.Kind != "kafka" {
		return nil
	}
	all := l.Bootstrap.warnings()
	k := &l.Kafka
	remote := slices.ContainsFunc(k.Brokers, func(address string) bool { return !loopback(address) })
	if remote && !k.TLS.Enabled {
		text := "log.kafka.tls is not enabled: signals cross the network in the clear, and whoever is on the way can change them"
		if k.SASL.Mechanism == "PLAIN" {
			text += "; so does the password of " + k.SASL.User
		}
		all = append(all, text)
	}
	if len(k.AllowWeak) > 0 {
		all = append(all, "log.kafka.allow_weak: "+strings.Join(k.AllowWeak, ", ")+": acknowledged signals may be lost or misdated; see the contract")
	}
	if info, err := os.Stat(k.SASL.PasswordFile); k.SASL.PasswordFile != "" && err == nil && info.Mode().Perm()&0o007 != 0 {
		all = append(all, fmt.Sprintf("log.kafka.sasl.password_file: %s is open to all users (mode %04o)", k.SASL.PasswordFile, info.Mode().Perm()))
	}
	return all
}

// kafka makes what the log on Kafka needs, for which it reads the files that are named.
func (c *config) kafka(now func() authz.Instant, logger *slog.Logger) (kafka.Config, error) {
	k := &c.Log.Kafka
	out := kafka.Config{
		Brokers: k.Brokers, Topic: k.Topic, Inputs: k.Inputs, AllowWeak: k.AllowWeak, Now: now, Logger: logger,
	}
	if k.TLS.Enabled {
		var err error
		if out.TLS, err = c.kafkaTLS(); err != nil {
			return kafka.Config{}, err
		}
	}
	if k.SASL.PasswordFile != "" {
		password, err := readBounded(k.SASL.PasswordFile, 4096)
		if err == nil {
			// One line end is the editor's; everything else may be of the password.
			password = []byte(strings.TrimSuffix(strings.TrimSuffix(string(password), "\n"), "\r"))
			if len(password) == 0 {
				err = errors.New("it is empty")
			}
		}
		if err != nil {
			return kafka.Config{}, problems{{c.where("log.kafka.sasl.password_file"), k.SASL.PasswordFile + ": " + plainOSError(err)}}
		}
		out.SASL = &kafka.Credentials{Mechanism: k.SASL.Mechanism, User: k.SASL.User, Password: string(password)}
	}
	return out, nil
}

func (c *config) kafkaTLS() (*tls.Config, error) {
	files := &c.Log.Kafka.TLS
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.CA != "" {
		pem, err := readBounded(files.CA, maxConfig)
		if err != nil {
			return nil, problems{{c.where("log.kafka.tls.ca"), files.CA + ": " + plainOSError(err)}}
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, problems{{c.where("log.kafka.tls.ca"), files.CA + " holds no certificate in PEM"}}
		}
	}
	if files.Cert == "" {
		return out, nil
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, problems{{c.where("log.kafka.tls.cert"), fmt.Sprintf("%s, %s: %s", files.Cert, files.Key, plainOSError(err))}}
	}
	out.Certificates = []tls.Certificate{pair}
	return out, nil
}
