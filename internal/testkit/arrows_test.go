package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	module    = "twinlog"
	testsOnly = -1 // the floor of a package that only tests import
)

// floors maps a folder to its floor.
type floors map[string]int

// readFloors reads the table of docs/architecture.md: "| floor | packages |".
func readFloors(text string) (floors, error) {
	_, table, found := strings.Cut(text, "| floor | packages |\n")
	if !found {
		return nil, errors.New("there is no table | floor | packages |")
	}
	remark := regexp.MustCompile(`\([^)]*\)`)
	f := floors{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 4 {
			break
		}
		name := strings.TrimSpace(cells[1])
		if strings.Trim(name, "-") == "" {
			continue
		}
		floor, err := strconv.Atoi(name)
		if name == "any, tests only" {
			floor = testsOnly
		} else if err != nil {
			return nil, fmt.Errorf("floor %q is not a number", name)
		}
		for p := range strings.SplitSeq(remark.ReplaceAllString(cells[2], ""), ",") {
			f[strings.TrimSpace(p)] = floor
		}
	}
	return f, nil
}

// of returns the floor of a package, which is that of the folder it lies in.
func (f floors) of(pkg string) (floor int, known bool) {
	for dir := pkg; dir != "."; dir = filepath.Dir(dir) {
		if floor, known = f[dir]; known {
			return floor, true
		}
	}
	return 0, false
}

// goPackage is what `go list -json` tells of a package.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// violations returns the arrows that point up or sideways.
func (f floors) violations(p goPackage) (wrong []error) {
	from := strings.TrimPrefix(p.ImportPath, module+"/")
	floor, known := f.of(from)
	if !known {
		return []error{fmt.Errorf("%s is in no row of docs/architecture.md: add it on its floor", from)}
	}
	for _, path := range p.Imports {
		to, ours := strings.CutPrefix(path, module+"/")
		below, known := f.of(to)
		switch {
		case !ours || !known || floor == testsOnly || strings.HasPrefix(to, from+"/"):
		case below == testsOnly:
			wrong = append(wrong, fmt.Errorf("%s imports %s, which only tests may import", from, to))
		case below >= floor:
			wrong = append(wrong, fmt.Errorf("%s (floor %d) imports %s (floor %d)", from, floor, to, below))
		}
	}
	top, _, _ := strings.Cut(from, "/")
	other := map[string]string{"source": "sink", "sink": "source"}[top]
	for _, path := range append(p.TestImports, p.XTestImports...) {
		to := strings.TrimPrefix(path, module+"/")
		if other != "" && (to == other || strings.HasPrefix(to, other+"/")) {
			wrong = append(wrong, fmt.Errorf("a test of %s imports %s: source and sink never import each other", from, to))
		}
	}
	return wrong
}

func TestArrowsPointDown(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := readFloors(string(text))
	if err != nil {
		t.Fatal(err)
	}
	// -e: what does not compile is for the compiler to report.
	list := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, err := range table.violations(p) {
			t.Error(err)
		}
	}
}

func TestArrowsThatPointElsewhereAreFound(t *testing.T) {
	table, err := readFloors("| floor | packages |\n|---|---|\n| 6 | cmd/x |\n| 3 | source (a, b below it), sink |\n| 0 | schema |\n| any, tests only | internal/testkit |\n\nrest\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		pkg  goPackage
		want string
	}{
		{"down", goPackage{ImportPath: "twinlog/source", Imports: []string{"twinlog/schema", "fmt"}}, ""},
		{"into a folder of its own", goPackage{ImportPath: "twinlog/source", Imports: []string{"twinlog/source/a"}}, ""},
		{"out of a folder", goPackage{ImportPath: "twinlog/source/a", Imports: []string{"twinlog/source"}}, "source/a (floor 3) imports source (floor 3)"},
		{"between folders", goPackage{ImportPath: "twinlog/source/a", Imports: []string{"twinlog/source/b"}}, "source/a (floor 3) imports source/b"},
		{"up", goPackage{ImportPath: "twinlog/schema", Imports: []string{"twinlog/sink"}}, "schema (floor 0) imports sink (floor 3)"},
		{"sideways", goPackage{ImportPath: "twinlog/sink", Imports: []string{"twinlog/source"}}, "sink (floor 3) imports source (floor 3)"},
		{"sideways in a test", goPackage{ImportPath: "twinlog/sink", XTestImports: []string{"twinlog/source/a"}}, "source and sink never"},
		{"to the test kit", goPackage{ImportPath: "twinlog/cmd/x", Imports: []string{"twinlog/internal/testkit"}}, "only tests"},
		{"to the test kit in a test", goPackage{ImportPath: "twinlog/cmd/x", TestImports: []string{"twinlog/internal/testkit"}}, ""},
		{"from nowhere", goPackage{ImportPath: "twinlog/internal/util"}, "internal/util is in no row"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := errors.Join(table.violations(tt.pkg)...)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}
