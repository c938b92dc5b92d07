package config

import (
	"math"
	"time"
)

const (
	standardMemory              = 256 << 20
	standardMaxEventBytes       = 900 << 10
	standardMaxTransactionBytes = 32 << 20
)

func limitsConfig(v value) Limits {
	l := Limits{Memory: standardMemory, MaxEventBytes: standardMaxEventBytes, MaxTransactionBytes: standardMaxTransactionBytes}
	if !v.given() {
		return l
	}
	o := v.mapping("memory", "max_event_bytes", "max_transaction_bytes", "snapshot_rate", "max_commands_per_second")
	l.Memory = o.field("memory").size(standardMemory, 16<<20, math.MaxInt64)
	l.MaxEventBytes = int(o.field("max_event_bytes").size(standardMaxEventBytes, 1<<10, 64<<20))
	l.MaxTransactionBytes = o.field("max_transaction_bytes").size(min(standardMaxTransactionBytes, l.Memory), 1, math.MaxInt64)
	l.checkTransaction(o)
	l.SnapshotRate = o.field("snapshot_rate").size(0, 0, math.MaxInt64)
	l.MaxCommandsPerSecond = o.field("max_commands_per_second").whole(0, 0, math.MaxInt64)
	if l.SnapshotRate > 0 {
		o.field("snapshot_rate").notYet("limits.snapshot_rate", "a snapshot is read as fast as it is published")
	}
	if l.MaxCommandsPerSecond > 0 {
		o.field("max_commands_per_second").notYet("limits.max_commands_per_second", "commands are applied as fast as the target takes them")
	}
	return l
}

// checkTransaction holds that an event fits into a transaction, and a
// transaction into memory.
func (l Limits) checkTransaction(o object) {
	at := o.field("max_transaction_bytes")
	if !at.given() {
		at = o.field("max_event_bytes")
	}
	at.path = o.path
	switch {
	case !at.given():
	case l.MaxTransactionBytes < int64(l.MaxEventBytes):
		at.problem("max_transaction_bytes is %s and max_event_bytes %s: a transaction must hold the largest event, so raise the one or lower the other",
			sizeText(l.MaxTransactionBytes), sizeText(int64(l.MaxEventBytes)))
	case l.MaxTransactionBytes > l.Memory:
		at.problem("max_transaction_bytes is %s and memory %s: a transaction is kept in memory, so raise the one or lower the other",
			sizeText(l.MaxTransactionBytes), sizeText(l.Memory))
	}
}

func timingConfig(v value) Timing {
	t := Timing{CommitPause: 2 * time.Millisecond, ExpiryGrace: time.Second}
	if !v.given() {
		return t
	}
	o := v.mapping("commit_pause", "expiry_grace")
	t.CommitPause = o.field("commit_pause").duration(t.CommitPause)
	t.ExpiryGrace = o.field("expiry_grace").duration(t.ExpiryGrace)
	return t
}

func httpConfig(v value) HTTP {
	h := HTTP{Listen: "127.0.0.1:8083"}
	if !v.given() {
		return h
	}
	o := v.mapping("listen")
	if listen, ok := o.field("listen").hostPort("127.0.0.1:8083"); ok {
		h.Listen = listen
	}
	return h
}

func spoolConfig(v value) Spool {
	s := Spool{Dir: "./spool", MaxBytes: 4 << 30}
	if !v.given() {
		return s
	}
	o := v.mapping("dir", "max_bytes")
	if dir, ok := o.field("dir").text(); ok {
		s.Dir = dir
		if dir == "" {
			o.field("dir").fault("is empty: name a directory")
		}
	}
	s.MaxBytes = o.field("max_bytes").size(s.MaxBytes, 1<<20, math.MaxInt64)
	return s
}
