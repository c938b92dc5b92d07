package simulate

import (
	"fmt"
	"slices"
	"strings"
)

// shrink leaves steps out as long as the same is wrong.
func shrink(steps []step, rules Rules, disjoint bool) []step {
	want, _ := run(steps, rules, disjoint, nil)
	for again := true; again; {
		again = false
		for _, size := range []int{8, 4, 2, 1} {
			for i := 0; i < len(steps); {
				less := slices.Concat(steps[:i], steps[min(i+size, len(steps)):])
				if got, _ := run(less, rules, disjoint, nil); got == want {
					steps, again = less, true
				} else {
					i++
				}
			}
		}
	}
	return steps
}

// show tells a schedule step by step, with what both sites hold after each.
func show(steps []step, rules Rules, disjoint bool) string {
	var b strings.Builder
	wrong, _ := run(steps, rules, disjoint, func(s *step, w *world) {
		name := "(at rest)"
		if s != nil {
			name = s.String()
		}
		fmt.Fprintf(&b, "%-44s a %s  b %s\n", name, w.a, w.b)
	})
	return b.String() + wrong + "\n"
}

// String is what a site holds and, behind "!", its dirty keys.
func (s *site) String() string {
	words := make([]string, 0, len(s.memory.entries))
	for _, e := range s.memory.entries {
		words = append(words, e.key+"="+e.value.String())
	}
	var dirty strings.Builder
	for _, key := range slices.Concat(allKeys, []string{counter, members, fields, streamKey}) {
		if s.ledger.IsDirty(0, []byte(key)) {
			dirty.WriteString("!" + key)
		}
	}
	return "{" + strings.Join(words, " ") + "}" + dirty.String()
}

// String is "text", "(element)(element)" or "(field:value)"; a score stands
// behind "@", an expiry behind "~".
func (v *value) String() string {
	var b strings.Builder
	b.WriteString(v.text)
	for _, i := range v.items {
		b.WriteString("(" + i.name)
		if i.value != "" {
			b.WriteString(":" + i.value)
		}
		if i.score != 0 {
			fmt.Fprintf(&b, "@%d", i.score)
		}
		expires(&b, i.ttl)
		b.WriteString(")")
	}
	expires(&b, v.ttl)
	return b.String()
}

func expires(b *strings.Builder, at int64) {
	if at != 0 {
		fmt.Fprintf(b, "~%d", at-someInstant)
	}
}
