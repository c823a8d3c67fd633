# Tongxing: the two commands are `make demo` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
CACHE := $(if $(TONGXING_CACHE),$(TONGXING_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/tongxing)
ENGINE_VERSION := 26.7.3-stable.1
ENGINE := $(CACHE)/engine/$(ENGINE_VERSION)/libchdb.so
CONSOLE := dashboards/console
CONSOLE_SOURCES := $(shell find $(CONSOLE)/src $(CONSOLE)/public -type f 2>/dev/null) $(CONSOLE)/index.html $(CONSOLE)/vite.config.ts

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: release ## Build and start everything on this machine with a simulated day; Ctrl-C drains and stops
	@exec $(TARGET)/release/tongxing demo $(ARGS)

.PHONY: up
up: release ## Build and start everything on this machine, without the simulated day
	@exec $(TARGET)/release/tongxing up $(ARGS)

.PHONY: test
test: doctor engine console ## Pass every test, long scenarios in their short form with a printed seed
	@scripts/test.sh

.PHONY: test-long
test-long: doctor engine console ## The same with full counts: 300 log kills, 1,500 engine kills, 100,000 scans (hours)
	@TONGXING_LONG=1 scripts/test.sh

.PHONY: lint
lint: doctor console ## rustfmt, clippy, the TypeScript linter and type check, shell syntax
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cd $(CONSOLE) && npm run --silent lint
	@bash -n scripts/*.sh .ci/run

.PHONY: deny
deny: ## Licences, bans and sources of every dependency (advisories: see CONTRIBUTING.md)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked --version 0.20.2"; exit 1; }
	@cargo deny --locked check licenses bans sources

.PHONY: bench-lookup
bench-lookup: release ## Lookups over HTTP beside axum, hyper, nginx and Redis, batches, and latency at half load, in one run
	@scripts/bench-lookup.sh $(ARGS)

.PHONY: bench-table
bench-table: ## The status table at 1, 10 and 126 million people beside Redis: bytes a person, lookups, restart; minutes
	@scripts/bench-table.sh $(ARGS)

.PHONY: bench-province
bench-province: release ## 126 million people through the front door: import, memory, restart, lookups beside imports and snapshots; 15 minutes
	@scripts/bench-province.sh $(ARGS)

.PHONY: bench-kafka-feed
bench-kafka-feed: release ## Facts to their effect on two nodes through Kafka, and lookups while Kafka is away
	@scripts/bench-kafka-feed.sh $(ARGS)

.PHONY: bench-check-ins
bench-check-ins: release ## Single durable check-ins through a real Kafka broker, and what each part uses
	@TONGXING_BENCH_BUILT=1 scripts/bench-check-ins.sh $(ARGS)

.PHONY: bench-aggregator
bench-aggregator: release ## The aggregator beside ClickHouse's Kafka tables over one topic, in one run; minutes
	@scripts/bench-aggregator.sh $(ARGS)

.PHONY: data-set
data-set: release ## Build 100 million scans and their rollups in the cache folder, once (6 GB; prints its time)
	@python3 scripts/bench-schema/data_set.py "$(CACHE)/data-set/scans-100m"

.PHONY: bench-schema
bench-schema: data-set ## Compare keys, codecs, partitions and indices on the data set: bytes a row and query times
	@python3 scripts/bench-schema/bench.py "$(CACHE)/data-set/scans-100m" $(ARGS)

.PHONY: release
release: doctor engine console ## Build the program with optimisation
	@cargo build --release --locked --package launcher --package loadtest

.PHONY: engine
engine: $(ENGINE) ## Bring the embedded engine's library into the cache folder, checked against its integrity hash

$(ENGINE):
	@scripts/engine.sh "$(CACHE)" "$(ENGINE_VERSION)"

.PHONY: console
console: $(CONSOLE)/dist/index.html ## Build the web console

$(CONSOLE)/node_modules/.package-lock.json: $(CONSOLE)/package-lock.json
	@cd $(CONSOLE) && npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $@

$(CONSOLE)/dist/index.html: $(CONSOLE)/node_modules/.package-lock.json $(CONSOLE_SOURCES)
	@cd $(CONSOLE) && npm run --silent build

.PHONY: doctor
doctor: ## Check the toolchain, and say what to install
	@scripts/doctor.sh

.PHONY: clean
clean: ## Remove what was built; data and the engine's cache stay
	@cargo clean
	@rm -rf $(CONSOLE)/dist $(CONSOLE)/node_modules
