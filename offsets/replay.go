package offsets

import "twinlog/schema"

// Replay fills an empty ledger as a source that stands at pos would have: own
// visits the own events behind the ledger's floor, in order, peer the events
// of the peer's topic with seqs from first to last. Conflicts behind
// pos.Settled are found again (rule P); each own event tells by its seen which
// marks of the peer came before it. Nothing is forgotten before the end, since
// the peer's seen may have fallen back in between.
func (l *Ledger) Replay(pos Position, own func(visit func(*schema.Event) error) error, peer func(first, last int64, visit func(*schema.Event) error) error) error {
	passed, last := pos.Settled, int64(0)
	passTo := func(seen int64) error {
		if seen <= passed {
			return nil
		}
		var err error
		last, err = l.passAll(passed, seen, peer)
		passed = seen
		return err
	}
	err := own(func(e *schema.Event) error {
		if err := passTo(e.Seen); err != nil {
			return err
		}
		return l.Own(e)
	})
	if err != nil {
		return err
	}
	if err := passTo(pos.Seen); err != nil {
		return err
	}
	return l.passed(pos.Seen, last)
}
