# The ways into this tree. `make` alone explains them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check sim bench

# Seeds of the short simulation in `make test`: from a hundred on it fails, too, where a fault or a refusal never happened. More for a
# longer one: make sim SEEDS=1000
SEEDS ?= 100
# Seeds of a simulation that run at once: as many as the machine has cores.
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
# Arguments for the demo, for example: make demo ARGS=--once
ARGS ?=

help: ## explain the targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf 'make %-6s  %s\n' "$$name" "$$text"; done

# The dev profile, not release: it shares every compiled dependency with `make test`, compiles in little more than half
# the time from cold, and the hashing, the curve and SQLite are optimised in it all the same, so the story runs no
# slower to the eye.
demo: ## build Florin and play the story on an in-process network; ARGS=--once ends after it
	@scripts/tools cargo cc
	@cargo build --locked -p florin --bin florin
	@exec "$${CARGO_TARGET_DIR:-target}/debug/florin" demo $(ARGS)

test: ## run everything: format, clippy, all tests, real nodes, simulation, documentation
	@scripts/test

check: ## the quick loop: format, clippy, unit tests and house rules, no nodes and no servers
	@scripts/tools cargo cargo-fmt cargo-clippy cc
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-nextest >/dev/null 2>&1; then cargo nextest run --locked --workspace --lib --bins --test house; \
	else cargo test --locked --workspace --lib --bins --test house; fi

sim: ## simulate the whole platform; SEEDS=n sets how many seeds, JOBS=n how many at once
	@scripts/tools cargo cc
	@cargo run --locked -q -p florin-sim --bin florin-sim -- --seeds $(SEEDS) --jobs $(JOBS)

bench: ## measure speed, each figure beside its peer in the same run
	@scripts/tools cargo cc column
	@scripts/mariadb run scripts/bench
