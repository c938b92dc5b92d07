package testkit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// composeFile is docker-compose.yml as far as this project uses the format;
// any other key is an error.
type composeFile struct {
	Name     string                    `yaml:"name"`
	XRedis   any                       `yaml:"x-redis"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
}

type composeService struct {
	Image       string                       `yaml:"image"`
	Build       string                       `yaml:"build"`
	Command     []string                     `yaml:"command"`
	Environment map[string]string            `yaml:"environment"`
	Ports       []string                     `yaml:"ports"`
	Volumes     []string                     `yaml:"volumes"`
	DependsOn   map[string]map[string]string `yaml:"depends_on"`
	HealthCheck struct {
		Test        []string `yaml:"test"`
		Interval    string   `yaml:"interval"`
		Timeout     string   `yaml:"timeout"`
		StartPeriod string   `yaml:"start_period"`
		Retries     int      `yaml:"retries"`
	} `yaml:"healthcheck"`
	Restart         string   `yaml:"restart"`
	StopGracePeriod string   `yaml:"stop_grace_period"`
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
}

// linkFile is what the compose file and the worker's configuration must agree on.
type linkFile struct {
	Kafka struct {
		Brokers []string `yaml:"brokers"`
	} `yaml:"kafka"`
	Sites map[string]struct {
		Redis struct {
			Addrs []string `yaml:"addrs"`
		} `yaml:"redis"`
	} `yaml:"sites"`
	HTTP struct {
		Listen string `yaml:"listen"`
	} `yaml:"http"`
}

// Where no docker client with compose is at hand, this is what checks the file.
func TestComposeFileHoldsTogether(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	var f composeFile
	load(t, filepath.Join(root, "docker-compose.yml"), &f, yaml.WithKnownFields())
	for _, name := range []string{"redis-a", "redis-b", "kafka", "twinlog"} {
		s, ok := f.Services[name]
		if !ok {
			t.Errorf("there is no service %s", name)
		}
		if (s.Image == "") == (s.Build == "") {
			t.Errorf("service %s needs an image or a build", name)
		}
		if h := s.HealthCheck; len(h.Test) < 2 || h.Test[0] != "CMD" || h.Retries == 0 {
			t.Errorf("service %s has no health check: %v", name, h)
		}
		for _, v := range s.Volumes {
			host, _, _ := strings.Cut(v, ":")
			if _, named := f.Volumes[host]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, host)); err != nil {
				t.Errorf("service %s mounts %s: %v", name, host, err)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("service %s publishes %s beyond loopback", name, p)
			}
		}
		for other, how := range s.DependsOn {
			if _, ok := f.Services[other]; !ok || how["condition"] != "service_healthy" {
				t.Errorf("service %s depends on %s: %v", name, other, how)
			}
		}
	}
}

func TestComposeFileFitsItsLink(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	var f composeFile
	load(t, filepath.Join(root, "docker-compose.yml"), &f)
	var link linkFile
	load(t, filepath.Join(root, "deploy", "compose", "twinlog.yml"), &link)
	addrs := link.Kafka.Brokers
	for _, s := range link.Sites {
		addrs = append(addrs, s.Redis.Addrs...)
	}
	if len(addrs) != 3 {
		t.Errorf("servers of the link: %v", addrs)
	}
	for _, a := range addrs {
		if host, _, _ := strings.Cut(a, ":"); f.Services[host].Image == "" {
			t.Errorf("the link names %s, which is no service", a)
		}
	}
	_, port, _ := strings.Cut(link.HTTP.Listen, ":")
	if !slices.ContainsFunc(f.Services["twinlog"].Ports, func(p string) bool { return strings.HasSuffix(p, ":"+port) }) {
		t.Errorf("port %s of %s is not published", port, link.HTTP.Listen)
	}
}

func load(t *testing.T, path string, into any, options ...yaml.Option) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Load(text, into, options...); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
