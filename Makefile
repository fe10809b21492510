# Vigil. Everything here needs Go and make; `lint` and `vuln` also need the network once.

GO       ?= go
FUZZTIME ?= 10s
# Run only the fuzz targets, benchmarks or packages named: make fuzz PKG=./authzen,
# make microbench PKG=./rules BENCH=FreshToRaw
PKG      ?= ./...
BENCH    ?= .
LOADTIME  ?= 10s
SOAKTIME  ?= 15m
DECISIONS ?= 1000000
HISTORIES ?= 2000
KILLS     ?= 1000
LOADFLAGS ?=
BENCHFLAGS ?=
E2EFLAGS  ?=
KAFKACACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vigil

BIN       := $(CURDIR)/bin
GOLANGCI  := v2.15.0
GOVULN    := v1.9.0

.DEFAULT_GOAL := help
.PHONY: help build run run-soc run-replicas kafka kafka-stop e2e-kafka interop scaling test race fuzz lint vuln bench bench-full microbench load revocations soak histories kills model rules check clean

help: ## Say what there is to make
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/pdp
	$(GO) build -o $(BIN)/pdp ./cmd/pdp

run: build ## Start the engine on loopback with the invoice example, afresh each time
	$(BIN)/pdp serve --fresh --data-dir ./run/invoice --rules-dir examples/invoice/rules --rules-watch true \
		--seed examples/invoice/registrations.json

run-soc: build ## Start the engine and an identity provider that pushes security events, and say what to try; Ctrl-C ends them
	$(GO) build -o $(BIN)/idp ./examples/soc/idp
	examples/soc/run.sh

kafka: ## Start a real Kafka on 127.0.0.1:19092 in the background, for development; needs Java 17 and Maven
	@$(GO) run ./e2e/broker/kafka --cache "$(KAFKACACHE)" start

kafka-stop: ## End it; its data stays
	@$(GO) run ./e2e/broker/kafka stop

run-replicas: build ## Start a real Kafka and three replicas on loopback, and say what to try; Ctrl-C ends them
	$(GO) build -o $(BIN)/kafka ./e2e/broker/kafka
	examples/replicas/run.sh "$(KAFKACACHE)"

test: ## Run all tests; needs nothing but Go
	$(GO) test $(PKG)
ifeq ($(PKG),./...)
	$(GO) -C benchmarks test ./...
endif

race: ## Run all tests under the race detector
	$(GO) test -race -timeout 20m $(PKG)

fuzz: ## Run every fuzz target for FUZZTIME (10s)
	@GO="$(GO)" PKG="$(PKG)" FUZZTIME="$(FUZZTIME)" .ci/fuzz

lint: $(BIN)/golangci-lint-$(GOLANGCI) ## gofmt, go vet and golangci-lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -tags e2e ./...
	$(GO) -C benchmarks vet ./...
	$(GO) -C interop vet ./...
	$(BIN)/golangci-lint-$(GOLANGCI) run --build-tags e2e ./...
	cd benchmarks && $(BIN)/golangci-lint-$(GOLANGCI) run ./...
	cd interop && $(BIN)/golangci-lint-$(GOLANGCI) run ./...

$(BIN)/golangci-lint-$(GOLANGCI):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(BIN)/golangci-lint $@

vuln: ## Look for known vulnerabilities (asks vuln.go.dev)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULN) ./...

bench: build ## Measure the bars of docs/performance.md in small, and fail where one is missed: BENCHFLAGS='--only http'
	$(GO) -C benchmarks run . run --pdp $(BIN)/pdp $(BENCHFLAGS)

bench-full: build ## The same in full (10 minutes), and write the results into docs/performance.md
	$(GO) -C benchmarks run . run --full --pdp $(BIN)/pdp --json results/full.json; code=$$?; \
		$(GO) -C benchmarks run . report && exit $$code

microbench: ## Run the benchmarks of a package
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

load: build ## Load an engine for LOADTIME (10s) and judge every answer: LOADFLAGS='--rate 5000 --signals 500'
	$(GO) run ./loadtest run --start --pdp $(BIN)/pdp --duration $(LOADTIME) --thresholds loadtest/thresholds/run.json $(LOADFLAGS)

revocations: build ## Race DECISIONS (1000000) with revocations, then show what goes wrong without the check
	$(GO) run ./loadtest race --start --pdp $(BIN)/pdp --decisions $(DECISIONS) --thresholds loadtest/thresholds/race.json $(LOADFLAGS)
	$(GO) run ./loadtest race --in-process --decisions 200000
	$(GO) run ./loadtest race --in-process --decisions 200000 --unchecked

soak: build ## Load, signals, reloads and races for SOAKTIME (15m), watching for growth
	$(GO) run ./loadtest soak --start --pdp $(BIN)/pdp --duration $(SOAKTIME) --thresholds loadtest/thresholds/soak.json $(LOADFLAGS)

kills: build ## Kill -9 an engine under load KILLS (1000) times; nothing acknowledged may be lost
	$(GO) run ./loadtest kills --start --pdp $(BIN)/pdp --kills $(KILLS) --thresholds loadtest/thresholds/kills.json $(LOADFLAGS)

histories: ## Live HISTORIES (2000) random lives of a node, of three replicas, of an engine and of a crowd, against the twin and the checker
	$(GO) test ./cmd/pdp -run '^TestLivesOfANode$$' -v -timeout 0 -rapid.checks=$(HISTORIES)
	$(GO) test ./cmd/pdp -run '^TestHistoriesOfReplicas$$' -v -timeout 0 -rapid.checks=$(HISTORIES)
	$(GO) test ./engine -run '^TestEveryDecisionIsWhatTheTwinDecides$$' -v -timeout 0 -rapid.checks=$(HISTORIES)
	VIGIL_HISTORIES=$(HISTORIES) $(GO) test ./loadtest/history -run '^TestWithEveryMechanismNothingBreaks$$' -v -timeout 0
	VIGIL_CROWD_ROUNDS=$$(($(HISTORIES) / 10 + 1)) $(GO) test ./cmd/pdp -run '^TestACrowdBreaksNothing$$' -v -timeout 0

model: ## Search the model of the protocol on Kafka exhaustively; needs spin and gcc
	@model/check

interop: ## Libraries and programs of others, as they are: the CloudEvents SDK and a JOSE library send, Prometheus reads
	@.ci/debian unpack prometheus prometheus $(BIN)/prometheus
	PATH="$(BIN)/prometheus/usr/bin:$$PATH" $(GO) -C interop test -count 1 -v ./...

e2e-kafka: ## Three processes and a real Kafka, which breaks, stops and is poisoned; needs Java 17 and Maven
	@.ci/debian install kcat kcat
	$(GO) test -tags e2e -count 1 -timeout 20m -v $(E2EFLAGS) ./e2e

scaling: build ## Measure what one replica costs on a real Kafka, and write docs/scaling.md (3 minutes); needs Java 17 and Maven
	$(GO) build -o $(BIN)/kafka ./e2e/broker/kafka
	$(GO) build -o $(BIN)/loadtest ./loadtest
	loadtest/scaling.sh "$(KAFKACACHE)" --json loadtest/results/scaling.json --page docs/scaling.md $(LOADFLAGS)

rules: build ## Test the rules of the examples
	$(BIN)/pdp rules test $(wildcard examples/*/rules)

check: lint test race rules ## What a change must pass before it is sent

clean: ## Remove what was built
	rm -rf $(BIN) ./run
