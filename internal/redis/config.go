// Package redis is Twinlog's way of speaking to a Redis: one connection that
// pipelines and never reconnects by itself, and go-redis for everything that
// is asked now and then.
package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config says how to reach the Redis of a site.
type Config struct {
	Addrs      []string // host:port or redis:// and rediss:// URLs; tried in order
	Mode       string   // standalone (also when empty)
	Username   string   // ACL user; empty: default
	Password   string   // or "user:password" when Username is empty
	TLS        *TLSConfig
	MasterName string
	ReadFrom   string
	WriteAddrs []string
}

// TLSConfig is how to speak TLS. Empty fields mean the system's defaults.
type TLSConfig struct {
	CAFile, CertFile, KeyFile string
	ServerName                string
	InsecureSkipVerify        bool
}

// String keeps the password out of messages.
func (c Config) String() string { return "redis at " + strings.Join(c.hosts(), ", ") }

// GoString keeps the password out of messages with %#v.
func (c Config) GoString() string { return c.String() }

// LogValue keeps the password out of logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (c Config) hosts() []string {
	hosts := make([]string, len(c.Addrs))
	for i, a := range c.Addrs {
		hosts[i] = a[strings.LastIndexByte(a, '@')+1:] // before it stand user and password
		if e, err := parseAddr(a); err == nil {
			hosts[i] = e.addr
		}
	}
	return hosts
}

// Validate names everything that is wrong with c, one error each, joined.
func (c Config) Validate() error {
	var errs []error
	if len(c.Addrs) == 0 {
		errs = append(errs, errors.New("addrs is empty: name the Redis, as in [127.0.0.1:6379]"))
	}
	for _, a := range append(append([]string(nil), c.Addrs...), c.WriteAddrs...) {
		if _, err := parseAddr(a); err != nil {
			errs = append(errs, err)
		}
	}
	switch c.Mode {
	case "", "standalone":
	case "sentinel", "cluster":
		errs = append(errs, fmt.Errorf("mode %s is not supported by this version: only standalone is", c.Mode))
	default:
		errs = append(errs, fmt.Errorf("mode %q is not known: use standalone", c.Mode))
	}
	return errors.Join(errs...)
}

// endpoint is one address with what its URL says.
type endpoint struct {
	addr, username, password string
	tls                      bool
}

// parseAddr's errors show nothing that may be a password.
func parseAddr(a string) (endpoint, error) {
	if !strings.Contains(a, "://") {
		if strings.Contains(a, "@") {
			return endpoint{}, errors.New("an address with user and password begins with a scheme: use redis://user:password@host:port")
		}
		_, port, err := net.SplitHostPort(a)
		if err != nil {
			return endpoint{}, fmt.Errorf("address %q is not host:port or a redis:// URL: %w", a, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return endpoint{}, fmt.Errorf("address %q: port %q is not a number from 1 to 65535", a, port)
		}
		return endpoint{addr: a}, nil
	}
	u, err := url.Parse(a)
	if err != nil {
		return endpoint{}, errors.New("an address is not a URL: use redis://user:password@host:port") // the text may hold a password
	}
	e := endpoint{addr: u.Host, username: u.User.Username(), tls: u.Scheme == "rediss"}
	e.password, _ = u.User.Password()
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return endpoint{}, fmt.Errorf("address scheme %q is not known: use redis:// or rediss://", u.Scheme)
	}
	if u.Hostname() == "" {
		return endpoint{}, errors.New("an address URL names no host: use redis://user:password@host:port")
	}
	if u.Path != "" && u.Path != "/" && u.Path != "/0" {
		return endpoint{}, fmt.Errorf("an address URL names database %s: choose databases with `databases` of the direction", strings.TrimPrefix(u.Path, "/"))
	}
	if u.Port() == "" {
		e.addr = net.JoinHostPort(u.Hostname(), "6379")
	}
	return e, nil
}

// resolve fills an endpoint up with what the configuration says for all.
func (c Config) resolve(a string) (endpoint, *tls.Config, error) {
	e, err := parseAddr(a)
	if err != nil {
		return e, nil, err
	}
	username, password := c.Username, c.Password
	if before, after, ok := strings.Cut(c.Password, ":"); ok && username == "" {
		username, password = before, after
	}
	switch {
	case e.password == "" && (e.username == "" || e.username == username):
		e.username, e.password = username, password
	case e.password == "":
		e.password = c.Password
	case e.username == "":
		e.username = c.Username
	}
	if c.TLS == nil && !e.tls {
		return e, nil, nil
	}
	t, err := c.TLS.build(e.addr)
	return e, t, err
}

func (c *TLSConfig) build(addr string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if c == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify}
	if t.ServerName == "" {
		t.ServerName = host
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading tls.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading tls.cert_file and tls.key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// dialTimeout bounds a connection attempt and its handshake.
const dialTimeout = 5 * time.Second

// Dial connects to the first address that answers, and authenticates. Its
// error names the address and what to do.
func Dial(ctx context.Context, c Config) (*Conn, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range c.Addrs {
		conn, err := c.dial(ctx, a)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (c Config) dial(ctx context.Context, a string) (*Conn, error) {
	e, t, err := c.resolve(a)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer interface {
		DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	} = &net.Dialer{}
	if t != nil {
		dialer = &tls.Dialer{Config: t}
	}
	raw, err := dialer.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, &ConnError{e.addr, "connecting", err}
	}
	conn := newConn(raw, e.addr)
	if err := conn.authenticate(ctx, e); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *Conn) authenticate(ctx context.Context, e endpoint) error {
	if e.password == "" {
		return nil
	}
	args := []string{"AUTH", e.password}
	if e.username != "" {
		args = []string{"AUTH", e.username, e.password}
	}
	reply, err := c.Do(ctx, args...)
	if err != nil {
		return err
	}
	if err := reply.Err(); err != nil {
		return fmt.Errorf("redis at %s refuses user %q or the password: %w: see username and password of the site", e.addr, e.username, err)
	}
	return nil
}

// Client returns a go-redis client of the first address, for what is asked
// now and then. It never retries: whoever asks decides.
func (c Config) Client() *goredis.Client {
	o := &goredis.Options{
		Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 4, PipelinePoolSize: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if len(c.Addrs) > 0 {
		if e, t, err := c.resolve(c.Addrs[0]); err == nil {
			o.Addr, o.Username, o.Password, o.TLSConfig = e.addr, e.username, e.password, t
		}
	}
	return goredis.NewClient(o)
}
