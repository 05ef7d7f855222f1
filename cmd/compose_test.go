package cmd

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"

	"parley/streams"
)

// composeService is what a service of compose.yaml says to our program;
// deploy/compose_test.go checks the rest.
type composeService struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
}

// Every service that runs parley has a command line that it takes, and no
// variable that it would not look at.
func TestComposeCallsParley(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]composeService `yaml:"services"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	called := map[string]int{}
	for name, service := range file.Services {
		if strings.HasPrefix(service.Image, "parley:") {
			called[parsedCommand(t, name, service)]++
		}
	}
	if want := map[string]int{"migrate": 1, "edge": 2, "worker": 2}; !maps.Equal(called, want) {
		t.Errorf("the services call %v, want %v", called, want)
	}
}

// parsedCommand returns the command that the service runs.
func parsedCommand(t *testing.T, name string, service composeService) string {
	t.Helper()
	parser, err := kong.New(new(cli), kong.Name("parley"), kong.DefaultEnvars("PARLEY"), kong.Vars{"hostname": "test"})
	if err != nil {
		t.Fatal(err)
	}
	command, err := parser.Parse(service.Command)
	if err != nil {
		t.Errorf("%s: parley %q: %v", name, service.Command, err)
		return ""
	}
	known := []string{streams.EdgeComponent.PasswordVariable(), streams.WorkerComponent.PasswordVariable()}
	for _, flag := range command.Flags() {
		known = append(known, flag.Envs...)
	}
	for variable := range service.Environment {
		if strings.HasPrefix(variable, "PARLEY_") && !slices.Contains(known, variable) {
			t.Errorf("%s: parley %s does not look at %s", name, command.Command(), variable)
		}
	}
	return command.Command()
}
