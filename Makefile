# Vigil. Everything here needs Go and make; `lint` and `vuln` also need the network once.

GO       ?= go
FUZZTIME ?= 10s
# Run only the fuzz targets, benchmarks or packages named: make fuzz PKG=./authzen
PKG      ?= ./...
BENCH    ?= .

BIN       := $(CURDIR)/bin
GOLANGCI  := v2.15.0
GOVULN    := v1.9.0

.DEFAULT_GOAL := help
.PHONY: help build run test race fuzz lint vuln bench rules check clean

help: ## Say what there is to make
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/pdp
	$(GO) build -o $(BIN)/pdp ./cmd/pdp

run: build ## Start the engine on loopback with the invoice example, afresh each time
	$(BIN)/pdp serve --fresh --data-dir ./run --rules-dir examples/invoice/rules --rules-watch true \
		--seed examples/invoice/registrations.json

test: ## Run all tests; needs nothing but Go
	$(GO) test $(PKG)

race: ## Run all tests under the race detector
	$(GO) test -race -timeout 20m $(PKG)

fuzz: ## Run every fuzz target for FUZZTIME (10s)
	@GO="$(GO)" PKG="$(PKG)" FUZZTIME="$(FUZZTIME)" .ci/fuzz

lint: $(BIN)/golangci-lint-$(GOLANGCI) ## gofmt, go vet and golangci-lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(BIN)/golangci-lint-$(GOLANGCI) run ./...

$(BIN)/golangci-lint-$(GOLANGCI):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(BIN)/golangci-lint $@

vuln: ## Look for known vulnerabilities (asks vuln.go.dev)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULN) ./...

bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

rules: build ## Test the rules of the examples
	$(BIN)/pdp rules test $(wildcard examples/*/rules)

check: lint test race rules ## What a change must pass before it is sent

clean: ## Remove what was built
	rm -rf $(BIN) ./run
