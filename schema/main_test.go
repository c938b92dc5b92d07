package schema

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files of the current schema")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
