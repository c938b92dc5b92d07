package source

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"twinlog/internal/redis"
	"twinlog/internal/testkit"
	"twinlog/offsets"
)

func TestHistoryOfASiteIsHeldAgainstThePosition(t *testing.T) {
	const ours, other = "aaaa", "bbbb"
	seen := offsets.Mark{TopicID: "t", Seq: 50}
	older, newer := offsets.Mark{TopicID: "t", Seq: 49}, offsets.Mark{TopicID: "t", Seq: 51}
	pos := offsets.Position{Replid: ours, ReplOffset: 100, Seq: 9, Mark: seen}
	unmarked := offsets.Position{Replid: ours, ReplOffset: 100, Seq: 9}
	for name, tt := range map[string]struct {
		pos  offsets.Position
		h    history
		want verdict
	}{
		"the same history":                         {pos, history{replid: ours, offset: 100}, goesOn},
		"the same history, flushed":                {pos, history{replid: ours, offset: 500}, goesOn},
		"a replica that lags":                      {pos, history{replid: ours, offset: 99}, behind},
		"forked where the position is":             {pos, history{replid: other, before: ours, forkedAt: 100}, goesOn},
		"forked before it":                         {pos, history{replid: other, before: ours, forkedAt: 99, marked: true, mark: older}, forked},
		"another history with the mark":            {pos, history{replid: other, marked: true, mark: seen}, goesOn},
		"another history with a newer mark":        {pos, history{replid: other, marked: true, mark: newer}, goesOn},
		"another history with an older mark":       {pos, history{replid: other, marked: true, mark: older, known: true}, lost},
		"another history without the mark":         {pos, history{replid: other, known: true}, lost},
		"nothing was applied, followed before":     {unmarked, history{replid: other, known: true}, goesOn},
		"nothing was applied, never followed":      {unmarked, history{replid: other}, lost},
		"emptied to be filled again":               {pos, history{replid: other, reseeded: true, marked: true, mark: newer}, reseeded},
		"emptied to be filled again, not followed": {pos, history{replid: ours, offset: 100, reseeded: true, marked: true, mark: offsets.Mark{Generation: 1, TopicID: "t", Seq: 51}}, reseeded},
		"emptied to be filled again, and followed": {pos, history{replid: ours, offset: 100, reseeded: true, marked: true, mark: seen}, goesOn},
	} {
		if got := tt.h.judge(tt.pos); got != tt.want {
			t.Errorf("%s: verdict %d, want %d", name, got, tt.want)
		}
	}
}

func TestHistoryThatSharesAPlace(t *testing.T) {
	const ours, other = "aaaa", "bbbb"
	pos := offsets.Position{Replid: ours, ReplOffset: 100}
	for name, tt := range map[string]struct {
		h    history
		want bool
	}{
		"the same history":        {history{replid: ours, offset: 500}, true},
		"forked behind the place": {history{replid: other, before: ours, forkedAt: 200}, true},
		"forked before the place": {history{replid: other, before: ours, forkedAt: 199}, false},
		"of another history":      {history{replid: other, forkedAt: 200}, false},
		"forked twice since":      {history{replid: other, before: "cccc", forkedAt: 200}, false},
		"what it was forked from": {history{replid: ours, before: other, forkedAt: 50}, true},
	} {
		if got := tt.h.shares(pos, 200); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// A stopped process, or machine, is left for another server before long.
func TestAStoppedRedisIsNotWaitedForForEver(t *testing.T) {
	server := testkit.StartRedis(t)
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(server.Pid(), sig); err != nil {
			t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	ctx, cancel := context.WithTimeout(t.Context(), 3*answerWait)
	defer cancel()
	_, err := newTestSource(server, 1<<20).inspect(ctx)
	if !redis.Retryable(err) || ctx.Err() != nil {
		t.Errorf("error %v, %v", err, ctx.Err())
	}
}

func TestWhatIsLostIsNamedWithTheRemedy(t *testing.T) {
	s := newTestSource(nil, 1<<20)
	pos := offsets.Position{Replid: "aaaa", ReplOffset: 100, Seq: 9, Mark: offsets.Mark{Seq: 50}}
	for _, tt := range []struct {
		h    history
		want string
	}{
		{history{replid: "bbbb"}, "has no mark"},
		{history{replid: "bbbb", marked: true, mark: offsets.Mark{Seq: 40}}, "up to seq 40, where seq 50 was before"},
	} {
		text := s.lostError(pos, &tt.h).Error()
		for _, part := range []string{tt.want, "goes up to seq 9", "aaaa:100", "twinlog resync --site " + s.cfg.Site} {
			if !strings.Contains(text, part) {
				t.Errorf("the error does not say %q: %s", part, text)
			}
		}
	}
}
