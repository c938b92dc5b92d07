package kafka_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
)

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	brokers := []string{"127.0.0.1:9092"}
	for _, tt := range []struct {
		name   string
		config kafka.Config
		want   string
	}{
		{"no broker", kafka.Config{}, "kafka.brokers is empty"},
		{"unknown mechanism", kafka.Config{Brokers: brokers, SASL: &kafka.SASLConfig{Mechanism: "GSSAPI"}}, `kafka.sasl.mechanism "GSSAPI" is not known: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512`},
		{"no CA file", kafka.Config{Brokers: brokers, TLS: &kafka.TLSConfig{CAFile: "/nowhere/ca.pem"}}, "kafka.tls: reading ca_file"},
		{"no PEM", kafka.Config{Brokers: brokers, TLS: &kafka.TLSConfig{CAFile: noPEM}}, "holds no PEM certificate"},
		{"a certificate without its key", kafka.Config{Brokers: brokers, TLS: &kafka.TLSConfig{CertFile: noPEM}}, "reading cert_file and key_file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.config.Options(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestThePasswordIsNeverShown(t *testing.T) {
	config := kafka.Config{Brokers: []string{"127.0.0.1:9092"}, SASL: &kafka.SASLConfig{Mechanism: "PLAIN", Username: "alice", Password: "geheim"}}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("connecting", "sasl", config.SASL, "value", *config.SASL)
	}
	shown := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{config, &config, config.SASL, *config.SASL} {
			shown = append(shown, fmt.Sprintf(verb, value))
		}
	}
	for _, text := range shown {
		if strings.Contains(text, "geheim") {
			t.Errorf("the password is in %q", text)
		}
	}
	if !strings.Contains(log.String(), "alice") || !strings.Contains(fmt.Sprint(config.SASL), "PLAIN as alice") {
		t.Error("the user is not shown")
	}
}

func TestMechanismsAndTLSReachTheBroker(t *testing.T) {
	certificate, ca := selfSigned(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}),
		kfake.Superuser("PLAIN", "alice", "geheim"), kfake.Superuser("SCRAM-SHA-256", "bob", "geheim"), kfake.Superuser("SCRAM-SHA-512", "carol", "geheim"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	trusted := &kafka.TLSConfig{CAFile: ca}
	for _, tt := range []struct {
		name                 string
		tls                  *kafka.TLSConfig
		mechanism, user, pwd string
		want                 string // of the error; empty: it works
	}{
		{"PLAIN", trusted, "PLAIN", "alice", "geheim", ""},
		{"SCRAM-SHA-256", trusted, "SCRAM-SHA-256", "bob", "geheim", ""},
		{"SCRAM-SHA-512", trusted, "SCRAM-SHA-512", "carol", "geheim", ""},
		{"without verification", &kafka.TLSConfig{InsecureSkipVerify: true}, "PLAIN", "alice", "geheim", ""},
		{"another server name", &kafka.TLSConfig{CAFile: ca, ServerName: "kafka.example"}, "PLAIN", "alice", "geheim", "kafka.example"},
		{"an unknown authority", &kafka.TLSConfig{}, "PLAIN", "alice", "geheim", "certificate"},
		{"a wrong password", trusted, "PLAIN", "alice", "falsch", "EOF"}, // the embedded broker hangs up
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := kafka.Config{Brokers: cluster.ListenAddrs(), TLS: tt.tls, SASL: &kafka.SASLConfig{Mechanism: tt.mechanism, Username: tt.user, Password: tt.pwd}}
			opts, err := config.Options()
			if err != nil {
				t.Fatal(err)
			}
			client, err := kgo.NewClient(opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = client.Ping(ctx)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// selfSigned makes a certificate for 127.0.0.1 and a file with its authority,
// which is itself.
func selfSigned(t *testing.T) (certificate tls.Certificate, caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caFile
}
