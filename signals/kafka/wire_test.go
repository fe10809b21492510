package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/twmb/franz-go/pkg/kfake"
)

func TestAConnectionLearnsWhatABrokerHas(t *testing.T) {
	cluster := fakeCluster(t, kfake.NumBrokers(3), kfake.ClusterID("here"), kfake.AllowAutoTopicCreation(), kfake.SeedTopics(4, "log"), kfake.SeedTopics(1, "other"))
	c := dial(t, Config{}, cluster.ListenAddrs()[0])
	m, err := c.metadata(bounded(t), []string{"log", "absent"})
	if err != nil {
		t.Fatal(err)
	}
	if m.cluster != "here" || len(m.brokers) != 3 || len(m.topics) != 2 {
		t.Errorf("%+v", m)
	}
	if _, ok := m.brokers[m.controller]; !ok {
		t.Errorf("the controller %d is none of %v", m.controller, m.brokers)
	}
	if absent := m.topics["absent"]; absent.code != errUnknownTopic || len(absent.partitions) != 0 {
		t.Errorf("absent: %+v", absent)
	}
	log := m.topics["log"]
	if log.code != errNone || log.id == [16]byte{} || len(log.partitions) != 4 {
		t.Fatalf("log: %+v", log)
	}
	for index, p := range log.partitions {
		if _, ok := m.brokers[p.leader]; !ok || p.code != errNone || len(p.replicas) == 0 || len(p.inSync) == 0 {
			t.Errorf("partition %d: %+v", index, p)
		}
	}
	if m, err = c.metadata(bounded(t), nil); err != nil || len(m.topics) != 0 || len(m.brokers) != 3 {
		t.Errorf("of no topic: %+v, %v", m, err)
	}
	if m, err = c.metadata(bounded(t), []string{"absent"}); err != nil || m.topics["absent"].code != errUnknownTopic {
		t.Errorf("asking for a topic made it: %+v, %v", m, err)
	}
}

// Messages that only the checks of topics use, in the versions that are negotiated.
func TestAnswersOfTheLibrarysMessagesAreRead(t *testing.T) {
	cluster := fakeCluster(t, kfake.NumBrokers(1))
	c := dial(t, Config{}, cluster.ListenAddrs()[0])
	answer, err := c.roundTrip(bounded(t), &createtopics.Request{TimeoutMs: 1000, Topics: []createtopics.RequestTopic{{
		Name: "log", NumPartitions: 2, ReplicationFactor: 1, Configs: []createtopics.RequestConfig{{Name: "min.insync.replicas", Value: "1"}},
	}, {Name: "bad", NumPartitions: 1, ReplicationFactor: 9}}})
	if err != nil {
		t.Fatal(err)
	}
	made := answer.(*createtopics.Response).Topics
	if len(made) != 2 || made[0].Name != "log" || made[0].ErrorCode != 0 || errorCode(made[1].ErrorCode) != errInvalidReplication || made[0].NumPartitions != 2 {
		t.Errorf("%+v", made)
	}
	answer, err = c.roundTrip(bounded(t), &describeconfigs.Request{Resources: []describeconfigs.RequestResource{{ResourceType: 2, ResourceName: "log"}}})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, r := range answer.(*describeconfigs.Response).Resources {
		for _, e := range r.ConfigEntries {
			found[e.ConfigName] = e.ConfigValue
		}
	}
	if found["min.insync.replicas"] != "1" || found["cleanup.policy"] != "delete" {
		t.Errorf("%v", found)
	}
}

// identity is a certificate for the loopback address, and the pool that trusts it.
func identity(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestConnectionsOverTLS(t *testing.T) {
	server, trust := identity(t)
	stranger, _ := identity(t)
	for name, requireClient := range map[string]bool{"TLS": false, "mutual TLS": true} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{Certificates: []tls.Certificate{server}}
			if requireClient {
				config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, trust
			}
			cluster := fakeCluster(t, kfake.NumBrokers(1), kfake.TLS(config))
			address := cluster.ListenAddrs()[0]
			good := &tls.Config{RootCAs: trust, Certificates: []tls.Certificate{server}}
			if _, err := dial(t, Config{TLS: good}, address).metadata(bounded(t), nil); err != nil {
				t.Error(err)
			}
			if good.ServerName != "" {
				t.Error("the configuration was changed, and other brokers would be taken for this one")
			}
			for why, bad := range map[string]*tls.Config{
				"an authority that is not trusted": {},
				"another server's name":            {RootCAs: trust, ServerName: "elsewhere", Certificates: good.Certificates},
				"no client's certificate":          {RootCAs: trust},
				"a stranger's certificate":         {RootCAs: trust, Certificates: []tls.Certificate{stranger}},
				"no TLS":                           nil,
			} {
				if len(why) > 20 && strings.Contains(why, "certificate") && !requireClient {
					continue
				}
				if c, err := newDialer(&Config{TLS: bad}).dial(bounded(t), address); err == nil {
					c.close()
					t.Errorf("%s: a connection", why)
				}
			}
			_, err := newDialer(&Config{}).dial(bounded(t), address)
			if err == nil || !strings.Contains(err.Error(), "wants TLS") {
				t.Errorf("without TLS: %v", err)
			}
		})
	}
}

func TestCredentialsAreShownAndNeverTold(t *testing.T) {
	const password = "correct, horse=battery\u00e9"
	mechanisms := []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}
	for _, mechanism := range mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			cluster := fakeCluster(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "vigil,1", password))
			address := cluster.ListenAddrs()[0]
			with := func(mechanism, user, password string) Config {
				return Config{SASL: &Credentials{Mechanism: mechanism, User: user, Password: password}}
			}
			if _, err := dial(t, with(mechanism, "vigil,1", password), address).metadata(bounded(t), nil); err != nil {
				t.Error(err)
			}
			for _, bad := range []Config{
				with(mechanism, "vigil,1", password+"?"), with(mechanism, "nobody", password), with(mechanism, "vigil,1", "\x07"+password), with("GSSAPI", "vigil,1", password),
			} {
				c, err := newDialer(&bad).dial(bounded(t), address)
				if err == nil {
					c.close()
					t.Errorf("%+v: a connection", bad.SASL)
					continue
				}
				if !errors.Is(err, errAuthentication) || strings.Contains(err.Error(), "horse") {
					t.Errorf("%v", err)
				}
			}
			if c, err := newDialer(&Config{}).dial(bounded(t), address); err == nil {
				if _, err := c.metadata(bounded(t), nil); err == nil {
					t.Error("an answer without credentials")
				}
			}
		})
	}
	cluster := fakeCluster(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "vigil", password))
	_, err := newDialer(&Config{SASL: &Credentials{Mechanism: "SCRAM-SHA-512", User: "vigil", Password: password}}).dial(bounded(t), cluster.ListenAddrs()[0])
	if !errors.Is(err, errAuthentication) {
		t.Errorf("a mechanism without users: %v", err)
	}
}

func TestMorePasswordWorkThanBrokersAskForIsRefused(t *testing.T) {
	for message, ok := range map[string]bool{
		"r=abc,s=QSXCR+Q6sek8bf92,i=4096":                 true,
		"r=abc,s=QSXCR+Q6sek8bf92,i=131072":               true,
		"r=abc,s=QSXCR+Q6sek8bf92,i=131073":               false,
		"r=abc,s=QSXCR+Q6sek8bf92,i=2147483647":           false,
		"r=abc,s=QSXCR+Q6sek8bf92,i=99999999999999999999": false,
		"r=abc,s=QSXCR+Q6sek8bf92,i=-1":                   false,
		"v=QSXCR+Q6sek8bf92":                              true,
		"":                                                true,
	} {
		if err := checkIterations([]byte(message)); (err == nil) != ok {
			t.Errorf("%q: %v", message, err)
		}
	}
}

func TestASessionThatEndsIsSeenBefore(t *testing.T) {
	c := &conn{}
	if c.endsAfter(0); c.ending() {
		t.Error("a session without an end ends")
	}
	if c.endsAfter(1 << 62); c.ending() {
		t.Error("a long session ends")
	}
	c.endsAfter(60_000)
	if left := time.Until(c.ends); c.ending() || left > 50*time.Second || left < 40*time.Second {
		t.Errorf("of a minute %s are left", left)
	}
	if c.ends = time.Now().Add(-time.Second); !c.ending() {
		t.Error("a session that is over goes on")
	}
	cluster := fakeCluster(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "u", "p"),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "3600000"}))
	c = dial(t, Config{SASL: &Credentials{Mechanism: "SCRAM-SHA-256", User: "u", Password: "p"}}, cluster.ListenAddrs()[0])
	if left := time.Until(c.ends); left > 48*time.Minute || left < 40*time.Minute {
		t.Errorf("of a broker's hour %s are left", left)
	}
}

func TestAnEndedContextEndsWhatWaits(t *testing.T) {
	w := newWorld(t, 1, 1)
	address := w.fake.ListenAddrs()[0]
	c := dial(t, Config{}, address)
	ctx, cancel := context.WithCancel(bounded(t))
	// The broker has acted on the request, and its answer does not come.
	w.gates[0].permit(0)
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil && w.gates[0].holds() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	})
	if _, err := c.fetch(ctx, fetchRequest{epoch: -1, wait: time.Hour, maxBytes: 1 << 20}); !errors.Is(err, context.Canceled) || errors.Is(err, errNotSent) {
		t.Errorf("%v", err)
	}
	watch.Wait()
	w.gates[0].open()
	if _, err := c.metadata(bounded(t), nil); !errors.Is(err, errNotSent) {
		t.Errorf("the connection goes on: %v", err)
	}
	if _, err := newDialer(&Config{}).dial(ctx, address); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestBrokersThatDoNotFetchByTopicIDAreRefused(t *testing.T) {
	c := &conn{tcp: closed{}, versions: map[protocol.ApiKey]versionRange{protocol.Metadata: {0, 9}, protocol.Fetch: {0, 12}}}
	if _, err := c.metadata(bounded(t), nil); !errors.Is(err, errTooOld) || !errors.Is(err, errNotSent) {
		t.Errorf("%v", err)
	}
	if _, err := c.fetch(bounded(t), fetchRequest{}); !errors.Is(err, errTooOld) {
		t.Errorf("%v", err)
	}
	if _, _, err := c.offset(bounded(t), "log", 0, -1, latest); !errors.Is(err, errTooOld) {
		t.Errorf("%v", err)
	}
}

// closed is the stream of a connection that is never used.
type closed struct{ net.Conn }

func (closed) Close() error { return nil }
