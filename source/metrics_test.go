package source

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"twinlog/offsets"
)

func TestMetricsOfALedger(t *testing.T) {
	registry := prometheus.NewRegistry()
	conflicts := &offsets.Conflicts{Site: "a"}
	size := offsets.LedgerSize{Memory: 4096, Disk: 65536, Unseen: 17, Dirty: 3}
	ObserveLedger(registry, "l", "a-to-b", "a", func() offsets.LedgerSize { return size }, conflicts)
	conflicts.NoEffect(0, nil, "INCR", 12, "WRONGTYPE", "the value at a")
	page := scrape(registry)
	for _, want := range []string{
		`dirty_keys{direction="a-to-b",link="l",site="a"} 3`,
		`ledger_events{direction="a-to-b",link="l",site="a"} 17`,
		`ledger_bytes{direction="a-to-b",link="l",site="a",where="memory"} 4096`,
		`ledger_bytes{direction="a-to-b",link="l",site="a",where="disk"} 65536`,
		`repaired_total{direction="a-to-b",link="l",site="a"} 0`,
		`conflicts_total{direction="a-to-b",kind="no_effect",link="l",site="a"} 1`,
		`conflicts_total{direction="a-to-b",kind="removal",link="l",site="a"} 0`,
		`conflicts_total{direction="a-to-b",kind="value",link="l",site="a"} 0`,
		`conflicts_total{direction="a-to-b",kind="home",link="l",site="a"} 0`,
		`conflicts_total{direction="a-to-b",kind="swapdb",link="l",site="a"} 0`,
	} {
		if !strings.Contains(page, "\ntwinlog_source_"+want+"\n") {
			t.Errorf("no twinlog_source_%s in\n%s", want, page)
		}
	}
}

func scrape(registry *prometheus.Registry) string {
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return page.Body.String()
}
