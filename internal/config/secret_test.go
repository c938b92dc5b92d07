package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
)

const hidden = "Xq7hiddenZ"

// keyPair makes a certificate and its private key.
func keyPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := world{files: map[string]string{"/f": hidden + "\n"}}.mustParse(t, fmt.Sprintf(`link: orders
kafka: {brokers: ["127.0.0.1:9092"], sasl: {mechanism: PLAIN, username: u, password: %[1]s}}
schema_registry: {url: "http://r", username: u, password: %[1]s}
sites:
  a: {redis: {addrs: ["redis://u:%[1]s@127.0.0.1:6379"], password: %[1]s}}
  b: {redis: {addrs: ["127.0.0.1:6380"], password_file: /f}}
directions: [{from: a, to: b}]
`, hidden))
	if c.Sites["a"].Password != hidden || c.Sites["b"].Password != hidden || c.Kafka.SASL.Password != hidden || c.Registry.Password != hidden {
		t.Fatal("a secret was not read")
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", c, *c)
	}
	fmt.Fprintln(&out, struct{ C any }{c}, c.Sites, c.Kafka)
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("starting", "config", c, "value", *c, "site", c.Sites["a"])
	}
	if strings.Contains(out.String(), hidden) {
		t.Errorf("a secret was printed:\n%s", out.String())
	}
	const want = "link orders: a-to-b of sites a (redis at 127.0.0.1:6379) and b (redis at 127.0.0.1:6380) through Kafka at 127.0.0.1:9092"
	if got := c.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Whatever slip of the pen brings a secret to the wrong place, no message
// quotes it.
func TestErrorsQuoteNoSecret(t *testing.T) {
	for name, site := range map[string]string{
		"no space behind the colon":           `{redis: {addrs: ["h:1"], password:` + hidden + `}}`,
		"an equals sign for the colon":        `{redis: {addrs: ["h:1"], password=` + hidden + `: x}}`,
		"a block without a space":             "\n    redis:\n      password:" + hidden,
		"two colons":                          `{redis: {addrs: ["h:1"], password: : ` + hidden + `}}`,
		"an alias":                            `{redis: {addrs: ["h:1"], password: *` + hidden + `}}`,
		"an anchor":                           `{redis: {addrs: ["h:1"], password: &` + hidden + ` }}`,
		"a tag":                               `{redis: {addrs: ["h:1"], password: !` + hidden + ` }}`,
		"a known tag":                         `{redis: {addrs: ["h:1"], password: !!int ` + hidden + ` }}`,
		"a directive's sign":                  "\n    redis:\n      password: %" + hidden,
		"an at sign":                          "\n    redis:\n      password: @" + hidden,
		"a list":                              `{redis: {addrs: ["h:1"], password: [` + hidden + `]}}`,
		"a mapping":                           `{redis: {addrs: ["h:1"], password: {` + hidden + `: x}}}`,
		"a bracket that ends it":              `{redis: {addrs: ["h:1"], password: ab}` + hidden + `}}`,
		"an open quote":                       `{redis: {addrs: ["h:1"], password: "` + hidden + `}}`,
		"a wrong escape":                      `{redis: {addrs: ["h:1"], password: "\q` + hidden + `"}}`,
		"a variable left open":                `{redis: {addrs: ["h:1"], password: "${` + hidden + `"}}`,
		"a variable with no name":             `{redis: {addrs: ["h:1"], password: "${a-` + hidden + `}"}}`,
		"an address without scheme":           `{redis: {addrs: ["u:` + hidden + `@h:1"]}}`,
		"an address with a wrong scheme":      `{redis: {addrs: ["http://u:` + hidden + `@h:1"]}}`,
		"an address that is no URL":           `{redis: {addrs: ["redis://u:%zz` + hidden + `@h:1"]}}`,
		"an address with a database":          `{redis: {addrs: ["redis://u:` + hidden + `@h:1/2"]}}`,
		"an address from the environment":     `{redis: {addrs: ["${URL}"]}}`,
		"a mode from the environment":         `{redis: {addrs: ["h:1"], mode: "${SECRET}"}}`,
		"both a password and a password_file": `{redis: {addrs: ["h:1"], password: ` + hidden + `, password_file: /f}}`,
		"a password behind a wrong key":       `{redis: {addrs: ["h:1"], pasword: ` + hidden + `}}`,
		"a password that is given twice":      `{redis: {addrs: ["h:1"], password: ` + hidden + `, password: ` + hidden + `}}`,
	} {
		w := world{env: map[string]string{"URL": "nothing://u:" + hidden, "SECRET": hidden}, files: map[string]string{"/f": hidden}}
		_, err := w.parse(strings.Replace(minimal, `{redis: {addrs: ["127.0.0.1:6379"]}}`, site, 1))
		switch {
		case err == nil:
			t.Errorf("%s is no error", name)
		case strings.Contains(err.Error(), hidden):
			t.Errorf("%s is quoted: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"a broker":         `kafka: {brokers: ["u:` + hidden + `@h:1"]}`,
		"a registry":       `schema_registry: {url: "u:` + hidden + `@h:1"}`,
		"a registry's URL": `schema_registry: {url: "http://u:` + hidden + `@h:1"}`,
	} {
		_, err := world{}.parse(text)
		if err == nil || strings.Contains(err.Error(), hidden) {
			t.Errorf("the secret of %s is quoted: %v", name, err)
		}
	}
}
