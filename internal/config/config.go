// Package config reads the one YAML file that says what a link is. It is
// strict: all that is wrong with a file is told at once, each problem with its
// place and what to do, and nothing of the file is ignored in silence.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/schema"
	"twinlog/source"
)

// Config is a link as its file describes it, with every default filled in.
type Config struct {
	Link       string
	Home       string // the site whose order decides
	Kafka      kafka.Config
	Registry   schema.RegistryConfig // zero: none
	Sites      map[string]redis.Config
	Directions []Direction // one or two
	Conflict   string      // overwrite
	Limits     Limits
	Timing     Timing
	HTTP       HTTP
	Spool      Spool

	warnings []Problem
}

// What becomes of an event that cannot be applied.
const (
	ErrorsFail       = "fail"        // it stops the direction
	ErrorsDeadLetter = "dead_letter" // it goes to the topic <link>.dead-letter
)

// Direction is one half of the link.
type Direction struct {
	From, To string
	Snapshot source.SnapshotMode
	Existing string      // intercept or ignore; with no_data always ignore: nothing is copied
	OnGap    string      // snapshot or fail
	Errors   string      // ErrorsFail or ErrorsDeadLetter
	Scope    scope.Scope // databases, databases_map, include, exclude, skip_commands
}

// Name is the direction's name: "a-to-b".
func (d Direction) Name() string { return d.From + "-to-" + d.To }

// Limits bound what a worker takes. Zero rates mean none.
type Limits struct {
	Memory               int64
	MaxEventBytes        int
	MaxTransactionBytes  int64
	SnapshotRate         int64 // bytes per second
	MaxCommandsPerSecond int64
}

// Timing says when things are done.
type Timing struct {
	CommitPause time.Duration // least time between two Kafka commits of a lane
	ExpiryGrace time.Duration // how much longer a copy lives than its origin
}

// HTTP is where the worker listens.
type HTTP struct{ Listen string }

// Spool is where on disk sources keep what Kafka has not taken yet, and two-way
// links what the peer has not seen.
type Spool struct {
	Dir      string
	MaxBytes int64
}

// maxFile bounds the configuration and every file that it names.
const maxFile = 1 << 20

// Load reads the configuration file at path.
func Load(path string) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return Parse(path, text)
}

// Parse reads a configuration from its text; name is the file's name for
// messages. Its error is an *Error.
func Parse(name string, text []byte) (*Config, error) {
	return parse(&reader{file: name, env: os.LookupEnv, read: readFile}, text)
}

func parse(r *reader, text []byte) (*Config, error) {
	c := &Config{}
	if root, ok := r.document(text); ok {
		c.fill(root.mapping("link", "kafka", "schema_registry", "sites", "directions", "conflict", "home", "limits", "timing", "http", "spool"))
	}
	if len(r.problems) > 0 {
		return nil, &Error{inOrder(r.problems)}
	}
	c.warnings = inOrder(r.warnings)
	return c, nil
}

func (c *Config) fill(o object) {
	c.Link = linkName(o.require("link", "name the link, as in link: orders"))
	c.Kafka = kafkaConfig(o.require("kafka", "name the brokers, as in kafka: {brokers: [127.0.0.1:9092]}"))
	c.Registry = registryConfig(o.field("schema_registry"))
	c.Sites = sitesConfig(o.require("sites", `name two of them, as in a: {redis: {addrs: ["127.0.0.1:6379"]}}`))
	c.Directions = directionsConfig(o.require("directions", "say what is copied, as in [{from: a, to: b}]"), c.Sites)
	c.Conflict = o.field("conflict").oneOf("overwrite", "overwrite")
	if len(c.Directions) > 0 {
		c.Home = c.Directions[0].From
	}
	if v := o.field("home"); v.given() {
		c.Home = siteName(v, c.Sites)
	}
	c.Limits = limitsConfig(o.field("limits"))
	c.Timing = timingConfig(o.field("timing"))
	c.HTTP = httpConfig(o.field("http"))
	c.Spool = spoolConfig(o.field("spool"))
	c.checkTopics(o.field("link"))
}

// checkTopics keeps names of topics within what Kafka takes.
func (c *Config) checkTopics(link value) {
	const most = 249
	for _, d := range c.Directions {
		if n := len(c.Link + "." + d.Name()); n > most && link.given() {
			link.problem("the topic <link>.%s would have a name of %d characters and Kafka takes %d: shorten the names of link and sites", clip(d.Name()), n, most)
			return
		}
	}
}

// Warnings tells which options of the file are not in effect in this version,
// each with its place and what happens instead.
func (c *Config) Warnings() []string {
	warnings := make([]string, 0, len(c.warnings))
	for _, w := range c.warnings {
		warnings = append(warnings, w.String())
	}
	return warnings
}

// String tells what the link is, and no secret.
func (c Config) String() string {
	sites := make([]string, 0, len(c.Sites))
	for name, site := range c.Sites {
		sites = append(sites, name+" ("+site.String()+")")
	}
	slices.Sort(sites)
	names := make([]string, 0, len(c.Directions))
	for _, d := range c.Directions {
		names = append(names, d.Name())
	}
	return fmt.Sprintf("link %s: %s of sites %s through Kafka at %s",
		c.Link, strings.Join(names, " and "), strings.Join(sites, " and "), strings.Join(c.Kafka.Brokers, ", "))
}

// Format keeps secrets out of whatever verb a Config is printed with.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue keeps secrets out of logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// readFile reads a file that is small, or says that it is not.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("larger than " + sizeText(maxFile))}
	}
	return text, nil
}
