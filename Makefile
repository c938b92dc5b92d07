# What CI runs (.ci/run) is made of targets that a person can run.

.DEFAULT_GOAL := help
SHELL := /bin/sh

GOLANGCI_VERSION := v2.15.0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 30s
BENCH ?= .
ARGS ?=
N ?= 100000
SEED ?= 0
CONFIG ?=
DURATION ?= 10m
FAULTS ?=

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/twinlog, static
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/twinlog ./cmd/twinlog

.PHONY: demo
demo: ## two private Redis, an embedded broker, a two-way link (ARGS=--once: one round trip)
	@sh scripts/setup-redis.sh
	@$(MAKE) --no-print-directory build
	@bin/twinlog demo $(ARGS)

.PHONY: test
test: ## all tests: unit, integration on real servers, crash tests (ARGS="-run X ./pkg")
	@sh scripts/test.sh $(ARGS)

.PHONY: test-matrix
test-matrix: ## pairs of Redis and Valkey versions; writes docs/compatibility.md (ARGS="-run TestMatrix$$/redis-8.6_and_redis-7.0")
	@sh scripts/setup-redis.sh
	go test -tags matrix -timeout 60m $(if $(ARGS),$(ARGS),-run 'TestMatrix') ./internal/testkit ./source/rdb ./internal/app

.PHONY: simulate
simulate: ## N (100000) random schedules of two sites, decided by the real code (CONFIG=crash SEED=7: those only)
	go test -run '^TestSchedules$$' -count 1 -timeout 0 -v ./internal/simulate -schedules $(N) -seed $(SEED) -config '$(CONFIG)'

.PHONY: chaos
chaos: ## random faults under load, DURATION (10m) long; SEED=7: those of seed 7 again; FAULTS=kafka: those only
	@sh scripts/setup-redis.sh
	TWINLOG_CHAOS_DURATION=$(DURATION) TWINLOG_CHAOS_FAULTS='$(FAULTS)' $(if $(filter-out 0,$(SEED)),TWINLOG_SEED=$(SEED)) go test -race -run '^TestChaos$$' -count 1 -timeout 0 -v ./internal/app

.PHONY: lint
lint: ## go vet and golangci-lint
	go vet ./...
	@sh scripts/lint.sh $(GOLANGCI_VERSION) run

.PHONY: fuzz
fuzz: ## every fuzz target, FUZZTIME (30s) each
	@sh scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## speed and memory, on real servers (BENCH=Latency: those only)
	@sh scripts/setup-redis.sh
	go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 30m ./internal/app
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./schema ./source/...

.PHONY: fmt
fmt: ## format the code (gofumpt, imports)
	@sh scripts/lint.sh $(GOLANGCI_VERSION) fmt

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
	go clean -testcache
