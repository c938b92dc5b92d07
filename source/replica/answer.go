package replica

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"twinlog/internal/redis"
)

// DeniedError tells that the user lacks a right that a replica needs.
type DeniedError struct {
	Addr, Command string
	Err           error
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("redis at %s refuses %s: %v: give the site's user the rights +psync +replconf +ping (ACL SETUSER), or name one that has them in username and password", e.Addr, e.Command, e.Err)
}

// Unwrap returns the server's answer.
func (e *DeniedError) Unwrap() error { return e.Err }

// Retryable tells whether a new link may help: this one was cut, or the
// server is not ready (loading, busy with a script, without its master).
func Retryable(err error) bool {
	var denied *DeniedError
	if errors.As(err, &denied) {
		return false
	}
	var server *redis.ServerError
	if errors.As(err, &server) && strings.Contains(server.Text, "BGSAVE failed") {
		return true // no memory to fork, or no disk, for the moment
	}
	return redis.Retryable(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

// parseSync reads the answer to PSYNC replid offset.
func parseSync(line, replid string, offset int64) (Sync, error) {
	words := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "-"):
		code, _, _ := strings.Cut(line[1:], " ")
		return Sync{}, &redis.ServerError{Code: code, Text: line[1:]}
	case len(words) == 1 && words[0] == "+CONTINUE" && isReplid(replid):
		return Sync{Replid: replid, Offset: offset - 1}, nil
	case len(words) == 2 && words[0] == "+CONTINUE" && isReplid(replid) && isReplid(words[1]):
		return Sync{Replid: words[1], Offset: offset - 1}, nil
	case len(words) == 3 && words[0] == "+FULLRESYNC" && isReplid(words[1]):
		if at, err := strconv.ParseInt(words[2], 10, 64); err == nil && at >= 0 {
			return Sync{Full: true, Replid: words[1], Offset: at}, nil
		}
	}
	return Sync{}, fmt.Errorf("%q is no answer that a Redis gives; does something else listen there?", line[:min(len(line), 128)])
}

const replidLength = 40

func isReplid(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == replidLength
}
