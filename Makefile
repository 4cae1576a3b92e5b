# Everything a contributor does stands here; `make` alone lists it.

SHELL := /bin/bash
GO ?= go
FUZZTIME ?= 30s

.DEFAULT_GOAL := help
.PHONY: help tools build run run-consul run-secure test bench soak fuzz fmt lint golden generate clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools: ## fetch what run and test need (Envoy), without asking
	@scripts/tools.sh

build: ## build bin/sluice
	$(GO) build -trimpath -o bin/sluice ./cmd/sluice

run: ## run the food-delivery example: gateway and backends, until Ctrl-C
	@scripts/run.sh

run-consul: ## the same, its services registered in a Consul agent
	@scripts/run.sh consul

run-secure: ## the same, with TLS, and a client certificate for the payment provider
	@scripts/run.sh secure

test: ## run every test, and say what each part took
	@scripts/test.sh

bench: ## measure, one JSON line a figure
	@scripts/tools.sh bench
	@SLUICE_ENVOY="$$(scripts/tools.sh --print envoy)" $(GO) run ./integration/bench

soak: ## the integration tests with full amounts of rounds and faults (hours)
	@SLUICE_ENVOY="$$(scripts/tools.sh --print envoy)" SLUICE_CONSUL_BINARY="$$(scripts/tools.sh --print consul)" SLUICE_PEBBLE="$$(scripts/tools.sh --print pebble)" SLUICE_SOAK=1 $(GO) test -p 1 -count=1 -timeout 3h -v ./integration/...

fuzz: ## run every fuzz target for FUZZTIME (30s) each
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

fmt: ## format the Go code
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

lint: ## check format and go vet
	@scripts/lint.sh

golden: ## rewrite the golden files from what the code gives now
	$(GO) test $$(grep -rl 'featuretest\.Golden' --include=*_test.go pkg | xargs -n1 dirname | sort -u | sed 's|^|./|') -run Golden -update

generate: ## rewrite the reference pages and the JSON schema
	$(GO) generate ./...

clean: ## remove what was built here (the cached tools stay)
	rm -rf bin
