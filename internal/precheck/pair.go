package precheck

import "strings"

// compareSites checks what only two sites together show.
func (c *Config) compareSites(sites []*site) []Item {
	known := map[string]*site{}
	for _, s := range sites {
		known[s.name] = s
	}
	var both sheet
	for i, a := range sites {
		for _, b := range sites[i+1:] {
			if a.reached && b.reached {
				compareInstances(&both, a, b)
			}
		}
	}
	for _, d := range c.Directions {
		origin, target := known[d.From], known[d.To]
		if origin != nil && target != nil && origin.info != nil && target.info != nil {
			half := sheet{direction: d.name()}
			half.compareVersions(origin, target)
			both.items = append(both.items, half.items...)
		}
	}
	return both.items
}

func compareInstances(both *sheet, a, b *site) {
	pair := a.name + " and " + b.name
	for _, s := range []*site{a, b} {
		if s.info["run_id"] == "" {
			both.warning("same-instance", "whether sites "+pair+" are the same server cannot be told: INFO of site "+s.name+" does not tell run_id",
				"allow the user INFO, or make sure that they are two servers")
			return
		}
	}
	history := a.info["master_replid"]
	switch {
	case a.info["run_id"] == b.info["run_id"]:
		both.error("same-instance", "sites "+pair+" are the same server", "correct addrs of one of them: a link needs two servers")
	case history != "" && history == b.info["master_replid"]:
		both.error("same-instance", "sites "+pair+" are of one replication group: one replicates from the other, or both from a third",
			"correct addrs, or REPLICAOF NO ONE at one of them: a link joins servers that do not replicate from each other")
	default:
		both.ok("same-instance", "sites "+pair+" are different servers")
	}
}

// brought is what releases added to the commands that events consist of. What
// Redis added after 7.2 a Valkey has later, or never (0).
var brought = []struct {
	redis, valkey int
	commands      string
}{
	{600, 702, "SET with KEEPTTL"},
	{602, 702, "SET with EXAT or PXAT, COPY, LMOVE, GEOSEARCHSTORE, ZRANGESTORE, ZDIFFSTORE, ZADD with GT or LT, XADD with NOMKSTREAM or MINID"},
	{700, 702, "FUNCTION, XSETID with ENTRIESADDED, XGROUP with ENTRIESREAD"},
	{704, 900, "HPEXPIREAT and the other commands for the expiry of fields"},
	{800, 900, "HSETEX"},
	{800, 0, "vector sets (VADD and others)"},
	{802, 0, "XDELEX, XACKDEL, XADD and XTRIM with KEEPREF, DELREF or ACKED"},
	{806, 0, "XCFGSET"},
}

// has tells whether a server has what a release of each product added.
func (v serverVersion) has(redis, valkey int) bool {
	if v.product == "Valkey" {
		return valkey > 0 && v.release() >= valkey
	}
	return v.release() >= redis
}

func (s *sheet) compareVersions(origin, target *site) {
	from, err := parseVersion(origin.info)
	if err != nil {
		return // redis-version says so
	}
	to, err := parseVersion(target.info)
	if err != nil {
		return
	}
	var new []string
	for _, b := range brought {
		if from.has(b.redis, b.valkey) && !to.has(b.redis, b.valkey) {
			new = append(new, b.commands)
		}
	}
	if len(new) == 0 {
		s.ok("target-version", to.name()+" knows the commands of "+from.name())
		return
	}
	s.warning("target-version", "the target ("+to.name()+") may refuse what the origin ("+from.name()+") has: "+strings.Join(new, "; "),
		"upgrade site "+target.name+" to "+from.name()+", or keep clients of site "+origin.name+" from using them")
}
