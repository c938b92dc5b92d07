package replica

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"twinlog/internal/redis"
)

const (
	oldID = "0123456789abcdef0123456789abcdef01234567"
	newID = "89abcdef0123456789abcdef0123456789abcdef"
)

func TestAnswersToPSYNC(t *testing.T) {
	for _, tt := range []struct {
		line, replid string
		want         Sync
	}{
		{"+FULLRESYNC " + newID + " 0", "?", Sync{Full: true, Replid: newID}},
		{"+FULLRESYNC " + newID + " 9223372036854775807", oldID, Sync{Full: true, Replid: newID, Offset: 1<<63 - 1}},
		{"+CONTINUE", oldID, Sync{Replid: oldID, Offset: 99}},
		{"+CONTINUE " + oldID, oldID, Sync{Replid: oldID, Offset: 99}},
		{"+CONTINUE " + newID, oldID, Sync{Replid: newID, Offset: 99}},
	} {
		got, err := parseSync(tt.line, tt.replid, 100)
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v, error %v, want %+v", tt.line, got, err, tt.want)
		}
	}
}

func TestAnswersThatNoRedisGives(t *testing.T) {
	for _, tt := range []struct{ line, replid string }{
		{"", oldID},
		{"+OK", oldID},
		{"+CONTINUE", "?"},
		{"+CONTINUE " + newID, "?"},
		{"+CONTINUE " + newID[1:], oldID},
		{"+CONTINUE " + strings.Repeat("x", 40), oldID},
		{"+CONTINUE " + newID + " 5", oldID},
		{"+FULLRESYNC", "?"},
		{"+FULLRESYNC " + newID, "?"},
		{"+FULLRESYNC " + newID + " -1", "?"},
		{"+FULLRESYNC " + newID + " 9223372036854775808", "?"},
		{"+FULLRESYNC x 1", "?"},
		{"HTTP/1.1 400 Bad Request", "?"},
	} {
		got, err := parseSync(tt.line, tt.replid, 100)
		if err == nil || got != (Sync{}) || Retryable(err) {
			t.Errorf("%q: %+v, error %v", tt.line, got, err)
		}
	}
}

func FuzzParseSync(f *testing.F) {
	for _, line := range []string{"+CONTINUE", "+CONTINUE " + newID, "+FULLRESYNC " + newID + " 12", "-NOMASTERLINK x", "-", "+FULLRESYNC " + newID + " -1", "\x00"} {
		f.Add(line, oldID, int64(7))
		f.Add(line, "?", int64(-1))
	}
	f.Fuzz(func(t *testing.T, line, replid string, offset int64) {
		got, err := parseSync(line, replid, offset)
		var server *redis.ServerError
		switch {
		case err != nil && got != (Sync{}):
			t.Errorf("an error and %+v", got)
		case errors.As(err, &server) != strings.HasPrefix(line, "-"):
			t.Errorf("%q gives %v", line, err)
		case err == nil && len(got.Replid) != replidLength:
			t.Errorf("replid %q", got.Replid)
		case err == nil && got.Full && got.Offset < 0:
			t.Errorf("offset %d", got.Offset)
		case err == nil && !got.Full && (got.Offset != offset-1 || !isReplid(replid)):
			t.Errorf("PSYNC %q %d continues at %d", replid, offset, got.Offset)
		}
	})
}

func TestWhatMayBeTriedAgain(t *testing.T) {
	answer := func(line string) error {
		_, err := parseSync(line, oldID, 1)
		return err
	}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("a bug"), false},
		{io.ErrUnexpectedEOF, true},
		{&redis.ConnError{Addr: "h:1", Op: "connecting", Err: io.EOF}, true},
		{answer("-LOADING Redis is loading the dataset in memory"), true},
		{answer("-BUSY Redis is busy running a script."), true},
		{answer("-NOMASTERLINK Can't SYNC while not connected with my master"), true},
		{answer("-MASTERDOWN Link with MASTER is down"), true},
		{answer("-ERR BGSAVE failed, replication can't continue"), true},
		{answer("-ERR unknown command 'PSYNC'"), false},
		{answer("-NOPERM this user has no permissions"), false},
		{&DeniedError{Addr: "h:1", Command: "PSYNC", Err: &redis.ServerError{Code: "LOADING"}}, false},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("joining: %w", tt.err)} {
			if tt.err == nil {
				err = nil
			}
			if got := Retryable(err); got != tt.want {
				t.Errorf("%v: %v, want %v", err, got, tt.want)
			}
		}
	}
}
