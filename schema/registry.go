package schema

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

// ErrRegistryUnavailable is in errors that another attempt may not meet: the
// schema registry cannot be reached, or answers that it is in trouble.
var ErrRegistryUnavailable = errors.New("schema registry unavailable")

// Bounds of one request to the registry.
const (
	registryTimeout = 10 * time.Second
	maxResponse     = 4 << 20 // bytes
)

// RegistryConfig says where the schema registry is.
type RegistryConfig struct {
	URL      string `yaml:"url"` // http:// or https://
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

// String keeps the password out of messages.
func (c RegistryConfig) String() string { return c.URL }

// LogValue keeps the password out of logs.
func (c RegistryConfig) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Validate names what is wrong with c.
func (c RegistryConfig) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil: // the error of url.Parse would print a password
		return errors.New("schema_registry.url: not a URL; want http://host:port")
	case u.User != nil:
		return errors.New("schema_registry.url: holds a user or password; use username and password beside it")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("schema_registry.url: %q is not an http:// or https:// URL; want http://host:port", c.URL)
	case c.Username == "" && c.Password != "":
		return errors.New("schema_registry.password: is set without username")
	}
	return nil
}

// Registry is a client of a Confluent-compatible schema registry. It may be
// used by several goroutines.
type Registry struct {
	url  string
	http *http.Client
	sr   *sr.Client

	mu    sync.Mutex
	texts map[uint32]string // schemas by id: a registry never changes them
}

// NewRegistry makes a client. It does not connect yet.
func NewRegistry(c RegistryConfig) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	client := &http.Client{Timeout: registryTimeout, Transport: limited{transport}}
	opts := []sr.ClientOpt{sr.URLs(c.URL), sr.HTTPClient(client), sr.UserAgent("twinlog")}
	if c.Username != "" {
		opts = append(opts, sr.BasicAuth(c.Username, c.Password))
	}
	cl, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making schema registry client: %w", err)
	}
	return &Registry{url: c.URL, http: client, sr: cl, texts: make(map[uint32]string)}, nil
}

// Close closes idle connections. Requests under way end by their context.
func (r *Registry) Close() { r.http.CloseIdleConnections() }

// Register makes sure that the schema of this release is registered for the
// values of topic, and returns its id.
func (r *Registry) Register(ctx context.Context, topic string) (int, error) {
	subject := topic + "-value"
	id, err := r.sr.RegisterSchema(ctx, subject, sr.Schema{Schema: text}, -1, -1)
	if err != nil {
		return 0, fmt.Errorf("registering schema as %s at %s: %w", subject, r.url, explain(err))
	}
	if id <= 0 || id > math.MaxInt32 {
		return 0, fmt.Errorf("registering schema as %s at %s: the answer holds no usable id (%d); is this a schema registry?", subject, r.url, id)
	}
	r.keep(uint32(id), text)
	return id, nil
}

// Schema gives the Avro schema with an id, from memory if it was asked for
// before.
func (r *Registry) Schema(ctx context.Context, id uint32) (string, error) {
	r.mu.Lock()
	text, ok := r.texts[id]
	r.mu.Unlock()
	if ok {
		return text, nil
	}
	if id > math.MaxInt32 {
		return "", fmt.Errorf("looking up schema id %d: no registry gives such an id", id)
	}
	s, err := r.sr.SchemaByID(ctx, int(id))
	if err != nil {
		return "", fmt.Errorf("looking up schema id %d at %s: %w", id, r.url, explain(err))
	}
	if s.Type != sr.TypeAvro || len(s.References) > 0 {
		return "", fmt.Errorf("looking up schema id %d at %s: it is %s with %d references; want Avro without any", id, r.url, s.Type, len(s.References))
	}
	r.keep(id, s.Schema)
	return s.Schema, nil
}

func (r *Registry) keep(id uint32, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts[id] = text
}

// explain adds the remedy to an error of the registry's client.
func explain(err error) error {
	var answer *sr.ResponseError
	if !errors.As(err, &answer) {
		if errors.Is(err, context.Canceled) {
			return err
		}
		return fmt.Errorf("%w: %w; check that it runs and that schema_registry.url is right", ErrRegistryUnavailable, err)
	}
	switch code := answer.StatusCode; {
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return fmt.Errorf("%w: status %d: %w", ErrRegistryUnavailable, code, err)
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("status %d: %w; check schema_registry.username and password, and the user's rights", code, err)
	case code == http.StatusConflict:
		return fmt.Errorf("the subject holds a schema that this one is not compatible with: %w; delete the subject if another program made it, or set its compatibility to BACKWARD", err)
	case code == http.StatusNotFound:
		return fmt.Errorf("status %d: %w; check that schema_registry.url is the registry that the events were written with", code, err)
	default:
		return fmt.Errorf("status %d: %w", code, err)
	}
}

// limited ends a response after maxResponse bytes.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxResponse)
	return resp, nil
}

// CloseIdleConnections lets http.Client find the transport's.
func (l limited) CloseIdleConnections() {
	if t, ok := l.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
