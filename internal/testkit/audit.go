package testkit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// AuditSite is a site whose source is audited.
type AuditSite struct {
	Name string // where the changes are born
	Peer string // the topic is <link>.<Name>-to-<Peer>
	Addr string // of its Redis
}

// Audit proves G1, G3 and G4 of a run. Beside each source it keeps a replica
// of its own that records the replication stream, and in the end it holds
// each topic against that record:
//
//   - each unit that the link's own sink did not write is in the topic exactly
//     once, whole and in order; of the others nothing but what the site
//     deleted by itself meanwhile;
//   - seq is dense from 1, and every event is born at the site;
//   - the events of a unit are one group, within one Kafka transaction, whose
//     last record carries the position.
//
// What a source published before the recording began is checked for its seq
// alone, so begin the audit before the source. Its replica acknowledges
// nothing: WAIT does not count it, and a redis-server that is stopped in good
// order waits for it in vain (shutdown-timeout).
type Audit struct {
	tb      testing.TB
	link    string
	brokers []string
	sites   []auditedSite
}

type auditedSite struct {
	AuditSite
	recorder *recorder
}

// NewAudit begins to record at every site.
func NewAudit(tb testing.TB, link string, brokers []string, sites ...AuditSite) *Audit {
	tb.Helper()
	a := &Audit{tb: tb, link: link, brokers: brokers}
	for _, s := range sites {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		r, err := startRecorder(ctx, s.Addr, newClassifier(link, s))
		cancel()
		if err != nil {
			tb.Fatalf("recording the stream of site %s: %v", s.Name, err)
		}
		tb.Cleanup(r.close)
		a.sites = append(a.sites, auditedSite{s, r})
	}
	return a
}

// Check waits until everything that happened before it is in the topics, at
// most as long as ctx allows, and returns what is wrong. End the load first.
func (a *Audit) Check(ctx context.Context) error {
	var errs []error
	for _, s := range a.sites {
		started := time.Now()
		sums, err := a.checkSite(ctx, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("audit of site %s: %w", s.Name, err))
			continue
		}
		a.tb.Logf("audit of site %s: %v (%v)", s.Name, sums, time.Since(started).Round(time.Millisecond))
	}
	return errors.Join(errs...)
}

func (a *Audit) checkSite(ctx context.Context, s auditedSite) (auditSums, error) {
	end, err := masterOffset(ctx, s.Addr)
	if err != nil {
		return auditSums{}, err
	}
	if err := s.recorder.await(ctx, end); err != nil {
		return auditSums{}, err
	}
	j := newJudge(s.AuditSite, s.recorder, end)
	topic := fmt.Sprintf("%s.%s-to-%s", a.link, s.Name, s.Peer)
	if err := j.read(ctx, a.brokers, topic); err != nil {
		return j.sums, fmt.Errorf("topic %s: %w", topic, err)
	}
	return j.sums, nil
}

// auditSums is what an audit has seen, so that a test's log shows that there
// was something to see.
type auditSums struct {
	units, echoes, events, snapshot, transactions int
}

func (s auditSums) String() string {
	return fmt.Sprintf("%d units, %d of them echoes; %d events and %d of snapshots in %d transactions", s.units, s.echoes, s.events, s.snapshot, s.transactions)
}
