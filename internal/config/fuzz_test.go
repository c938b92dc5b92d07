package config

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// Whatever the text, there is either a link that can run or a list of
// problems, each with a text.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"one-way", "two-way"} {
		text, err := os.ReadFile("../../examples/" + path + ".yml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(design))
	for _, c := range badFiles {
		f.Add([]byte(c.text))
	}
	f.Add([]byte("a: &a [*a, *a]\nsites: &s {x: *s, y: *s}\ndirections: &d [*d, *d]\nkafka: *s"))
	w := world{env: map[string]string{"A": "a", "B": "${A}"}, files: map[string]string{"/f": "secret\n"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := w.parse(string(text))
		if err == nil {
			checkRunnable(t, c)
			return
		}
		var e *Error
		if c != nil || !errors.As(err, &e) || len(e.Problems) == 0 {
			t.Fatalf("got %v and the error %v", c, err)
		}
		for _, p := range e.Problems {
			if p.Text == "" || p.File != "t.yml" {
				t.Fatalf("a problem without text or file: %+v", p)
			}
		}
	})
}

func checkRunnable(t *testing.T, c *Config) {
	t.Helper()
	_, homeKnown := c.Sites[c.Home]
	if c.Link == "" || len(c.Sites) != 2 || len(c.Kafka.Brokers) == 0 || len(c.Directions) < 1 || len(c.Directions) > 2 || !homeKnown {
		t.Fatalf("a link that cannot run: %v", c)
	}
	if _, err := c.Kafka.Options(); err != nil && c.Kafka.TLS == nil {
		t.Fatal(err)
	}
	for name, site := range c.Sites {
		if err := site.Validate(); err != nil {
			t.Fatalf("site %s: %v", name, err)
		}
	}
	for _, d := range c.Directions {
		_, from := c.Sites[d.From]
		_, to := c.Sites[d.To]
		if !from || !to || d.From == d.To {
			t.Fatalf("a direction %s of the sites %v", d.Name(), c.Sites)
		}
	}
	if c.Registry.URL != "" && c.Registry.Validate() != nil {
		t.Fatal("a registry that schema refuses")
	}
	if fmt.Sprint(c) != c.String() {
		t.Fatal("a Config prints more than String says")
	}
}
