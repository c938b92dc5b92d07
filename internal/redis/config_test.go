package redis

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		addr   string
		want   endpoint
	}{
		{"host and port", Config{}, "redis.example:6380", endpoint{addr: "redis.example:6380"}},
		{"IPv6", Config{}, "[::1]:6379", endpoint{addr: "[::1]:6379"}},
		{"URL", Config{}, "redis://redis.example:6380", endpoint{addr: "redis.example:6380"}},
		{"URL without port", Config{}, "redis://redis.example", endpoint{addr: "redis.example:6379"}},
		{"URL of IPv6 without port", Config{}, "redis://[::1]", endpoint{addr: "[::1]:6379"}},
		{"URL with database 0", Config{}, "redis://redis.example:1/0", endpoint{addr: "redis.example:1"}},
		{"URL with TLS", Config{}, "rediss://redis.example", endpoint{addr: "redis.example:6379", tls: true}},
		{"URL with user and password", Config{}, "redis://alice:ge%3Aheim@h:1", endpoint{addr: "h:1", username: "alice", password: "ge:heim"}},
		{"URL with a password alone", Config{}, "redis://:geheim@h:1", endpoint{addr: "h:1", password: "geheim"}},
		{"a URL is worth more than the configuration", Config{Username: "bob", Password: "x"}, "redis://alice:geheim@h:1", endpoint{addr: "h:1", username: "alice", password: "geheim"}},
		{"user in the URL, password in the configuration", Config{Password: "geheim"}, "redis://alice@h:1", endpoint{addr: "h:1", username: "alice", password: "geheim"}},
		{"password in the URL, user in the configuration", Config{Username: "alice"}, "redis://:geheim@h:1", endpoint{addr: "h:1", username: "alice", password: "geheim"}},
		{"password", Config{Password: "geheim"}, "h:1", endpoint{addr: "h:1", password: "geheim"}},
		{"user and password", Config{Username: "alice", Password: "ge:heim"}, "h:1", endpoint{addr: "h:1", username: "alice", password: "ge:heim"}},
		{"user:password", Config{Password: "alice:ge:heim"}, "h:1", endpoint{addr: "h:1", username: "alice", password: "ge:heim"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := tt.config.resolve(tt.addr)
			if err != nil || got != tt.want {
				t.Errorf("%+v, error %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"no address", Config{}, "addrs is empty"},
		{"no port", Config{Addrs: []string{"redis.example"}}, `address "redis.example" is not host:port`},
		{"a port that is none", Config{Addrs: []string{"h:redis"}}, `port "redis" is not a number`},
		{"port 0", Config{Addrs: []string{"h:0"}}, `port "0" is not a number from 1 to 65535`},
		{"another scheme", Config{Addrs: []string{"http://h:1"}}, `scheme "http" is not known`},
		{"no host", Config{Addrs: []string{"redis://alice:geheim@"}}, "names no host"},
		{"no URL", Config{Addrs: []string{"redis://alice:geheim@h:port"}}, "is not a URL"},
		{"a password without a scheme", Config{Addrs: []string{"alice:geheim@h:1"}}, "begins with a scheme"},
		{"a database", Config{Addrs: []string{"redis://h:1/3"}}, "names database 3"},
		{"a bad address to write to", Config{Addrs: []string{"h:1"}, WriteAddrs: []string{"h"}}, `address "h"`},
		{"a mode to come", Config{Addrs: []string{"h:1"}, Mode: "cluster"}, "not supported by this version"},
		{"an unknown mode", Config{Addrs: []string{"h:1"}, Mode: "solo"}, "use standalone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			for _, text := range []string{fmt.Sprint(err), tt.config.String()} {
				if strings.Contains(text, "geheim") {
					t.Errorf("the password is in %q", text)
				}
			}
			if _, err := Dial(t.Context(), tt.config); err == nil {
				t.Error("it was dialled")
			}
		})
	}
	several := Config{Addrs: []string{"h", "i"}, Mode: "solo"}.Validate()
	for _, want := range []string{`"h"`, `"i"`, `"solo"`} {
		if !strings.Contains(several.Error(), want) {
			t.Errorf("%v does not name %s", several, want)
		}
	}
}

func TestThePasswordIsNeverShown(t *testing.T) {
	config := Config{Addrs: []string{"redis://alice:geheim@redis.example", "h:1"}, Password: "bob:geheim"}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("connecting", "redis", config)
	}
	shown := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{config, &config, struct{ Redis Config }{config}, []Config{config}} {
			shown = append(shown, fmt.Sprintf(verb, value))
		}
	}
	for _, text := range shown {
		if strings.Contains(text, "geheim") || !strings.Contains(text, "redis.example:6379, h:1") {
			t.Errorf("shown: %q", text)
		}
	}
}
