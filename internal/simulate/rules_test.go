package simulate

import (
	"testing"

	"twinlog/offsets"
)

// TestEachRuleIsNeeded proves that the simulator can see: with a rule off,
// random schedules fail. Rules whose lack shows too seldom for that have their
// counter-example in TestCounterExamples alone.
func TestEachRuleIsNeeded(t *testing.T) {
	off := func(r offsets.Rules) Rules { return Rules{Rules: r} }
	const most = 30_000 // schedules
	for _, tt := range []struct {
		name   string
		config string
		rules  Rules
	}{
		{"D", "crash", off(offsets.Rules{NoD: true})},
		{"D for elements", "crash", off(offsets.Rules{WholeOnly: true})},
		{"R", "crash", off(offsets.Rules{NoR: true})},
		{"H", "crash", off(offsets.Rules{NoH: true})},
		{"H along chains", "chains", off(offsets.Rules{NoChain: true})},
		{"H for what the peer does to dirty keys", "chains", off(offsets.Rules{NoDirtyPeer: true})},
		{"H2", "chains", off(offsets.Rules{NoDirtyOwn: true})},
		{"E", "chains", off(offsets.Rules{NoHidden: true})},
		{"E with the old seen", "chains", off(offsets.Rules{LateHidden: true})},
		{"F, the fence", "crash", Rules{NoFence: true}},
		{"F, WATCH", "crash", Rules{NoWatch: true}},
		{"W", "rewind", Rules{NoRequest: true}},
		{"what is sent again is no change", "disjoint-demand", Rules{NoRefresh: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := runMany(configOf(t, tt.config), tt.rules, 0, most); r.wrong == "" {
				t.Errorf("%d schedules of %s and nothing is wrong without it", r.schedules, tt.config)
			}
		})
	}
}

// TestCommutingChangesCostNoValues: rule C changes nothing but how many values
// home publishes.
func TestCommutingChangesCostNoValues(t *testing.T) {
	const most = 2000
	c := configOf(t, "single")
	with, without := runMany(c, Rules{}, 0, most), runMany(c, Rules{Rules: offsets.Rules{NoCommute: true}}, 0, most)
	if with.wrong != "" || without.wrong != "" {
		t.Fatalf("%q with the rule, %q without", with.wrong, without.wrong)
	}
	if with.repairs*10 > without.repairs*9 {
		t.Errorf("%d values published with the rule, %d without", with.repairs, without.repairs)
	}
}
