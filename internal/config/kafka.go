package config

import (
	"strings"
	"time"

	"twinlog/internal/kafka"
	"twinlog/schema"
)

const (
	standardRetention = 168 * time.Hour
	// Positions are written again once an hour, so that retention never
	// removes the last one.
	leastRetention = 2 * time.Hour
)

func kafkaConfig(v value) kafka.Config {
	c := kafka.Config{Topic: kafka.TopicDefaults{ReplicationFactor: 1, Retention: standardRetention}}
	if !v.given() {
		return c
	}
	o := v.mapping("brokers", "tls", "sasl", "topic")
	brokers := o.require("brokers", "name at least one, as in [127.0.0.1:9092]")
	items, ok := brokers.items()
	if ok && len(items) == 0 {
		brokers.fault("is empty: name at least one broker, as in [127.0.0.1:9092]")
	}
	for _, item := range items {
		if broker, ok := item.hostPort("127.0.0.1:9092"); ok {
			c.Brokers = append(c.Brokers, broker)
		}
	}
	c.TLS = o.field("tls").tlsConfig()
	c.SASL = saslConfig(o.field("sasl"))
	topic := o.field("topic")
	if !topic.given() {
		return c
	}
	t := topic.mapping("replication_factor", "retention")
	c.Topic.ReplicationFactor = int(t.field("replication_factor").whole(1, 1, 1<<15-1))
	c.Topic.Retention = t.field("retention").duration(standardRetention)
	if r := c.Topic.Retention; r > 0 && r < leastRetention {
		t.field("retention").problem("%s is too short: Twinlog keeps its positions in the topics and writes them again once an hour: use 2h or more, or 0s for ever", t.field("retention").quoted())
	}
	return c
}

func saslConfig(v value) *kafka.SASLConfig {
	if !v.given() {
		return nil
	}
	o := v.mapping("mechanism", "username", "password", "password_file")
	c := &kafka.SASLConfig{}
	c.Mechanism = o.require("mechanism", "use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512").oneOf("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
	c.Username, _ = o.require("username", "name the user").text()
	if !o.field("password_file").given() {
		o.require("password", "give it, or password_file")
	}
	c.Password, _ = o.secret()
	return c
}

func registryConfig(v value) schema.RegistryConfig {
	var c schema.RegistryConfig
	if !v.given() {
		return c
	}
	o := v.mapping("url", "username", "password", "password_file", "tls")
	o.field("tls").tlsConfig()
	o.field("tls").notYet("schema_registry.tls", "https:// verifies the registry with the system's certificates")
	c.Username, _ = o.field("username").text()
	c.Password, _ = o.secret()
	if c.Username == "" && c.Password != "" {
		o.problem("password is set without username: give both or none")
	}
	address := o.require("url", "give it, as in http://127.0.0.1:8081, or remove schema_registry")
	text, ok := address.text()
	if !ok {
		return c
	}
	c.URL = text
	if strings.Contains(text, "@") {
		address.fault("holds a user or password: use username and password beside it")
	} else if (schema.RegistryConfig{URL: text}).Validate() != nil {
		address.problem("%s is not an http:// or https:// URL: write http://host:port", address.quoted())
	}
	return c
}
