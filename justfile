# The verbs of this repository: `just` lists them. CI calls the same ones.

set shell := ["bash", "-euo", "pipefail", "-c"]

staticcheck := "honnef.co/go/tools/cmd/staticcheck@v0.8.2"

# List the verbs.
default:
    @just --list --unsorted

# Serve on http://127.0.0.1:8080 with data in ./data.
dev *flags:
    go run . dev {{ flags }}

# Run three NATS servers, Cassandra, two workers, two edges and HAProxy here.
cluster *flags:
    go run ./deploy/cluster {{ flags }}

# Run all tests.
test *flags:
    go test {{ flags }} ./...

# Run all tests with the race detector. The tests of a whole production system, and of a
# Cassandra that dies, run without it and by themselves: with it, the first waits for the
# machine, and the second finds the CQL driver's own races.
race:
    GOFLAGS=-race go test -timeout 20m -skip '^TestProductionParts' ./...
    go test -timeout 20m -run '^TestProductionParts|^TestKilledDatabase|^TestPausedDatabase' ./tests/production ./tests/database

# Check formatting, vet, staticcheck.
lint:
    @files=$(gofmt -l .); if [ -n "$files" ]; then echo "not formatted (run gofmt -w):" $files; exit 1; fi
    go vet ./...
    go run {{ staticcheck }} ./...

# Fuzz each decoder for a short while.
fuzz time="10s":
    for target in $(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed 's/^func //'); do \
        folder=$(dirname "$(grep -rlE --include='*_test.go' "^func $target\(" . | head -n 1)"); \
        echo "fuzz $target in $folder"; \
        go test -run='^$' -fuzz="^$target\$" -fuzztime={{ time }} "$folder"; \
    done

# Measure (see docs/performance.md); `just bench --short` takes two minutes.
bench *flags:
    go run . bench {{ flags }}

# Measure the permanent store with a real Cassandra, which is started for it.
bench-cassandra *flags:
    go run ./bench/cassandra go run . bench persist pages connect chats create {{ flags }}

# Kill, stop, fill and cut off every part many times under load.
faults rounds="20":
    go test -run 'Killed|Stopped|Gone|Full|Lost|PowerCut' -p 1 -count=1 -timeout 60m ./tests/faults ./tests/model ./tests/presence -fault-rounds {{ rounds }} -fault-pause 90s
    go test -run 'EdgeTakesIts|PresenceWorker|NATSIsCutOff|DrainedEdgeLets' -count=1 -v -timeout 20m ./tests/presence -presence-heartbeat 30s -presence-cut 60s
    go test -run 'ProductionParts' -count=1 -v -timeout 600m ./tests/production -fault-rounds {{ rounds }} -fault-pause 30s -fault-away 5m

# Make the JSON Schemas anew from the Go types.
schemas:
    go generate ./schemas

# What CI runs.
ci: lint race fuzz (bench "--short") (bench-cassandra "--short" "--duration=1s")
