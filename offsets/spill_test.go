package offsets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/internal/command"
	"twinlog/schema"
)

func ledgerFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

var testSeed = maphash.MakeSeed()

// generations fills some at random. Keys whose names have the same first
// letter have the same hash if they collide.
func generations(rng *rand.Rand, n, keys int, collide bool) []*generation {
	var run []*generation
	seq := int64(1000)
	for range n {
		g := newGeneration(seq)
		g.first = seq + 1
		for range keys {
			seq++
			g.to = seq
			k := randomKey(rng, collide)
			at := g.at(k)
			r := &g.records[at]
			r.last, r.kind, r.command = uint32(seq-g.base), command.Kind(rng.IntN(int(command.Swap))), uint16(rng.IntN(1<<16))
			r.other, r.whole, r.read = r.last*uint32(rng.IntN(2)), r.last*uint32(rng.IntN(2)), r.last*uint32(rng.IntN(2))
			g.elements[rng.Uint64N(uint64(keys))] = uint32(seq - g.base)
			if rng.IntN(3) == 0 {
				g.severalKeys = append(g.severalKeys, multiKey{at, true}, multiKey{int32(rng.IntN(len(g.records))), false})
				g.several = append(g.several, multi{uint32(seq - g.base), uint32(len(g.severalKeys))})
			}
		}
		run = append(run, g)
	}
	return run
}

func randomKey(rng *rand.Rand, collide bool) key {
	name := strconv.AppendInt([]byte{byte('a' + rng.IntN(3))}, int64(rng.IntN(500)), 36)
	k := hasher{seed: testSeed}.key(int32(rng.IntN(3))-1, name)
	if collide {
		k.hash = uint64(name[0])
	}
	return k
}

// contents is all that a shelf, or several from the oldest to the newest, know.
type contents struct {
	keys     map[string]touched
	elements map[uint64]int64
	multis   []string
}

func contentsOf(shelves []shelf, collide bool) (c contents, err error) {
	c = contents{map[string]touched{}, map[uint64]int64{}, nil}
	for _, s := range shelves {
		first, last := s.span()
		err = errors.Join(err, s.each(func(db int32, name []byte, t touched) {
			text := fmt.Sprintf("%d/%s", db, name)
			k := hasher{seed: testSeed}.key(db, name)
			if collide {
				k.hash = uint64(name[0])
			}
			found, findErr := s.find(k)
			if err = errors.Join(err, findErr); findErr == nil && found != t {
				err = errors.Join(err, fmt.Errorf("%s: found %+v, listed %+v", text, found, t))
			}
			c.keys[text] = t.before(c.keys[text])
		}))
		for hash := range uint64(450) {
			seq, elementErr := s.element(hash)
			if seq > 0 {
				c.elements[hash] = seq
			}
			err = errors.Join(err, elementErr)
		}
		err = errors.Join(err, s.multis(func(seq int64, keys []command.KeyTouch) {
			if seq < first || seq > last {
				err = errors.Join(err, fmt.Errorf("seq %d is not in %d to %d", seq, first, last))
			}
			line := strconv.FormatInt(seq, 10)
			for _, k := range keys {
				line += fmt.Sprintf(" %d/%s %v", k.DB, k.Name, k.Written)
			}
			c.multis = append(c.multis, line)
		}))
	}
	return c, err
}

func TestMergedGenerationsKnowTheSame(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		n, keys int
		collide bool
	}{
		{"one", 1, 300, false},
		{"many", 9, 300, false},
		{"empty blocks", 1, 1, false},
		{"hashes that collide", 4, 400, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			run := generations(rand.New(rand.NewPCG(7, 7)), tt.n, tt.keys, tt.collide)
			var apart []shelf
			for _, g := range run {
				apart = append(apart, g)
			}
			s, err := mergeToFile(t.TempDir(), "a", run)
			if err != nil {
				t.Fatal(err)
			}
			defer s.drop()
			want, err := contentsOf(apart, tt.collide)
			if err != nil {
				t.Fatal(err)
			}
			got, err := contentsOf([]shelf{s}, tt.collide)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(contents{}, touched{})); diff != "" {
				t.Errorf("the file differs (-want +got):\n%s", diff)
			}
			missing := hasher{seed: testSeed}.key(0, []byte("no such key"))
			if found, err := s.find(missing); err != nil || found != (touched{}) {
				t.Errorf("a key that is not there: %+v, %v", found, err)
			}
			if first, last := s.span(); first != run[0].first || last != run[len(run)-1].to {
				t.Errorf("span %d to %d", first, last)
			}
		})
	}
}

// A name may be longer than a block.
func TestLongNames(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Dir: t.TempDir(), MaxMemory: 1, GenerationEntries: 3})
	defer l.Close()
	long := strings.Repeat("n", 3*blockBytes)
	own(t, l, "RENAME "+long+"1 "+long+"2", "SET "+long+"3 v", "SET "+long+"4 v", "SADD s x", "SADD s y", "SADD s z")
	for _, name := range []string{long + "1", long + "2", long + "4"} {
		if ok, err := protects(l, 0, []byte(name), 0); err != nil || !ok {
			t.Errorf("Protects = %v, %v", ok, err)
		}
	}
	if ok, err := protects(l, 0, []byte(long), 0); err != nil || ok {
		t.Errorf("a key that is not there: Protects = %v, %v", ok, err)
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	t.Parallel()
	run := generations(rand.New(rand.NewPCG(3, 3)), 2, 200, false)
	s, err := mergeToFile(t.TempDir(), "a", run)
	if err != nil {
		t.Fatal(err)
	}
	defer s.drop()
	whole, err := os.ReadFile(s.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(what string) {
		_, err := contentsOf([]shelf{s}, false)
		if err == nil || !strings.Contains(err.Error(), s.file.Name()) || !strings.Contains(err.Error(), "look after that disk") {
			t.Errorf("%s: error = %v", what, err)
		}
	}
	for at := 0; at < len(whole); at += 701 {
		write(t, s.file.Name(), whole[:at])
		damaged(fmt.Sprintf("cut at %d", at))
		one := bytes.Clone(whole)
		one[at] ^= 0x10
		write(t, s.file.Name(), one)
		damaged(fmt.Sprintf("byte %d changed", at))
	}
	write(t, s.file.Name(), whole)
	if _, err := contentsOf([]shelf{s}, false); err != nil {
		t.Errorf("whole again: %v", err)
	}
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever a block holds: no panic, and seqs of the file.
func FuzzBlock(f *testing.F) {
	run := generations(rand.New(rand.NewPCG(3, 3)), 1, 20, false)
	whole, err := mergeToFile(f.TempDir(), "a", run)
	if err != nil {
		f.Fatal(err)
	}
	for _, in := range []*section{&whole.keys, &whole.elements, &whole.several} {
		b, err := whole.read(nil, in, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[checksumBytes:])
	}
	file, err := os.Create(filepath.Join(f.TempDir(), "block"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { file.Close(); whole.drop() })
	f.Fuzz(func(t *testing.T, data []byte) {
		b := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli))
		if _, err := file.WriteAt(append(b, data...), 0); err != nil {
			t.Fatal(err)
		}
		one := section{blocks: []block{{0, int64(len(data)) + checksumBytes}}}
		s := &spilled{file: file, first: 5, last: 1000, keys: one, elements: one, several: one}
		inside := func(seqs ...int64) {
			for _, seq := range seqs {
				if seq != 0 && (seq < s.first || seq > s.last) {
					t.Fatalf("seq %d", seq)
				}
			}
		}
		_ = s.each(func(_ int32, _ []byte, x touched) { inside(x.last, x.other, x.whole, x.read) })
		_ = s.multis(func(seq int64, _ []command.KeyTouch) { inside(seq) })
		if len(data) >= 8 {
			hash := binary.LittleEndian.Uint64(data)
			x, _ := s.find(key{name: []byte("a"), hash: hash})
			inside(x.last, x.other, x.whole, x.read)
			if seq, err := s.element(hash); err == nil {
				inside(seq)
			}
		}
	})
}

func TestFilesComeAndGo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made")
	l := NewLedger(LedgerConfig{Site: "a", Dir: dir, MaxMemory: 1, GenerationEntries: 1})
	own(t, l, "SET a 1", "SET b 1", "SET c 1")
	names := ledgerFiles(t, dir)
	if len(names) != 2 {
		t.Fatalf("files %v, want 2", names)
	}
	info, err := os.Stat(filepath.Join(dir, names[0]))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	others := []string{"ledger-aa-1", "ledger-b-1", "ledger-a-1.bak", "ledger-a", "spool"}
	for _, name := range append([]string{"ledger-a-123"}, others...) { // the first one is of a process that was killed
		write(t, filepath.Join(dir, name), nil)
	}
	if err := l.Heard(1); err != nil || len(ledgerFiles(t, dir)) != 7 {
		t.Errorf("after the peer has seen the first: %v, %v", ledgerFiles(t, dir), err)
	}
	if err := l.Reset(3, 0); err != nil {
		t.Fatal(err)
	}
	slices.Sort(others)
	if diff := cmp.Diff(others, ledgerFiles(t, dir)); diff != "" {
		t.Errorf("files after Reset (-want +got):\n%s", diff)
	}
	own(t, l, "SET a 1", "SET b 1")
	if err := l.Close(); err != nil || !cmp.Equal(others, ledgerFiles(t, dir)) {
		t.Errorf("files after Close: %v, %v", ledgerFiles(t, dir), err)
	}
	if size := l.Size(); size.Memory != 0 || size.Disk != 0 {
		t.Errorf("size after Close %+v", size)
	}
}

func TestSpillErrorsNameTheSite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	l := NewLedger(LedgerConfig{Site: "a", Dir: filepath.Join(file, "dir"), MaxMemory: 1, GenerationEntries: 1})
	own(t, l, "SET a 1")
	e := events(t, 0, "SET b 1", 1, 0)[0]
	if err := l.Own(&e); err == nil || !strings.Contains(err.Error(), "ledger of site a to disk") || !strings.Contains(err.Error(), file) {
		t.Errorf("error = %v", err)
	}
	closed, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	w := newSpillWriter(closed, 1, 9)
	w.element(elementAt{1, 1})
	w.endSection(&w.s.elements)
	if _, err := w.finish(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file that takes nothing: error = %v", err)
	}
}

// What there is no room for counts as unseen.
func TestWhatIsLostCountsAsUnseen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  LedgerConfig
	}{
		{"disk is full", LedgerConfig{Dir: t.TempDir(), MaxMemory: 1, MaxDisk: 100}},
		{"no disk", LedgerConfig{MaxMemory: 150}},
	} {
		cfg := tt.cfg
		cfg.Site, cfg.Home, cfg.GenerationEntries = "a", true, 1
		l := NewLedger(cfg)
		own(t, l, "SET a 1", "SADD s x", "SET c 1", "SET d 1", "SET e 1", "SET f 1")
		size := l.Size()
		if size.Lost < 1 || size.Lost > 4 || cfg.MaxDisk > 0 && size.Disk > cfg.MaxDisk || size.Memory > 350 {
			t.Errorf("%s: size %+v", tt.name, size)
		}
		for _, line := range []string{"DEL never", "DEL a", "SREM s y", "HDEL never x", "LPOP never", "VALUE never"} {
			e := events(t, 0, line, 0, size.Lost-1)[0]
			if v := decide(t, l, &e); !v.LeaveOut {
				t.Errorf("%s: %s was applied over changes that are not known", tt.name, line)
			}
			e.Seen = size.Lost
			if v := decide(t, l, &e); v.LeaveOut {
				t.Errorf("%s: %s was left out though it has seen what is lost", tt.name, line)
			}
		}
		passed(t, l, 1, size.Lost-1, "INCR n")
		if !l.IsDirty(0, []byte("n")) || l.Requested() {
			t.Errorf("%s: n may be in conflict", tt.name)
		}
		passed(t, l, 2, size.Lost-1, "FLUSHDB")
		if !l.Requested() || l.Settled(2) != 0 {
			t.Errorf("%s: home must publish what it kept from FLUSHDB", tt.name)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func decide(t *testing.T, l *Ledger, e *schema.Event) Verdict {
	t.Helper()
	var touch command.Touch
	var v Verdict
	if err := touch.Of(e); err != nil {
		t.Fatal(err)
	}
	if err := l.Decide(e, &touch, false, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// passed gives a ledger the peer's event seq.
func passed(t *testing.T, l *Ledger, seq, seen int64, line string) {
	t.Helper()
	for _, e := range events(t, 0, line, seq-1, seen) {
		var p Print
		if err := PrintOf(&p, &e); err != nil {
			t.Fatal(err)
		}
		if err := l.Pass(p.Seq, p.Seen, p.Command, &p.Touch); err != nil {
			t.Fatal(err)
		}
	}
}

// Files that are there stay between the generations that are merged.
func TestSpillKeepsTheOrder(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Dir: t.TempDir(), MaxMemory: 1, GenerationEntries: 1})
	defer l.Close()
	own(t, l, "SET k 1", "DEL k", "INCR k", "DEL k")
	l.shelves = slices.Insert(l.shelves, 1, shelf(newGeneration(1)))
	l.shelves[1].(*generation).first, l.shelves[1].(*generation).to = 1, 1
	l.current = nil
	if err := l.spill(); err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	for _, s := range l.shelves {
		if _, ok := s.(*spilled); !ok {
			t.Errorf("%T is not on disk", s)
		}
		if _, to := s.span(); to < last {
			t.Errorf("%d stands behind %d", to, last)
		} else {
			last = to
		}
	}
	if own, err := l.look(l.hasher.key(0, []byte("k")), 0); err != nil || own.last != 4 || own.kind != command.Deletion || own.other != 3 {
		t.Errorf("look = %+v, %v", own, err)
	}
}

// What is recalled overlaps with a generation of which the peer has seen a part.
func TestSpillOfWhatWasRecalled(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Dir: t.TempDir(), GenerationEntries: 3})
	defer l.Close()
	lines := []string{"SET a 1", "SET b 1", "SET c 1", "SET d 1", "SET e 1", "RENAME f g", "SET h 1"}
	own(t, l, lines...)
	if err := l.Heard(5); err != nil || l.Floor() != 5 {
		t.Fatalf("floor %d, %v", l.Floor(), err)
	}
	err := l.Recall(4, func(visit func(*schema.Event) error) error {
		return visit(&events(t, 0, "SET e 1", 4, 0)[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	l.current = nil
	if err := l.spill(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"a": 0, "c": 0, "d": 4, "e": 5, "f": 6, "g": 6, "h": 7} {
		if x, err := l.look(l.hasher.key(0, []byte(name)), 4); err != nil || x.last != want {
			t.Errorf("%s: %+v, %v, want seq %d", name, x, err, want)
		}
	}
}

// Merging takes less memory than it frees.
func TestMergeTakesLessThanItFrees(t *testing.T) {
	l := NewLedger(LedgerConfig{Site: "a"})
	for i := range 200_000 {
		e := events(t, 0, fmt.Sprintf("SADD user:%d x", i), int64(i), 0)[0]
		if err := l.Own(&e); err != nil {
			t.Fatal(err)
		}
	}
	var run []*generation
	freed := int64(0)
	for _, s := range l.shelves {
		run = append(run, s.(*generation))
		freed += s.memory()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := mergeToFile(t.TempDir(), "a", run)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	defer s.drop()
	if took := int64(after.TotalAlloc - before.TotalAlloc); took > freed/2 {
		t.Errorf("it took %d bytes to free %d", took, freed)
	}
	if s.memory() > freed/100 {
		t.Errorf("%d bytes stay of %d", s.memory(), freed)
	}
}
