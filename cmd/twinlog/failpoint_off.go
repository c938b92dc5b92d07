//go:build !failpoints

package main

// failpoint is nothing outside crash tests.
func failpoint() func(point string) { return nil }
