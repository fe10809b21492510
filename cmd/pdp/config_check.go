package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"vigil/server/credential"
)

// listenAddress checks the form of an address to listen on: host:port, where an empty
// host is every address, or unix:/path.
func listenAddress(dst *string, v string) error {
	if path, ok := strings.CutPrefix(v, "unix:"); ok {
		switch {
		case !filepath.IsAbs(path):
			return fmt.Errorf("want unix: and an absolute path, not %q", v)
		case len(path) > 100:
			return fmt.Errorf("the path of a Unix socket has at most 100 bytes; this one has %d", len(path))
		}
		*dst = v
		return nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return fmt.Errorf("want host:port or unix:/path, not %q", v)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("want a port from 0 to 65535, not %q", port)
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("want an IP address or localhost before the port, not %q", host)
		}
	}
	*dst = v
	return nil
}

// loopback reports whether only processes of this machine can reach the address.
func loopback(listen string) bool {
	if strings.HasPrefix(listen, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkServing finds what is wrong with settings in the light of one another, and what an
// engine lacks.
func (c *config) checkServing() problems {
	all := c.check()
	if c.Rules.Dir == "" {
		all.add("rules.dir", "want the folder of the rules: set rules.dir, VIGIL_RULES_DIR or --rules-dir")
	}
	return all
}

// check finds what is wrong with settings in the light of one another.
func (c *config) check() problems {
	var all problems
	if c.DataDir == "" {
		all.add("data_dir", "want a folder for the journal and snapshots: set data_dir, VIGIL_DATA_DIR or --data-dir")
	}
	c.checkPort(&all, "decision", &c.Decision)
	c.checkPort(&all, "control", &c.Control)
	if c.Decision.Listen == c.Control.Listen && !strings.HasSuffix(c.Decision.Listen, ":0") {
		all.add(c.where("control.listen"), "the control port and the decision port are both %s; they must differ", c.Control.Listen)
	}
	c.checkLog(&all)
	c.checkPrincipal(&all)
	c.checkCertNames(&all)
	return all
}

func (c *config) checkPort(all *problems, name string, p *portConfig) {
	tls := p.TLS.Cert != "" || p.TLS.Key != ""
	switch {
	case p.TLS.Cert == "" && p.TLS.Key != "":
		all.add(c.where(name+".tls.key"), "%s.tls has a key without a certificate: set %s.tls.cert", name, name)
	case p.TLS.Cert != "" && p.TLS.Key == "":
		all.add(c.where(name+".tls.cert"), "%s.tls has a certificate without a key: set %s.tls.key", name, name)
	}
	if p.TLS.ClientCA != "" && !tls {
		all.add(c.where(name+".tls.client_ca"), "%s.tls.client_ca without %s.tls.cert and key: client certificates need TLS", name, name)
	}
	if !loopback(p.Listen) && !tls && !p.Insecure {
		all.add(c.where(name+".listen"), "%s can be reached from other machines and would send tokens and decisions in the clear: set %s.tls, listen on 127.0.0.1, or say %s.insecure: true", p.Listen, name, name)
	}
	if p.Insecure && (tls || loopback(p.Listen)) {
		all.add(c.where(name+".insecure"), "%s.insecure has no meaning on %s; leave it out", name, p.Listen)
	}
}

// checkCertNames refuses certificate names that no port could ever verify.
func (c *config) checkCertNames(all *problems) {
	for i := range c.Issuers {
		if len(c.Issuers[i].PushCerts) > 0 && c.Control.TLS.ClientCA == "" {
			all.add(c.Issuers[i].where, "issuer %q has push.cert_names, but the control port has no tls.client_ca to verify them by", c.Issuers[i].SSF.Name)
		}
	}
	if c.Decision.TLS.ClientCA != "" || c.Control.TLS.ClientCA != "" {
		return
	}
	for _, client := range c.Clients {
		if len(client.CertNames) > 0 {
			all.add(c.where("clients"), "client %q has cert_names, but neither port has tls.client_ca to verify them by", client.Name)
		}
	}
}

// warnings are things that are allowed and that somebody may not have meant.
func (c *config) warnings() []string {
	var all []string
	var decide, signal bool
	for _, client := range c.Clients {
		decide = decide || client.May(credential.Decide)
		signal = signal || client.May(credential.Signal)
	}
	if len(c.Clients) > 0 && !signal {
		all = append(all, "no client may send signals: nobody can register an agent or revoke anything")
	}
	if !loopback(c.Decision.Listen) && !decide && len(c.Clients) > 0 {
		all = append(all, "no client may ask for decisions, and "+c.Decision.Listen+" asks everyone for a credential")
	}
	if c.Decision.Insecure {
		all = append(all, "decision.insecure: tokens and decisions cross the network in the clear")
	}
	if c.Control.Insecure {
		all = append(all, "control.insecure: tokens and signals cross the network in the clear")
	}
	for i := range c.Issuers {
		all = append(all, c.Issuers[i].warnings()...)
	}
	all = append(all, c.Log.warnings()...)
	for i := range c.Issuers {
		if t := c.Issuers[i].Topic; t != nil && t.ACL {
			all = append(all, fmt.Sprintf("issuer %q: topic.authentic is acl: the signatures of its events on the topic %s are not looked at; whoever may write to that topic speaks as the issuer", c.Issuers[i].SSF.Name, t.Name))
		}
	}
	if c.Rules.Watch && c.Rules.RequireSeal {
		all = append(all, "rules.watch with rules.require_seal: a bundle is taken as soon as its seal matches")
	}
	return all
}
