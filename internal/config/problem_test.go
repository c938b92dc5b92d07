package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// with is the minimal file with one text replaced.
func with(old, text string) string {
	if strings.Count(minimal, old) != 1 {
		panic("the minimal file has not exactly one " + old)
	}
	return strings.Replace(minimal, old, text, 1)
}

var badWorld = world{env: map[string]string{"EMPTY": "", "HOST": "h"}, files: map[string]string{"/empty": "\n", "/text": "text"}}

var badFiles = []struct{ name, text, want string }{
	{"an empty file", "# nothing\n", `t.yml:1:1: the file is empty: see examples/two-way.yml for what belongs into it`},
	{"a list", "- a\n", `t.yml:1:1: the file wants a mapping, as in {key: value}, not a list`},
	{"an empty mapping", "{}\n", `t.yml:1:1: link is missing: name the link, as in link: orders
t.yml:1:1: kafka is missing: name the brokers, as in kafka: {brokers: [127.0.0.1:9092]}
t.yml:1:1: sites is missing: name two of them, as in a: {redis: {addrs: ["127.0.0.1:6379"]}}
t.yml:1:1: directions is missing: say what is copied, as in [{from: a, to: b}]`},
	{"a syntax error", "link: [a\n", `t.yml:2:1: this is not YAML: while parsing a flow sequence, did not find expected ',' or ']': check indentation and brackets, and quote values with special characters`},
	{"a value with a colon", "link: a: b\n", `t.yml:1:8: this is not YAML: mapping values are not allowed in this context: check indentation and brackets, and quote values with special characters`},
	{"a tab", "link: a\nkafka:\n\tbrokers: []\n", `t.yml:3:1: this is not YAML: while scanning for the next token, found character that cannot start any token: YAML indents with spaces, not with tabs`},
	{"two documents", minimal + "---\nlink: b\n", `t.yml:8:1: a second YAML document begins here: one file describes one link, so remove the line ---`},
	{"bytes that are not UTF-8", "link: a\n#\xff\n", `t.yml:2:2: the byte 0xff is not UTF-8: save the file as UTF-8`},
	{"a control character", "link: a\nhome: \x01\n", `t.yml:2:7: the control character 0x01 is not allowed in YAML: remove it, or write it as an escape in double quotes`},
	{"an unknown key that is near a known one", minimal + "confict: overwrite\n", `t.yml:8:1: unknown key "confict": did you mean "conflict"?`},
	{"an unknown key that is near none", minimal + "everything: else\n", `t.yml:8:1: unknown key "everything": known here are link, kafka, schema_registry, sites, directions, conflict, home, limits, timing, http, spool`},
	{"an unknown key below", with("brokers", "broker"), `t.yml:2:9: kafka: unknown key "broker": did you mean "brokers"?`},
	{"a key in capitals", with("link", "Link"), `t.yml:1:1: unknown key "Link": did you mean "link"?`},
	{"keys given twice", minimal + "link: b\n", `t.yml:8:1: key "link" is given twice, first on line 1: remove one`},
	{"a merge key", minimal + "http: {<<: {listen: a}}\n", `t.yml:8:8: http: merge keys (<<) are not supported: write the keys out`},
	{"a key that is a list", minimal + "[a]: b\n", `t.yml:8:1: a key is plain text here, as in key: value`},
	{"a tag", with("orders", "!!str orders"), `t.yml:1:7: link: tags (!) have no meaning here: remove it, or put a value that begins with ! into quotes`},
	{"wrong kinds everywhere", "link: [a]\nkafka: text\nsites: []\ndirections: {}\nlimits: 5\nhttp: null\n", `t.yml:1:7: link wants a single value, not a list
t.yml:2:8: kafka wants a mapping, as in {key: value}, not a single value
t.yml:3:8: sites wants a mapping, as in {key: value}, not a list
t.yml:4:13: directions wants a list, as in [x, y], not a mapping
t.yml:5:9: limits wants a mapping, as in {key: value}, not a single value
t.yml:6:7: http is empty: give it a value or remove the line`},
	{"wrong scalars everywhere", minimal + `limits: {memory: lots, max_event_bytes: 1.5MiB, max_transaction_bytes: -1, snapshot_rate: 1MB, max_commands_per_second: 1k}
timing: {commit_pause: 5, expiry_grace: -1s}
http: {listen: "8083"}
spool: {dir: "", max_bytes: 99999999TiB}
conflict: merge
home: c
`, `t.yml:8:18: limits.memory: "lots" is not a size: write it as 256MiB, 900KiB or a plain number of bytes
t.yml:8:41: limits.max_event_bytes: "1.5MiB" is not a size: write it as 256MiB, 900KiB or a plain number of bytes
t.yml:8:72: limits.max_transaction_bytes: "-1" is not a size: write it as 256MiB, 900KiB or a plain number of bytes
t.yml:8:91: limits.snapshot_rate: "1MB" is not a size: write it as 256MiB, 900KiB or a plain number of bytes
t.yml:8:121: limits.max_commands_per_second: "1k" is not a whole number
t.yml:9:24: timing.commit_pause: "5" is not a duration: write it with its unit, as in 2ms, 1s, 90m or 168h
t.yml:9:41: timing.expiry_grace: "-1s" is negative: use 0s or more
t.yml:10:16: http.listen: "8083" is not host:port: write it as 127.0.0.1:8083
t.yml:11:14: spool.dir is empty: name a directory
t.yml:11:29: spool.max_bytes: "99999999TiB" is not a size: write it as 256MiB, 900KiB or a plain number of bytes
t.yml:12:11: conflict: "merge" is not known: use overwrite
t.yml:13:7: home: "c" is not a site of this link: use a or b`},
	{"sizes out of range", minimal + "limits: {memory: 15MiB, max_event_bytes: 65MiB}\n", `t.yml:8:18: limits.memory: "15MiB" is too small: use at least 16MiB
t.yml:8:42: limits.max_event_bytes: "65MiB" is too large: use at most 64MiB`},
	{"an event above the transaction", minimal + "limits: {max_event_bytes: 2KiB, max_transaction_bytes: 2047}\n", `t.yml:8:56: limits: max_transaction_bytes is 2047 and max_event_bytes 2KiB: a transaction must hold the largest event, so raise the one or lower the other`},
	{"an event above the default transaction", minimal + "limits: {max_event_bytes: 33MiB}\n", `t.yml:8:27: limits: max_transaction_bytes is 32MiB and max_event_bytes 33MiB: a transaction must hold the largest event, so raise the one or lower the other`},
	{"a transaction above memory", minimal + "limits: {memory: 16MiB, max_transaction_bytes: 32MiB}\n", `t.yml:8:48: limits: max_transaction_bytes is 32MiB and memory 16MiB: a transaction is kept in memory, so raise the one or lower the other`},
	{"names with capitals and signs", "link: My_Link\nkafka: {brokers: [h:1]}\nsites: {A-1: {redis: {addrs: [h:1]}}, b: {redis: {addrs: [h:2]}}}\ndirections: [{from: A-1, to: b}]\n", `t.yml:1:7: link: "My_Link" is not a link's name: use lower-case letters, digits and -
t.yml:3:9: sites: "A-1" is not a site's name: use lower-case letters and digits`},
	{"names too long for a topic", with("orders", strings.Repeat("o", 243)), `t.yml:1:7: link: the topic <link>.a-to-b would have a name of 250 characters and Kafka takes 249: shorten the names of link and sites`},
	{"one site", with(`  b: {redis: {addrs: ["127.0.0.1:6380"]}}`+"\n", ""), `t.yml:4:3: sites has 1: a link has two sites, name both`},
	{"three sites", with("directions", `  c: {redis: {addrs: ["127.0.0.1:6381"]}}`+"\ndirections"), `t.yml:6:3: sites: a link has two sites, and here are 3: describe further pairs in links of their own`},
	{"a site without redis", with(`{redis: {addrs: ["127.0.0.1:6379"]}}`, "{}"), `t.yml:4:6: sites.a: redis is missing: say where it is, as in redis: {addrs: ["127.0.0.1:6379"]}`},
	{"addresses", with(`["127.0.0.1:6379"]`, `[localhost, "h:port", "http://h:1", "redis://:1", "redis://h:1/3", "h:70000", 5]`), `t.yml:4:23: sites.a.redis.addrs[0]: "localhost" is not host:port: write it as 127.0.0.1:6379 or redis://user:password@127.0.0.1:6379
t.yml:4:34: sites.a.redis.addrs[1]: "h:port" is not host:port: write it as 127.0.0.1:6379 or redis://user:password@127.0.0.1:6379
t.yml:4:44: sites.a.redis.addrs[2]: "http://h:1" is not a redis:// or rediss:// URL: write redis://user:password@127.0.0.1:6379
t.yml:4:58: sites.a.redis.addrs[3]: "redis://:1" is not a redis:// or rediss:// URL: write redis://user:password@127.0.0.1:6379
t.yml:4:72: sites.a.redis.addrs[4]: the URL goes on behind host and port: remove that; which databases are copied is said in directions
t.yml:4:89: sites.a.redis.addrs[5]: "h:70000" is not host:port: write it as 127.0.0.1:6379 or redis://user:password@127.0.0.1:6379
t.yml:4:100: sites.a.redis.addrs[6]: "5" is not host:port: write it as 127.0.0.1:6379 or redis://user:password@127.0.0.1:6379`},
	{"no address", with(`["127.0.0.1:6379"]`, "[]"), `t.yml:4:22: sites.a.redis.addrs is empty: name the Redis, as in [127.0.0.1:6379]`},
	{"modes", with(`"127.0.0.1:6379"]}`, `"127.0.0.1:6379"], mode: sentinel}`), `t.yml:4:48: sites.a.redis.mode: mode sentinel is not supported by this version: only standalone is`},
	{"cluster", with(`"127.0.0.1:6379"]}`, `"127.0.0.1:6379"], mode: cluster}`), `t.yml:4:48: sites.a.redis.mode: mode cluster is not supported by this version: only standalone is`},
	{"a mode misspelt", with(`"127.0.0.1:6379"]}`, `"127.0.0.1:6379"], mode: standalon}`), `t.yml:4:48: sites.a.redis.mode: "standalon" is not known: did you mean standalone?`},
	{"a user without password", with(`"127.0.0.1:6379"]}`, `"127.0.0.1:6379"], username: u}`), `t.yml:4:52: sites.a.redis.username is set without password: give password or password_file too`},
	{"password and password_file", with(`"127.0.0.1:6379"]}`, `"127.0.0.1:6379"], password: x, password_file: /text}`), `t.yml:4:70: sites.a.redis.password_file: password is given too: keep one of them`},
	{"a password_file that is not there", with(`"127.0.0.1:6379"]}`, `"127.0.0.1:6379"], password_file: /none}`), `t.yml:4:57: sites.a.redis.password_file: reading the file: open /none: file does not exist: give the path of a file that this user may read`},
	{"a password_file that is empty", with(`"127.0.0.1:6379"]}`, `"127.0.0.1:6379"], password_file: /empty}`), `t.yml:4:57: sites.a.redis.password_file: the file is empty: write the password into it`},
	{"TLS files", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], tls: {ca_file: /text, cert_file: /text, key_file: /text, insecure_skip_verify: maybe}`), `t.yml:2:53: kafka.tls.ca_file: the file holds no PEM certificate
t.yml:2:71: kafka.tls.cert_file: the file and key_file are no pair of PEM certificate and private key
t.yml:2:117: kafka.tls.insecure_skip_verify: "maybe" is neither true nor false`},
	{"half a TLS pair", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], tls: {ca_file: /none, cert_file: /text}`), `t.yml:2:53: kafka.tls.ca_file: reading the file: open /none: file does not exist: give the path of a file that this user may read
t.yml:2:71: kafka.tls.cert_file is set without key_file: give the certificate's private key too`},
	{"a key alone", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], tls: {key_file: /text}`), `t.yml:2:54: kafka.tls.key_file is set without cert_file: give the key's certificate too`},
	{"TLS that is neither on nor off", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], tls: "on"`), `t.yml:2:43: kafka.tls: "on" is neither true nor false`},
	{"brokers", with(`["127.0.0.1:9092"]`, `[localhost, "PLAINTEXT://h:1", null]`), `t.yml:2:19: kafka.brokers[0]: "localhost" is not host:port: write it as 127.0.0.1:9092
t.yml:2:30: kafka.brokers[1]: "PLAINTEXT://h:1" is not host:port: write it as 127.0.0.1:9092
t.yml:2:49: kafka.brokers[2] is empty: give it a value or remove the line`},
	{"no broker", with(`["127.0.0.1:9092"]`, "[]"), `t.yml:2:18: kafka.brokers is empty: name at least one broker, as in [127.0.0.1:9092]`},
	{"a broker that is no list", with(`["127.0.0.1:9092"]`, "127.0.0.1:9092"), `t.yml:2:18: kafka.brokers wants a list, as in [x, y], not a single value`},
	{"an empty sasl", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], sasl: {}`), `t.yml:2:44: kafka.sasl: mechanism is missing: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
t.yml:2:44: kafka.sasl: username is missing: name the user
t.yml:2:44: kafka.sasl: password is missing: give it, or password_file`},
	{"a mechanism misspelt", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], sasl: {mechanism: SCRAM-SHA512, username: u, password: p}`), `t.yml:2:56: kafka.sasl.mechanism: "SCRAM-SHA512" is not known: did you mean SCRAM-SHA-512?`},
	{"a topic", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], topic: {replication_factor: 0, retention: 7d}`), `t.yml:2:66: kafka.topic.replication_factor: 0 is out of range: use 1 to 32767
t.yml:2:80: kafka.topic.retention: "7d" is not a duration: write it with its unit, as in 2ms, 1s, 90m or 168h`},
	{"a retention below the hourly position", with(`"127.0.0.1:9092"]`, `"127.0.0.1:9092"], topic: {retention: 30m}`), `t.yml:2:57: kafka.topic.retention: "30m" is too short: Twinlog keeps its positions in the topics and writes them again once an hour: use 2h or more, or 0s for ever`},
	{"a registry", minimal + "schema_registry: {url: \"127.0.0.1:8081\", password: p}\n", `t.yml:8:18: schema_registry: password is set without username: give both or none
t.yml:8:24: schema_registry.url: "127.0.0.1:8081" is not an http:// or https:// URL: write http://host:port`},
	{"a registry without URL", minimal + "schema_registry: {username: u}\n", `t.yml:8:18: schema_registry: url is missing: give it, as in http://127.0.0.1:8081, or remove schema_registry`},
	{"a registry's URL with a user", minimal + "schema_registry: {url: \"http://u:p@h\"}\n", `t.yml:8:24: schema_registry.url holds a user or password: use username and password beside it`},
	{"no direction", with("\n  - {from: a, to: b}", " []"), `t.yml:6:13: directions is empty: say what is copied, as in [{from: a, to: b}]`},
	{"three directions", minimal + "  - {from: b, to: a, snapshot: no_data}\n  - {from: a, to: b}\n", `t.yml:9:5: directions[2]: a link has at most two directions, one each way: remove this one`},
	{"a direction to itself", with("to: b", "to: a"), `t.yml:7:19: directions[0].to: a direction leads from one site to the other: name the other site`},
	{"a direction to nowhere", with("from: a, to: b", "from: c"), `t.yml:7:5: directions[0]: to is missing: name the site that they are copied to
t.yml:7:12: directions[0].from: "c" is not a site of this link: use a or b`},
	{"a direction twice", minimal + "  - {from: a, to: b, snapshot: no_data}\n", `t.yml:8:5: directions[1]: both directions lead the same way: a two-way link has one each way, so write {from: b, to: a, snapshot: no_data}`},
	{"a snapshot both ways", minimal + "  - {from: b, to: a, snapshot: always}\n", `t.yml:8:32: directions[1].snapshot: both directions have a snapshot, and each would overwrite the other site: write snapshot: no_data in the direction whose target has the data`},
	{"a snapshot both ways by default", minimal + "  - {from: b, to: a}\n", `t.yml:8:5: directions[1]: both directions have a snapshot, and each would overwrite the other site: write snapshot: no_data in the direction whose target has the data`},
	{"existing with no_data", with("to: b", "to: b, snapshot: no_data, existing: ignore"), `t.yml:7:51: directions[0].existing has no meaning with snapshot: no_data, which copies nothing: remove it`},
	{"words of a direction", with("to: b", "to: b, snapshot: nodata, existing: overwrite, on_gap: fial, errors: ignore"), `t.yml:7:32: directions[0].snapshot: "nodata" is not known: did you mean no_data?
t.yml:7:50: directions[0].existing: "overwrite" is not known: use intercept or ignore
t.yml:7:69: directions[0].on_gap: "fial" is not known: did you mean fail?
t.yml:7:83: directions[0].errors: "ignore" is not known: use fail or dead_letter`},
	{"a scope", with("to: b", `to: b, databases: [0, 0, -1, x], databases_map: {0: 1, 2: 1, x: 1, 3: -1}, include: [], exclude: [""]`), `t.yml:7:37: directions[0].databases[1]: database 0 is named twice: remove one
t.yml:7:40: directions[0].databases[2]: -1 is out of range: use 0 to 2147483646
t.yml:7:44: directions[0].databases[3]: "x" is not a whole number
t.yml:7:73: directions[0].databases_map.2: databases 0 and 2 would both become 1: give each its own
t.yml:7:76: directions[0].databases_map: "x" is not the number of a database
t.yml:7:85: directions[0].databases_map.3: -1 is out of range: use 0 to 2147483646
t.yml:7:99: directions[0].include is empty: name at least one pattern, as in [session:*], or remove it
t.yml:7:113: directions[0].exclude[0] is empty: name a pattern, as in session:*`},
	{"databases that meet at the target", with("to: b", `to: b, databases_map: {0: 3}`), `t.yml:7:37: directions[0].databases_map: databases 0 and 3 would both become 3: give each its own, or leave one out with databases`},
	{"a map of what is not in scope", with("to: b", `to: b, databases: [0], databases_map: {1: 3}`), `t.yml:7:54: directions[0].databases_map: database 1 is not among databases: remove it here, or name it there`},
	{"commands that cannot be skipped", with("to: b", `to: b, skip_commands: [flush, flush, scripts]`), `t.yml:7:45: directions[0].skip_commands[1]: flush is named twice: remove one
t.yml:7:52: directions[0].skip_commands[2]: "scripts" is not known: use flush or publish or function`},
	{"two scopes", with("to: b}", "to: b, databases: [0], databases_map: {0: 3}}\n  - {from: b, to: a, snapshot: no_data, databases: [3]}"), `t.yml:8:52: directions[1].databases: this is not the scope of a-to-b mapped back, and both directions must carry the same keys, or what both sites write could not be settled: remove databases, databases_map, include and exclude here, and this direction takes them over`},
	{"an empty scope", with("to: b", `to: b, databases: []`), `t.yml:7:33: directions[0].databases is empty: name at least one database, or remove it for all`},
	{"variables that are not set", with("orders", "${A}-${B}"), `t.yml:1:7: link: the environment variable A is not set: set it, or write $$ for a plain $
t.yml:1:7: link: the environment variable B is not set: set it, or write $$ for a plain $`},
	{"a variable left open", with("orders", "a${B"), `t.yml:1:7: link: ${ without } after it: write ${NAME} for a variable, $$ for a plain $`},
	{"a variable with a default", with("orders", "${A:-b}"), `t.yml:1:7: link: what stands between ${ and } is not a variable's name: write ${NAME} for a variable, $$ for a plain $`},
	{"a variable that is empty", with("orders", "${EMPTY}"), `t.yml:1:7: link: "${EMPTY}", expanded, is not a link's name: use lower-case letters, digits and -`},
	{"a variable with a wrong value", minimal + `limits: {memory: "${HOST}"}` + "\n", `t.yml:8:18: limits.memory: "${HOST}", expanded, is not a size: write it as 256MiB, 900KiB or a plain number of bytes`},
	{"a list of aliases of itself", "link: &l [*l]\ndirections: &d [*d, *d, *d]\n", `t.yml:1:1: kafka is missing: name the brokers, as in kafka: {brokers: [127.0.0.1:9092]}
t.yml:1:1: sites is missing: name two of them, as in a: {redis: {addrs: ["127.0.0.1:6379"]}}
t.yml:1:7: link wants a single value, not a list
t.yml:2:17: directions[0] wants a mapping, as in {key: value}, not a list`},
}

func TestABadFileTellsAllItsProblemsWithPlaceAndRemedy(t *testing.T) {
	for _, c := range badFiles {
		t.Run(c.name, func(t *testing.T) {
			_, err := badWorld.parse(c.text)
			if err == nil {
				t.Fatal("the file loads")
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProblemsTooManyToTellAreCut(t *testing.T) {
	var text strings.Builder
	for i := range 2 * maxProblems {
		fmt.Fprintf(&text, "unknown%d: x\n", i)
	}
	_, err := world{}.parse(text.String())
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != maxProblems || !strings.HasSuffix(err.Error(), "\nand maybe more: mend these first") {
		t.Errorf("got %v", err)
	}
}

func TestFilesOfWindowsLoad(t *testing.T) {
	if _, err := (world{}).parse("\ufeff" + strings.ReplaceAll(minimal, "\n", "\r\n")); err != nil {
		t.Error(err)
	}
}
