package precheck

import (
	"context"
	"strings"
	"testing"
)

func TestVersionsAreJudgedByWhatTheyWrite(t *testing.T) {
	for _, c := range []struct {
		redis, valkey    string
		origin           bool
		status           Status
		detail, remedied string
	}{
		{"4.0.14", "", false, Error, "too old", "upgrade the server"},
		{"6.0.20", "", false, Error, "PXAT", "6.2"},
		{"6.2.14", "", false, OK, "Redis 6.2.14", ""},
		{"6.2.14", "", true, Error, "relative", "upgrade the server"},
		{"7.0.15", "", true, OK, "Redis 7.0.15", ""},
		{"7.2.5", "", true, OK, "Redis 7.2.5", ""},
		{"7.4.1", "", true, OK, "Redis 7.4.1", ""},
		{"8.6.3", "", true, OK, "Redis 8.6.3", ""},
		{"8.8.0", "", true, Error, "newer than what", "upgrade Twinlog"},
		{"8.8.0", "", false, Warning, "newer", "upgrade Twinlog"},
		{"7.2.4", "8.1.1", true, OK, "Valkey 8.1.1", ""},
		{"7.2.4", "9.1.2", true, OK, "Valkey 9.1.2", ""},
		{"7.2.4", "9.2.0", true, Error, "Valkey 9.2.0", "upgrade Twinlog"},
		{"7.2.4", "9.2.0", false, Warning, "newer", ""},
		{"unstable", "", true, Warning, "cannot be told", ""},
		{"", "", true, Warning, "cannot be told", ""},
	} {
		s := &site{origin: c.origin, info: map[string]string{"redis_version": c.redis, "valkey_version": c.valkey}}
		if err := s.version(context.Background()); err != nil {
			t.Fatal(err)
		}
		got := s.items[0]
		if got.Status != c.status || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Remedy, c.remedied) {
			t.Errorf("%+v gives %+v", c, got)
		}
	}
}

func TestATargetOlderThanItsOriginIsNamedWithWhatItRefuses(t *testing.T) {
	for _, c := range []struct {
		from, to string
		status   Status
		named    string
		unnamed  string
	}{
		{"7.0.15", "7.0.15", OK, "", "HPEXPIREAT"},
		{"6.2.14", "7.2.4", OK, "", "FUNCTION"},
		{"7.0.15", "6.2.14", Warning, "FUNCTION", "PXAT"},
		{"7.2.4", "5.0.6", Warning, "PXAT", "HPEXPIREAT"},
		{"7.2.4", "7.0.15", OK, "", "FUNCTION"},
		{"8.6.3", "7.2.4", Warning, "HPEXPIREAT", "FUNCTION"},
		{"8.6.3", "8.0.6", Warning, "XDELEX", "HSETEX"},
		{"8.6.3", "valkey 9.1.2", Warning, "VADD", "HPEXPIREAT"},
		{"valkey 9.1.2", "8.0.6", OK, "", "HSETEX"},
		{"valkey 9.1.2", "7.2.4", Warning, "HPEXPIREAT", "VADD"},
		{"valkey 9.1.2", "valkey 8.0.1", Warning, "HSETEX", "VADD"},
	} {
		info := func(version string) map[string]string {
			if release, ok := strings.CutPrefix(version, "valkey "); ok {
				return map[string]string{"redis_version": "7.2.4", "valkey_version": release}
			}
			return map[string]string{"redis_version": version}
		}
		var s sheet
		s.compareVersions(&site{name: "a", info: info(c.from)}, &site{name: "b", info: info(c.to)})
		got := s.items[0]
		if got.Status != c.status || !strings.Contains(got.Detail, c.named) || strings.Contains(got.Detail, c.unnamed) {
			t.Errorf("%s to %s gives %+v", c.from, c.to, got)
		}
	}
}

func TestABacklogIsJudgedByTheSecondsItCovers(t *testing.T) {
	for _, c := range []struct {
		size   int64
		rate   float64
		active bool
		status Status
		detail string
	}{
		{1 << 20, 0, true, OK, "no writes seen"},
		{1 << 20, 900, false, OK, "no writes seen"},
		{1 << 20, 1 << 20, true, Warning, "covers 1 s at your write rate"},
		{64 << 20, 1 << 20, true, OK, "covers 64 s at your write rate"},
		{64 << 20, 1 << 20, false, OK, "covers at least 64 s"},
		{1 << 20, 1 << 20, false, Warning, "covers at least 1 s"},
		{1 << 40, 1, true, OK, "covers days"},
	} {
		s := &site{cfg: &Config{}}
		s.judgeBacklog(c.size, c.rate, c.active)
		got := s.items[0]
		if got.Status != c.status || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%+v gives %+v", c, got)
		}
	}
}

func TestTheReplicaLimitIsFoundUnderBothOfItsNames(t *testing.T) {
	for value, want := range map[string]int64{
		"normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60": 268435456,
		"normal 0 0 0 replica 0 0 0":                                          0,
		"normal 0 0 0":                                                        -1,
		"normal 0 0 0 slave":                                                  -1,
		"slave many":                                                          -1,
		"":                                                                    -1,
	} {
		got, err := replicaLimit(value)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("the limit in %q is %d, want %d (%v)", value, got, want, err)
		}
	}
}

func TestSizesReadAsPeopleWriteThem(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1 << 10: "1 KiB", 1500: "1500 bytes", 1 << 20: "1 MiB", 256 << 20: "256 MiB", 1 << 30: "1 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d reads %q, want %q", n, got, want)
		}
	}
}
