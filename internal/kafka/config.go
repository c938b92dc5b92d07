// Package kafka is Twinlog's way of using Kafka: a ring of transactional ids
// that publishes exactly once, readers that stop where Kafka says, and topics
// checked before anything is written to them.
package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Config says how to reach a Kafka cluster and what a link's topics are like.
type Config struct {
	Brokers []string
	TLS     *TLSConfig  // nil: plain text
	SASL    *SASLConfig // nil: no authentication
	Topic   TopicDefaults
}

// TopicDefaults is what the link's topics are created with.
type TopicDefaults struct {
	ReplicationFactor int
	Retention         time.Duration
}

// TLSConfig is how to speak TLS. Empty fields mean the system's defaults.
type TLSConfig struct {
	CAFile, CertFile, KeyFile string
	ServerName                string
	InsecureSkipVerify        bool
}

// SASLConfig is how to authenticate.
type SASLConfig struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username  string
	Password  string
}

// LogValue keeps the password out of logs.
func (c SASLConfig) LogValue() slog.Value {
	return slog.GroupValue(slog.String("mechanism", c.Mechanism), slog.String("username", c.Username))
}

// String keeps the password out of messages.
func (c SASLConfig) String() string { return c.Mechanism + " as " + c.Username }

// GoString keeps the password out of messages with %#v.
func (c SASLConfig) GoString() string { return c.String() }

// Options returns the client options that every client of this cluster shares.
func (c Config) Options() ([]kgo.Opt, error) {
	if len(c.Brokers) == 0 {
		return nil, errors.New("kafka.brokers is empty: name at least one broker, as in [127.0.0.1:9092]")
	}
	opts := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID("twinlog"), kgo.MetadataMinAge(50 * time.Millisecond), kgo.DisableClientMetrics(), kgo.MaxVersions(Versions())}
	if c.TLS != nil {
		t, err := c.TLS.build()
		if err != nil {
			return nil, fmt.Errorf("kafka.tls: %w", err)
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if c.SASL == nil {
		return opts, nil
	}
	switch s := c.SASL; s.Mechanism {
	case "PLAIN":
		return append(opts, kgo.SASL(plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism())), nil
	case "SCRAM-SHA-256":
		return append(opts, kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism())), nil
	case "SCRAM-SHA-512":
		return append(opts, kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism())), nil
	}
	return nil, fmt.Errorf("kafka.sasl.mechanism %q is not known: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", c.SASL.Mechanism)
}

// Versions are the requests that clients make. ApiVersions, the first one on
// every connection, is one that all brokers since 2.4 know: a newer one is
// refused first, which costs each connection a round trip.
func Versions() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(kmsg.ApiVersions.Int16(), 3)
	return v
}

func (c *TLSConfig) build() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading cert_file and key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
