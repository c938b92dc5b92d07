package config

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"go.yaml.in/yaml/v4"

	"twinlog/internal/kafka"
)

// secret reads a password, which may also stand in a file. No message quotes it.
func (o object) secret() (string, bool) {
	given, file := o.field("password"), o.field("password_file")
	if given.given() && file.given() {
		file.problem("password is given too: keep one of them")
		return "", false
	}
	if !file.given() {
		return given.text()
	}
	text, ok := file.file()
	if !ok {
		return "", false
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if password == "" {
		file.problem("the file is empty: write the password into it")
		return "", false
	}
	return password, true
}

// file reads the file that a value names.
func (v value) file() ([]byte, bool) {
	path, ok := v.text()
	if !ok {
		return nil, false
	}
	text, err := v.r.read(path)
	if err != nil {
		v.problem("reading the file: %v: give the path of a file that this user may read", err)
		return nil, false
	}
	return text, true
}

// tlsConfig reads how to speak TLS, and whether its files are what they are
// called. The other packages' types have the same fields.
func (v value) tlsConfig() *kafka.TLSConfig {
	if !v.given() {
		return nil
	}
	if v.target().Kind == yaml.ScalarNode {
		if v.flag() {
			return &kafka.TLSConfig{}
		}
		return nil
	}
	o := v.mapping("ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify")
	c := &kafka.TLSConfig{InsecureSkipVerify: o.field("insecure_skip_verify").flag()}
	c.ServerName, _ = o.field("server_name").text()
	if ca := o.field("ca_file"); ca.given() {
		c.CAFile, _ = ca.text()
		if pem, ok := ca.file(); ok && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			ca.problem("the file holds no PEM certificate")
		}
	}
	cert, key := o.field("cert_file"), o.field("key_file")
	switch {
	case cert.given() && !key.given():
		cert.fault("is set without key_file: give the certificate's private key too")
	case key.given() && !cert.given():
		key.fault("is set without cert_file: give the key's certificate too")
	case cert.given():
		c.CertFile, _ = cert.text()
		c.KeyFile, _ = key.text()
		certPEM, certOK := cert.file()
		keyPEM, keyOK := key.file()
		if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil && certOK && keyOK {
			cert.problem("the file and key_file are no pair of PEM certificate and private key")
		}
	}
	return c
}
