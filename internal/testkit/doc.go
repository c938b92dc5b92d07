// Package testkit is what the tests of every package share: private servers
// (a Redis, a Kafka, the twinlog program itself), load whose result is known
// exactly, and the two judges of a run.
//
//	Workload ──► Redis a ◄──► twinlog ◄──► Redis b ◄── Workload
//	               │                          │
//	               └──────── Compare ─────────┘   are the sites equal?
//	               └── Audit: stream beside topic: was each unit published exactly once?
//
// A judge does not trust what it judges: the audit reads the replication
// stream with a client of its own. Only tests import this package.
package testkit
