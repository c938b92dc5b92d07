package precheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Status is what an item came to.
type Status string

// An item is fine, may cause trouble, must be mended before the start, or was
// found and is passed because the user said so.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Error   Status = "error"
	Ignored Status = "ignored"
)

// Item is one thing that was checked.
type Item struct {
	Name      string `json:"name"`
	Site      string `json:"site,omitempty"`
	Direction string `json:"direction,omitempty"`
	Status    Status `json:"status"`
	Detail    string `json:"detail"`
	Remedy    string `json:"remedy,omitempty"`

	away bool // a server cannot be reached or is not ready: it may be soon
}

// Report is what a pre-check found.
type Report struct {
	Items []Item `json:"items"`
}

// names are all items, in the order of the package's documentation.
var names = []string{
	"config",
	"redis-reachable", "redis-version", "redis-role", "redis-cluster", "redis-psync", "redis-write", "redis-commands", "redis-maxmemory",
	"redis-appendonly", "redis-diskless-delay", "redis-replica-buffer", "redis-query-buffer", "redis-backlog",
	"same-instance", "target-version", "target-empty",
	"kafka-reachable", "kafka-transactions", "kafka-groups",
	"topic-exists", "topic-rights", "topic-partitions", "topic-cleanup", "topic-retention", "topic-message-size", "topic-durability",
	"schema-registry",
}

// Names returns the names that items can have. They never change.
func Names() []string { return slices.Clone(names) }

// CheckNames tells which of the names to ignore no item has.
func CheckNames(ignore []string) error {
	for _, name := range ignore {
		if !slices.Contains(names, name) {
			return fmt.Errorf("--ignore %s: the pre-check has no such item: use one of %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// Failed tells whether an item that is not ignored must be mended first.
func (r Report) Failed(ignore []string) bool {
	return slices.ContainsFunc(r.Items, func(i Item) bool { return i.Status == Error && !slices.Contains(ignore, i.Name) })
}

// Away tells whether all that failed is that servers cannot be reached or are
// not ready, so that waiting may mend it.
func (r Report) Away(ignore []string) bool {
	return r.Failed(ignore) && !slices.ContainsFunc(r.Items, func(i Item) bool {
		return i.Status == Error && !i.away && !slices.Contains(ignore, i.Name)
	})
}

// Ignore returns the report with what is wrong with the named items passed.
func (r Report) Ignore(ignore []string) Report {
	items := slices.Clone(r.Items)
	for i, item := range items {
		if item.Status != OK && slices.Contains(ignore, item.Name) {
			items[i].Status = Ignored
		}
	}
	return Report{Items: items}
}

// sheet collects the items of one site or direction.
type sheet struct {
	site, direction string
	items           []Item
}

func (s *sheet) add(status Status, name, detail, remedy string) {
	s.items = append(s.items, Item{Name: name, Site: s.site, Direction: s.direction, Status: status, Detail: oneLine(detail), Remedy: remedy})
}

func (s *sheet) ok(name, detail string)              { s.add(OK, name, detail, "") }
func (s *sheet) warning(name, detail, remedy string) { s.add(Warning, name, detail, remedy) }
func (s *sheet) error(name, detail, remedy string)   { s.add(Error, name, detail, remedy) }

// noAnswer is the error of a server that cannot be asked.
func (s *sheet) noAnswer(name string, err error, detail, remedy string, mayReturn func(error) bool) {
	s.error(name, detail, remedy)
	s.items[len(s.items)-1].away = errors.Is(err, context.DeadlineExceeded) || mayReturn(err)
}

// oneLine joins the lines of an error, and keeps what a server sent from
// steering a terminal.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
