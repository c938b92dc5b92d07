package testkit

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// fakeWorkerEnv makes the test binary stand in for the twinlog program.
const fakeWorkerEnv = "TWINLOG_TEST_FAKE_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(fakeWorkerEnv) != "" {
		fakeWorker()
	}
	goleak.VerifyTestMain(m)
}
