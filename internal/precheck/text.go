package precheck

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// colors are ANSI sequences of equal length, so that columns stay aligned.
var colors = map[Status]string{OK: "\x1b[32m", Warning: "\x1b[33m", Error: "\x1b[31m", Ignored: "\x1b[36m"}

// WriteText writes the report for people: a line for each item, below it what
// to do, and a line that counts.
func (r Report) WriteText(w io.Writer, color bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	counts := map[Status]int{}
	for _, i := range r.Items {
		counts[i.Status]++
		status := string(i.Status)
		if color {
			status = colors[i.Status] + status + "\x1b[0m"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", status, i.Name, i.where(), i.Detail)
		if i.Remedy != "" {
			blank := ""
			if color { // as wide as the tabwriter takes a colored status for
				blank = "\x1b[39m\x1b[0m"
			}
			fmt.Fprintf(table, "%s\t\t\t  to do: %s\n", blank, i.Remedy)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	_, err := fmt.Fprintf(w, "\n%d ok, %d warnings, %d errors, %d ignored\n", counts[OK], counts[Warning], counts[Error], counts[Ignored])
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// where names what the item is about: a site, a direction or the link.
func (i *Item) where() string {
	switch {
	case i.Direction != "":
		return i.Direction
	case i.Site != "":
		return "site " + i.Site
	default:
		return "link"
	}
}
