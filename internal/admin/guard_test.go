package admin

import (
	"slices"
	"strings"
	"testing"
)

func TestPagesOfOtherSitesCannotSteer(t *testing.T) {
	tests := []struct {
		name     string
		method   string
		path     string
		headers  func(addr string) []string
		wantCode int
	}{
		{"curl may steer", "PUT", "/connectors/source-a/pause", func(string) []string { return nil }, 202},
		{"curl by a name of its own may steer", "PUT", "/connectors/source-a/pause", func(string) []string { return []string{"Host", "twinlog.internal:8083"} }, 202},
		{"the console may steer", "PUT", "/connectors/source-a/pause", func(addr string) []string {
			return []string{"Origin", "http://" + addr, "Sec-Fetch-Site", "same-origin"}
		}, 202},
		{"the console by localhost may steer", "PUT", "/connectors/source-a/pause", func(string) []string { return []string{"Host", "localhost:8083", "Origin", "http://localhost:8083"} }, 202},
		{"the console by IPv6 may steer", "PUT", "/connectors/source-a/pause", func(string) []string { return []string{"Host", "[::1]:8083", "Origin", "http://[::1]:8083"} }, 202},
		{"a browser that says cross-site is refused", "PUT", "/connectors/source-a/pause", func(string) []string { return []string{"Sec-Fetch-Site", "cross-site"} }, 403},
		{"a page on another port is refused", "POST", "/connectors/source-a/restart", func(addr string) []string {
			return []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"}
		}, 403},
		{"a foreign origin is refused", "PUT", "/connectors/source-a/stop", func(string) []string { return []string{"Origin", "https://evil.example"} }, 403},
		{"an opaque origin is refused", "PUT", "/connectors/source-a/stop", func(string) []string { return []string{"Origin", "null"} }, 403},
		{"a name rebound to loopback is refused", "PUT", "/connectors/source-a/pause", func(string) []string {
			return []string{"Host", "evil.example:8083", "Origin", "http://evil.example:8083"}
		}, 403},
		{"a name that ends like localhost is refused", "POST", "/connectors/source-a/restart", func(string) []string { return []string{"Host", "evillocalhost", "Origin", "http://evillocalhost"} }, 403},
		{"validation is guarded too", "PUT", "/connector-plugins/TwinlogSource/config/validate", func(string) []string { return []string{"Sec-Fetch-Site", "cross-site"} }, 403},
		{"reading is not refused", "GET", "/status", func(string) []string { return []string{"Sec-Fetch-Site", "cross-site"} }, 200},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := twoWay()
			s := serve(t, f)
			got := ask(t, s, test.method, test.path, nil, test.headers(s.Addr())...)
			if got.code != test.wantCode {
				t.Errorf("%d %s, want %d", got.code, got.body, test.wantCode)
			}
			if test.wantCode == 403 && (!strings.Contains(got.body, `"error_code": 403`) || len(f.calls()) != 0) {
				t.Errorf("refused with %q, and the worker was asked %q", got.body, f.calls())
			}
			if test.wantCode == 202 && !slices.Equal(f.calls(), []string{"pause source-a"}) {
				t.Errorf("the worker was asked %q", f.calls())
			}
			if got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("other sites may read the answer")
			}
		})
	}
}
