package source

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twinlog/offsets"
	"twinlog/schema"
)

// newSpoolingRig is a lane with little memory and a disk.
func newSpoolingRig(t *testing.T, memory, disk int64) *rig {
	t.Helper()
	r := &rig{t: t, now: time.UnixMilli(1_700_000_000_000)}
	r.lane = newLane(&Config{
		Site: "a", Lane: "0", Topic: "l.a-to-b", Link: "l", Encoder: schema.NewEncoder(0), MaxEventBytes: 1 << 20, MaxMemory: memory,
		SpoolDir: filepath.Join(t.TempDir(), "spool"), SpoolBytes: disk, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, func() time.Time { return r.now })
	if err := r.openSpool(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.closeSpool(); err != nil {
			t.Error(err)
		}
	})
	r.restore(offsets.Position{})
	return r
}

// fill captures n units, making room for each, and fails if it has to wait.
func (r *rig) fill(n, size int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	for range n {
		if err := r.waitForRoom(ctx); err != nil {
			r.t.Fatal(err)
		}
		r.add(r.position().ReplOffset+1, strings.Repeat("v", size))
	}
}

func TestWhatMemoryCannotHoldGoesToDiskAndComesBackInOrder(t *testing.T) {
	const memory, units, size = 1 << 20, 20_000, 1000
	r := newSpoolingRig(t, memory, 1<<30)
	r.fill(units, size)
	if r.weight() >= memory {
		t.Errorf("%d bytes in memory", r.weight())
	}
	if r.spooled() < units*size*9/10 {
		t.Errorf("%d bytes on disk", r.spooled())
	}
	next, offset := int64(1), int64(0)
	for {
		events, pos := r.take()
		if events == nil {
			break
		}
		if r.weight() >= memory {
			t.Fatalf("%d bytes in memory while it is read back", r.weight())
		}
		for _, e := range events {
			if e.Seq != next || e.Source.ReplOffset != next || len(e.Args[1]) != size {
				t.Fatalf("event %+v, want seq %d", e, next)
			}
			next++
		}
		if pos.ReplOffset <= offset || pos.Phase != offsets.PhaseStream || pos.Replid != "r" {
			t.Fatalf("position %+v behind %d", pos, offset)
		}
		offset = pos.ReplOffset
		r.commit()
	}
	if next != units+1 || r.weight() != 0 || r.spooled() != 0 || !r.idle() {
		t.Errorf("it ends before seq %d; %d bytes in memory and %d on disk are left", next, r.weight(), r.spooled())
	}
}

func TestBelowHalfOfTheMemoryNothingGoesToDisk(t *testing.T) {
	r := newSpoolingRig(t, 64<<20, 1<<30)
	r.fill(20_000, 1000)
	if r.spooled() != 0 || r.spilled != 0 {
		t.Errorf("%d bytes on disk", r.spooled())
	}
}

// A ring is lost again and again while some of what waits is on disk.
func TestRewindWithBatchesOnDisk(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for range 30 {
		r := newSpoolingRig(t, 1<<20, 1<<30)
		var inKafka []int64 // seqs
		var flying [][]int64
		for range 200 {
			switch random.IntN(5) {
			case 0, 1:
				r.fill(1+random.IntN(500), 1000)
			case 2:
				if len(flying) == 3 { // as many as a ring has ids
					continue
				}
				if events, _ := r.take(); events != nil {
					flying = append(flying, seqs(events))
				}
			case 3:
				if len(flying) > 0 {
					inKafka, flying = append(inKafka, flying[0]...), flying[1:]
					r.commit()
				}
			case 4:
				for n := random.IntN(len(flying) + 1); n > 0; n-- { // their answers were lost
					inKafka, flying = append(inKafka, flying[0]...), flying[1:]
				}
				flying = nil
				if err := r.rewind(offsets.Position{Seq: int64(len(inKafka)), Phase: offsets.PhaseStream}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, f := range flying {
			inKafka = append(inKafka, f...)
			r.commit()
		}
		for {
			events, _ := r.take()
			if events == nil {
				break
			}
			inKafka = append(inKafka, seqs(events)...)
			r.commit()
		}
		for i, seq := range inKafka {
			if seq != int64(i)+1 {
				t.Fatalf("event %d has seq %d", i, seq)
			}
		}
		if int64(len(inKafka)) != r.seq() || r.weight() != 0 || r.spooled() != 0 || r.spilled != 0 {
			t.Fatalf("%d of %d events; %d bytes in memory and %d on disk are left", len(inKafka), r.seq(), r.weight(), r.spooled())
		}
	}
}

// The capture, the publisher and whoever asks for the state run at once.
func TestLaneWithADiskUnderLoad(t *testing.T) {
	const units, size = 30_000, 500
	r := newSpoolingRig(t, 1<<20, 1<<30)
	var capture, watch sync.WaitGroup
	done := make(chan struct{})
	capture.Go(func() {
		for i := range int64(units) {
			if err := r.waitForRoom(t.Context()); err != nil {
				t.Error(err)
				return
			}
			if err := r.append(unit(strings.Repeat("v", size)), at(i+1)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	watch.Go(func() {
		for !isClosed(done) {
			if _, _, _, blocked := r.progress(); blocked != "" {
				t.Errorf("blocked: %s", blocked)
				return
			}
		}
	})
	random := rand.New(rand.NewPCG(11, 12))
	next, flying := int64(1), 0
	for next <= units {
		events, _ := r.take()
		if events == nil {
			select {
			case <-r.wake:
			case <-t.Context().Done():
				t.Fatal("nothing comes")
			}
			continue
		}
		if flying++; flying == 3 { // as many as a ring has ids
			if random.IntN(4) == 0 {
				if err := r.rewind(offsets.Position{Seq: next - 1, Phase: offsets.PhaseStream}); err != nil {
					t.Fatal(err)
				}
				flying = 0
				continue
			}
			for ; flying > 0; flying-- {
				r.commit()
			}
			next = r.lastCommitted() + 1
		} else if events[len(events)-1].Seq == units {
			for ; flying > 0; flying-- {
				r.commit()
			}
			next = r.lastCommitted() + 1
		}
	}
	capture.Wait()
	close(done)
	watch.Wait()
	if r.weight() != 0 || r.spooled() != 0 {
		t.Errorf("%d bytes in memory and %d on disk are left", r.weight(), r.spooled())
	}
}

func (r *rig) lastCommitted() int64 {
	_, committed, _, _ := r.progress()
	return committed.Seq
}

// While neither memory nor disk can take more, the capture waits and says why.
func TestFullSpoolStopsTheCapture(t *testing.T) {
	for _, tt := range []struct {
		name string
		disk int64
		fill func(*rig)
		want []string
	}{
		{"spool.max_bytes", 2 << 20, nil, []string{"spool.max_bytes: 2 MiB", "the replication socket is not read"}},
		{"no room", 1 << 30, func(r *rig) { fullDisk(r.t, r.spool) }, []string{"no space left on device", "make room there", "the replication socket is not read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newSpoolingRig(t, 1<<20, tt.disk)
			if tt.fill != nil {
				tt.fill(r)
			}
			captured := make(chan error, 1)
			go func() {
				for r.seq() < 5000 {
					if err := r.waitForRoom(t.Context()); err != nil {
						captured <- err
						return
					}
					if err := r.append(unit(strings.Repeat("v", 1000)), at(r.seq()+1)); err != nil {
						captured <- err
						return
					}
				}
				captured <- nil
			}()
			for said := ""; said == ""; _, _, _, said = r.progress() {
				select {
				case err := <-captured:
					t.Fatalf("all was captured, error %v", err)
				case <-time.After(time.Millisecond):
				}
			}
			_, _, _, said := r.progress()
			for _, want := range tt.want {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q: %s", want, said)
				}
			}
			if r.weight() > 1<<20+64<<10 || r.spooled() > tt.disk {
				t.Errorf("%d bytes in memory and %d on disk", r.weight(), r.spooled())
			}
			var got []int64
			for len(got) < 5000 {
				events, _ := r.take()
				if events == nil {
					<-r.wake
					continue
				}
				got = append(got, seqs(events)...)
				r.commit()
			}
			if err := <-captured; err != nil || !slices.IsSorted(got) || got[0] != 1 || got[4999] != 5000 {
				t.Errorf("%d events from seq %d on, error %v", len(got), got[0], err)
			}
		})
	}
}

func TestDamagedFileStopsThePublisherBeforeAHole(t *testing.T) {
	r := newSpoolingRig(t, 1<<20, 1<<30)
	r.fill(5000, 1000)
	for _, g := range r.spool.all {
		if err := os.Truncate(g.file.Name(), 0); err != nil {
			t.Fatal(err)
		}
	}
	next := int64(1)
	for {
		b, err := r.next()
		if err != nil {
			if !final(err) || !strings.Contains(err.Error(), "resume source-a") {
				t.Errorf("error %v", err)
			}
			break
		}
		if b == nil {
			t.Fatal("it did not notice")
		}
		events, _ := r.read(b)
		for _, e := range events {
			if e.Seq != next {
				t.Fatalf("seq %d, want %d", e.Seq, next)
			}
			next++
		}
		r.commit()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.waitForRoom(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
