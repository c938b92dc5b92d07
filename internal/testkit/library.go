package testkit

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed testdata/note.c
var noteSource []byte

// NoteModule compiles a module for --loadmodule: the type note-test, whose
// values hold one string, and the commands NOTE.SET key text and NOTE.GET key.
func NoteModule(tb testing.TB) (path string) {
	tb.Helper()
	return buildLibrary(tb, tb.TempDir(), "note", noteSource)
}

// buildLibrary compiles what is loaded into a server.
func buildLibrary(tb testing.TB, dir, name string, code []byte) (library string) {
	tb.Helper()
	compiler, err := exec.LookPath("cc")
	if err != nil {
		required(tb, "what is loaded into a server has to be compiled: that needs a C compiler (apt-get install -y gcc libc6-dev)")
	}
	source, library := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so")
	if err := os.WriteFile(source, code, 0o600); err != nil {
		tb.Fatal(err)
	}
	if out, err := exec.CommandContext(tb.Context(), compiler, "-O2", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		tb.Fatalf("compiling %s: %v\n%s", name, err, out)
	}
	return library
}
