package sink

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func TestMetricsOfWhatIsLeftOut(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := New(Config{Metrics: NewMetrics(registry, "l", "a-to-b", "b")})
	s.cfg.Metrics.leftOut[leftOutDeletion].add(2)
	s.cfg.Metrics.leftOut[leftOutElement].add(3)
	s.cfg.Metrics.noEffect.Inc()
	if n := s.LeftOut(); n != 5 {
		t.Errorf("%d left out, want 5", n)
	}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`left_out_total{direction="a-to-b",kind="deletion",link="l",site="b"} 2`,
		`left_out_total{direction="a-to-b",kind="element",link="l",site="b"} 3`,
		`left_out_total{direction="a-to-b",kind="pop",link="l",site="b"} 0`, // there before it happens, so that rate() sees it
		`left_out_total{direction="a-to-b",kind="flush",link="l",site="b"} 0`,
		`left_out_total{direction="a-to-b",kind="value",link="l",site="b"} 0`,
		`no_effect_total{direction="a-to-b",link="l",site="b"} 1`,
	} {
		if !strings.Contains(page.Body.String(), "\ntwinlog_sink_"+want+"\n") {
			t.Errorf("no twinlog_sink_%s in\n%s", want, page.Body)
		}
	}
}
