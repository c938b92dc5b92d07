package main

import "testing"

func TestTheCollectorLeavesRoomForTheProgram(t *testing.T) {
	for memory, want := range map[int64]int64{16 << 20: 64 << 20, 88 << 20: 64 << 20, 256 << 20: 232 << 20, 1 << 30: 1000 << 20} {
		if got := heapLimit(memory); got != want {
			t.Errorf("memory %d MiB: %d MiB, want %d", memory>>20, got>>20, want>>20)
		}
	}
}
