# Slash32. 'make help' lists what there is; every recipe installs what it misses and says what.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := x86_64-unknown-linux-musl
CACHE ?= $(HOME)/.cache/slash32
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
BIN := $(TARGET_DIR)/$(TARGET)/release
GO_TOOLS := $(CACHE)/go-tools
export SLASH32_BIN_DIR := $(BIN)
export SLASH32_REFERENCE_PLUGINS ?= /usr/lib/cni
export SLASH32_GO_TOOLS := $(GO_TOOLS)
export SLASH32_FLOOR := $(TARGET_DIR)/floor

.PHONY: help deps deps-test build go-tools demo test test-vm verify licences bench fmt clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t16

deps: ## install what the demo needs
	@scripts/install-deps.sh demo

deps-test: ## install what the tests and benches need
	@scripts/install-deps.sh test

build: deps ## the three binaries, static, optimised
	@cargo build --quiet --locked --release --target $(TARGET) -p cni-plugin -p ipam -p node-agent

demo: build ## the main job, shown; KEEP=1 leaves the lab up
	@cargo run --quiet --locked -p slash32-tests --bin demo

go-tools: deps-test ## cnitool and the libcni program
	@scripts/build-go-tools.sh "$(GO_TOOLS)"

test: build go-tools ## all tests, those on a real kernel included
	@scripts/run-tests.sh

test-vm: build ## the tunnel suites on a kernel with IPIP, under qemu (software emulation)
	@scripts/install-deps.sh vm
	@CACHE="$(CACHE)" scripts/test-vm.sh

verify: deps-test ## what CI asks of the text: format, lints, docs, licences
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps
	scripts/check-licences.sh

bench: build deps-test ## figures beside the reference plugins; ROUNDS=n
	@cc -O2 -static -Wall -o "$(SLASH32_FLOOR)" tests/bench/floor.c
	@cargo run --quiet --locked --release -p slash32-tests --bin bench

fmt: ## format the code
	cargo fmt --all

clean: ## remove what was built
	cargo clean
