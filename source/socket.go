package source

import "twinlog/source/replica"

// socket reads the replication stream for its units. What would be asked or
// counted anew for each unit is done once a read: the clock, since all units
// of one read arrived together, and the metrics.
type socket struct {
	conn   *replica.Conn
	source *Source
}

// Read implements io.Reader.
func (k *socket) Read(p []byte) (int, error) {
	k.count()
	n, err := k.conn.Read(p)
	k.source.lane.holdClock()
	k.source.cfg.Metrics.bytes.Add(float64(n))
	return n, err
}

// close counts what the last read brought, and lets the clock go on.
func (k *socket) close() {
	k.count()
	k.source.lane.freeClock()
}

func (k *socket) count() {
	k.source.cfg.Metrics.events.Add(float64(k.source.captured))
	k.source.captured = 0
}
