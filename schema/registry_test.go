package schema

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

func fakeRegistry(t *testing.T, opts ...srfake.Option) *srfake.Registry {
	t.Helper()
	fake := srfake.New(opts...)
	t.Cleanup(fake.Close)
	return fake
}

func client(t *testing.T, c RegistryConfig) *Registry {
	t.Helper()
	r, err := NewRegistry(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestRegisterIsIdempotent(t *testing.T) {
	fake := fakeRegistry(t)
	r := client(t, RegistryConfig{URL: fake.URL()})
	first, err := r.Register(context.Background(), "orders.a-to-b")
	if err != nil {
		t.Fatal(err)
	}
	again, err := client(t, RegistryConfig{URL: fake.URL()}).Register(context.Background(), "orders.a-to-b")
	if err != nil {
		t.Fatal(err)
	}
	if first != again {
		t.Errorf("ids %d and %d for one schema", first, again)
	}
	s, ok := fake.GetSchema("orders.a-to-b-value", 1)
	if !ok || s.Schema.Schema != string(Bytes()) {
		t.Errorf("the registry holds %+v (%t)", s, ok)
	}
	if _, ok := fake.GetSchema("orders.a-to-b-value", 2); ok {
		t.Error("the schema was registered twice")
	}
}

func TestDecodeByRegistry(t *testing.T) {
	ctx := context.Background()
	fake := fakeRegistry(t)
	var requests atomic.Int32
	fake.Intercept(func(http.ResponseWriter, *http.Request) bool {
		requests.Add(1)
		return false
	})
	id, err := client(t, RegistryConfig{URL: fake.URL()}).Register(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	other := changed(t, with(`{"name":"hlc","type":"long","default":0}`))
	fake.SeedSchema("t-value", 2, 70000, sr.Schema{Schema: other})
	n := native(setEvent())
	n["hlc"] = 5
	foreign := append(binary.BigEndian.AppendUint32([]byte{0}, 70000), encodeBy(t, other, n)...)
	own := NewEncoder(id).Append(nil, setEvent())
	single := NewEncoder(0).Append(nil, setEvent())

	requests.Store(0)
	shared := client(t, RegistryConfig{URL: fake.URL()})
	d := NewDecoder(shared)
	for _, d := range []*Decoder{d, d, NewDecoder(shared)} {
		for name, b := range map[string][]byte{"own id": own, "other writer's id": foreign, "no registry": single} {
			var got Event
			if err := d.Decode(ctx, b, &got); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			mustEqual(t, setEvent(), &got)
		}
	}
	if got := requests.Load(); got != 2 {
		t.Errorf("%d requests for 2 ids", got)
	}
	if len(d.byID) != 1 {
		t.Errorf("the decoder keeps %d compiled schemas of 1 other writer", len(d.byID))
	}
	var e Event
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Decode(ctx, own, &e); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per event of our schema", n)
	}
}

func TestRegistryErrorsNameTheRemedy(t *testing.T) {
	ctx := context.Background()
	gone := srfake.New()
	goneURL := gone.URL()
	gone.Close()
	answer := func(status int, body string) RegistryConfig {
		fake := fakeRegistry(t)
		fake.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return true
		})
		return RegistryConfig{URL: fake.URL()}
	}
	register := func(r *Registry) error { _, err := r.Register(ctx, "t"); return err }
	decode := func(r *Registry) error {
		return NewDecoder(r).Decode(ctx, []byte("\x00\x00\x00\x00\x07rest"), new(Event))
	}
	protected := RegistryConfig{URL: fakeRegistry(t, srfake.WithAuth("Basic dTpw")).URL(), Username: "u"} // u:p
	rightful := protected
	rightful.Password = "p"
	cases := []struct {
		name      string
		config    RegistryConfig
		do        func(*Registry) error
		temporary bool
		want      string
	}{
		{"register, registry away", RegistryConfig{URL: goneURL}, register, true, "registering schema as t-value at " + goneURL + ": schema registry unavailable"},
		{"decode, registry away", RegistryConfig{URL: goneURL}, decode, true, "looking up schema id 7 at " + goneURL + ": schema registry unavailable"},
		{"registry in trouble", answer(503, `{"error_code":50301,"message":"no leader"}`), register, true, "status 503: no leader"},
		{"too many requests", answer(429, "slow down"), decode, true, "status 429: slow down"},
		{"wrong password", protected, register, false, "check schema_registry.username and password"},
		{"right password", rightful, register, false, ""},
		{"incompatible", answer(409, `{"error_code":409,"message":"Schema being registered is incompatible"}`), register, false, "set its compatibility to BACKWARD"},
		{"unknown id", RegistryConfig{URL: fakeRegistry(t).URL()}, decode, false, "check that schema_registry.url is the registry that the events were written with"},
		{"no registry at all", answer(200, `{}`), register, false, "is this a schema registry?"},
		{"a web page", answer(200, `<html>`), register, true, "decode ok response body"},
		{"another program's schema", answer(200, `{"schema":"\"string\""}`), decode, false, "the writer's schema, registry id 7 describes string, not twinlog.v1.ChangeEvent"},
		{"a schema of another type", answer(200, `{"schema":"{}","schemaType":"JSON"}`), decode, false, "want Avro without any"},
		{"an endless answer", answer(200, strings.Repeat(" ", maxResponse+1)), decode, true, "request body too large"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.do(client(t, c.config))
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one with %q", err, c.want)
			}
			if got := errors.Is(err, ErrRegistryUnavailable); got != c.temporary {
				t.Errorf("ErrRegistryUnavailable: %t, want %t: %v", got, c.temporary, err)
			}
		})
	}
}

func TestRegistryConfigIsChecked(t *testing.T) {
	cases := []struct {
		name   string
		config RegistryConfig
		want   string
	}{
		{"complete", RegistryConfig{URL: "https://registry:8081/path", Username: "u", Password: "p"}, ""},
		{"no URL", RegistryConfig{}, "not an http:// or https:// URL"},
		{"no scheme", RegistryConfig{URL: "127.0.0.1:8081"}, "not a URL"},
		{"no host", RegistryConfig{URL: "http:///x"}, "not an http:// or https:// URL"},
		{"password in the URL", RegistryConfig{URL: "http://u:secret@registry:8081"}, "use username and password"},
		{"password in a broken URL", RegistryConfig{URL: "http://u:secret@registry:port"}, "not a URL"},
		{"password alone", RegistryConfig{URL: "http://registry:8081", Password: "secret"}, "without username"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.config.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got error %v, want one with %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "secret"):
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestRegistryPasswordIsNotPrinted(t *testing.T) {
	c := RegistryConfig{URL: "http://registry:8081", Username: "u", Password: "secret"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("registry", "config", c)
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), log.String()} {
		if strings.Contains(s, "secret") {
			t.Errorf("the password stands in %q", s)
		}
	}
}
