package admin

import (
	"regexp"
	"strings"
	"testing"
)

func TestConsoleIsServedWithAPolicyThatItKeeps(t *testing.T) {
	got := ask(t, serve(t, twoWay()), "GET", "/", nil)
	if got.code != 200 || got.body != string(consolePage) || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("%d, %v", got.code, got.header)
	}
	policy := got.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy %q has no %q", policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy %q is none", policy)
	}
}

func TestConsoleLoadsNothingElse(t *testing.T) {
	page := string(consolePage)
	for _, tag := range []string{"<script>", "</script>", "<style>", "</style>"} {
		if n := strings.Count(page, tag); n != 1 {
			t.Errorf("%s is there %d times, its hash covers one", tag, n)
		}
	}
	page = strings.ReplaceAll(page, "http://www.w3.org/2000/svg", "")
	for _, forbidden := range []string{`https?://`, `\ssrc=`, `@import`, `url\(`, `\sstyle="`, `\son[a-z]+="`, `innerHTML`, `href="/`} {
		if found := regexp.MustCompile(forbidden).FindString(page); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
}

func TestConsoleHasWordsForEveryRule(t *testing.T) {
	_, rest, _ := strings.Cut(string(consolePage), "const byRule = {")
	words, _, _ := strings.Cut(rest, "}")
	for _, rule := range []Rule{RuleD, RuleR, RuleH, RuleNoEffect, RuleSwap} {
		if !regexp.MustCompile(`\b` + string(rule) + `"?: "`).MatchString(words) {
			t.Errorf("no words for rule %s in {%s}", rule, words)
		}
	}
}
