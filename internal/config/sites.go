package config

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"twinlog/internal/redis"
)

var (
	linkNames = regexp.MustCompile(`^[a-z0-9-]+$`)
	siteNames = regexp.MustCompile(`^[a-z0-9]+$`)
)

func linkName(v value) string {
	name, ok := v.text()
	if ok && !linkNames.MatchString(name) {
		v.problem("%s is not a link's name: use lower-case letters, digits and -", v.quoted())
	}
	return name
}

func sitesConfig(v value) map[string]redis.Config {
	sites := map[string]redis.Config{}
	entries, ok := v.entries()
	if ok && len(entries) < 2 {
		v.fault("has %d: a link has two sites, name both", len(entries))
	}
	for i, e := range entries {
		at := value{v.r, v.path, e.keyNode}
		if i == 2 {
			at.problem("a link has two sites, and here are %d: describe further pairs in links of their own", len(entries))
			break
		}
		if !siteNames.MatchString(e.key) {
			at.problem("%q is not a site's name: use lower-case letters and digits", keyText(e.key))
		}
		site := e.value.mapping("redis")
		sites[e.key] = redisConfig(site.require("redis", `say where it is, as in redis: {addrs: ["127.0.0.1:6379"]}`))
	}
	return sites
}

// siteName reads the name of a site of the link.
func siteName(v value, sites map[string]redis.Config) string {
	name, ok := v.text()
	if _, known := sites[name]; !ok || known || len(sites) < 2 {
		return name
	}
	v.problem("%s is not a site of this link: use %s", v.quoted(), strings.Join(slices.Sorted(maps.Keys(sites)), " or "))
	return name
}

func redisConfig(v value) redis.Config {
	if !v.given() {
		return redis.Config{}
	}
	o := v.mapping("addrs", "mode", "username", "password", "password_file", "tls", "master_name", "read_from", "write_addrs")
	c := redis.Config{Addrs: addresses(o.require("addrs", "name the Redis, as in [127.0.0.1:6379]")), Mode: redisMode(o.field("mode"))}
	c.Username, _ = o.field("username").text()
	c.Password, _ = o.secret()
	if user := o.field("username"); user.given() && !o.field("password").given() && !o.field("password_file").given() {
		user.fault("is set without password: give password or password_file too")
	}
	c.TLS = (*redis.TLSConfig)(o.field("tls").tlsConfig())
	c.MasterName, _ = o.field("master_name").text()
	c.ReadFrom, _ = o.field("read_from").text()
	c.WriteAddrs = addresses(o.field("write_addrs"))
	o.field("master_name").notYet(v.path+".master_name", "the Redis at addrs is used as it is")
	o.field("read_from").notYet(v.path+".read_from", "the source reads from addrs")
	o.field("write_addrs").notYet(v.path+".write_addrs", "the sink writes to addrs")
	return c
}

// redisMode reads what kind of deployment it is; internal/redis knows which
// are supported.
func redisMode(v value) string {
	mode := v.oneOf("standalone", "standalone", "sentinel", "cluster")
	if err := (redis.Config{Addrs: []string{"127.0.0.1:6379"}, Mode: mode}).Validate(); err != nil {
		v.problem("%v", err)
	}
	return mode
}

func addresses(v value) []string {
	items, ok := v.items()
	if ok && len(items) == 0 {
		v.fault("is empty: name the Redis, as in [127.0.0.1:6379]")
	}
	var addrs []string
	for _, item := range items {
		text, ok := item.text()
		if !ok {
			continue
		}
		if u, err := url.Parse(text); err == nil && u.Host != "" && (strings.Trim(u.Path, "/0") != "" || u.RawQuery != "" || u.Fragment != "") {
			item.problem("the URL goes on behind host and port: remove that; which databases are copied is said in directions")
			continue
		}
		bare := !strings.Contains(text, "://")
		if bare {
			if _, ok := item.hostPort("127.0.0.1:6379 or redis://user:password@127.0.0.1:6379"); !ok {
				continue
			}
		} else if (redis.Config{Addrs: []string{text}}).Validate() != nil {
			item.problem("%s is not a redis:// or rediss:// URL: write redis://user:password@127.0.0.1:6379", item.quoted())
			continue
		}
		addrs = append(addrs, text)
	}
	return addrs
}
