// Package deploy_test checks what stands in deploy/ as far as that goes without
// a container engine.
package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// load reads compose.yaml as the engine would, with the secrets of make-env.sh.
// What it does not know is an error, and so is a variable that nobody defines.
func load(t *testing.T) *types.Project {
	t.Helper()
	directory, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	variables, err := dotenv.Read(makeEnv(t))
	if err != nil {
		t.Fatal(err)
	}
	details := types.ConfigDetails{
		WorkingDir: directory, ConfigFiles: types.ToConfigFiles([]string{"compose.yaml"}), Environment: variables,
	}
	project, err := loader.LoadWithContext(t.Context(), details, func(o *loader.Options) {
		o.SetProjectName("parley", false)
		o.Interpolate.LookupValue = func(name string) (string, bool) {
			value, ok := variables[name]
			if !ok {
				t.Errorf("compose.yaml has ${%s}, and make-env.sh does not define it", name)
			}
			return value, ok
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// makeEnv returns a file of fresh secrets.
func makeEnv(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "env")
	if out, err := exec.Command("./make-env.sh", file).CombinedOutput(); err != nil {
		t.Fatalf("make-env.sh: %v\n%s", err, out)
	}
	return file
}

func TestComposeIsWhole(t *testing.T) {
	t.Parallel()
	project := load(t)
	want := []string{"edge-1", "edge-2", "haproxy", "migrate", "nats-1", "nats-2", "nats-3", "scylla", "worker-1", "worker-2"}
	if names := slices.Sorted(slices.Values(project.ServiceNames())); !slices.Equal(names, want) {
		t.Errorf("the services are %q, want %q", names, want)
	}
	for _, service := range project.Services {
		if service.Restart == "" || service.MemLimit == 0 || service.Logging == nil || len(service.Ulimits) == 0 {
			t.Errorf("%s has no restart policy, memory limit, bound of its log or limit of its files", service.Name)
		}
		if strings.HasPrefix(service.Image, "parley") && (!service.ReadOnly || service.Privileged || !slices.Contains(service.CapDrop, "ALL")) {
			t.Errorf("%s may do more than it needs", service.Name)
		}
		for name, on := range service.DependsOn {
			if other := project.Services[name]; on.Condition == types.ServiceConditionHealthy && other.HealthCheck == nil {
				t.Errorf("%s waits until %s is healthy, which has no health check", service.Name, name)
			}
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", service.Name, err)
			}
		}
	}
}

// Only HAProxy is open to others; NATS is for the nats CLI of this machine.
func TestComposePublishesOnlyHAProxy(t *testing.T) {
	t.Parallel()
	var open []string
	for _, service := range load(t).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				open = append(open, fmt.Sprintf("%s:%s", service.Name, port.Published))
			}
		}
		_, publics := service.Networks["public"]
		_, stores := service.Networks["store"]
		if publics && stores {
			t.Errorf("%s is in reach of clients and reaches the store", service.Name)
		}
	}
	if !slices.Equal(open, []string{"haproxy:8080"}) {
		t.Errorf("open to others: %q, want HAProxy alone", open)
	}
}

// Images that stand for what go.mod names have its versions; none floats.
func TestComposeImagesAgreeWithGoMod(t *testing.T) {
	t.Parallel()
	mod := read(t, "../go.mod")
	server := find(t, mod, `nats-server/v2 v(\S+)`)
	goLine := find(t, mod, `(?m)^go (\d+\.\d+)`)
	for _, service := range load(t).Services {
		name, tag, _ := strings.Cut(service.Image, ":")
		switch name {
		case "nats":
			if tag != server+"-alpine" {
				t.Errorf("%s runs %s, and go.mod has %s", service.Name, service.Image, server)
			}
		case "parley": // built here
		default:
			if !regexp.MustCompile(`^\d+\.\d+`).MatchString(tag) {
				t.Errorf("%s runs %s: name a version", service.Name, service.Image)
			}
		}
	}
	if image := find(t, read(t, "Dockerfile"), `FROM golang:([0-9.]+)-`); image != goLine {
		t.Errorf("the Dockerfile builds with Go %s, and go.mod has %s", image, goLine)
	}
}

// Every node's command line is one that nats-server takes, with our nats.conf.
func TestComposeStartsNATS(t *testing.T) {
	t.Parallel()
	server := filepath.Join(t.TempDir(), "nats-server")
	if out, err := exec.Command("go", "build", "-o", server, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	names := map[string]bool{}
	for _, service := range load(t).Services {
		if !strings.HasPrefix(service.Image, "nats:") {
			continue
		}
		var args []string
		for _, arg := range service.Command[1:] {
			for _, volume := range service.Volumes { // what is mounted is elsewhere here
				if volume.Type == types.VolumeTypeBind {
					arg = strings.Replace(arg, volume.Target, volume.Source, 1)
				}
			}
			if name, ok := strings.CutPrefix(arg, "--name="); ok {
				names[name] = name == service.Name
			}
			args = append(args, strings.Replace(arg, "--store_dir=/data", "--store_dir="+t.TempDir(), 1))
		}
		cmd := exec.Command(server, append(args, "-t")...)
		cmd.Env = environment(service)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("is valid")) {
			t.Errorf("%s: nats-server %q: %v\n%s", service.Name, args, err, out)
		}
		for _, peer := range []string{"nats-1", "nats-2", "nats-3"} {
			if !strings.Contains(strings.Join(args, " "), "@"+peer+":6222") {
				t.Errorf("%s has no route to %s", service.Name, peer)
			}
		}
	}
	if len(names) != 3 || !names["nats-1"] || !names["nats-2"] || !names["nats-3"] {
		t.Errorf("the servers' names are %v", names)
	}
}

// HAProxy takes its file with the environment that it gets.
func TestComposeStartsHAProxy(t *testing.T) {
	t.Parallel()
	service := load(t).Services["haproxy"]
	path, err := exec.LookPath("haproxy")
	if err != nil {
		if os.Getenv("PARLEY_REQUIRE_HAPROXY") != "" {
			t.Fatal(err)
		}
		t.Skipf("haproxy.cfg is not checked: %v", err)
	}
	if len(service.Volumes) != 1 || filepath.Base(service.Volumes[0].Source) != "haproxy.cfg" {
		t.Fatalf("haproxy mounts %+v", service.Volumes)
	}
	cmd := exec.Command(path, "-c", "-f", service.Volumes[0].Source)
	cmd.Env = environment(service)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("haproxy -c: %v\n%s", err, out)
	}
	for name := range service.Environment {
		if !strings.Contains(read(t, "haproxy.cfg"), `"${`+name+`}"`) {
			t.Errorf("haproxy.cfg does not look at %s", name)
		}
	}
}

func TestMakeEnvKeepsSecrets(t *testing.T) {
	t.Parallel()
	file := makeEnv(t)
	before := read(t, file)
	if out, err := exec.Command("./make-env.sh", file).CombinedOutput(); err == nil || read(t, file) != before {
		t.Errorf("a second run replaced the secrets: %s", out)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secrets are open to others: %v, error %v", info.Mode(), err)
	}
	secrets := regexp.MustCompile(`(?m)^PARLEY_\w+(?:PASSWORD|SECRET)=(.*)$`).FindAllStringSubmatch(before, -1)
	seen := map[string]bool{}
	for _, secret := range secrets {
		if !regexp.MustCompile(`^[a-z][a-z0-9]{40,}$`).MatchString(secret[1]) || seen[secret[1]] {
			t.Errorf("%s: no letters and digits after a letter, or there twice", secret[0])
		}
		seen[secret[1]] = true
	}
	if len(secrets) != 7 {
		t.Errorf("%d secrets, want 7", len(secrets))
	}
}

// environment is all that a service gets, and a PATH.
func environment(service types.ServiceConfig) []string {
	variables := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range service.Environment {
		if value != nil {
			variables = append(variables, name+"="+*value)
		}
	}
	return variables
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func find(t *testing.T, text, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("nothing is like %s", pattern)
	}
	return found[1]
}
