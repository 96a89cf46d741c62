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
export SLASH32_K8S_TOOLS := $(CACHE)/k8s-tools
export SLASH32_CONTAINERD := $(CACHE)/containerd
export SLASH32_E2E_CACHE := $(CACHE)/e2e
export SLASH32_FLOOR := $(TARGET_DIR)/floor

# Every target: none of them is a file.
.PHONY: $(shell sed -nE 's/^([a-z0-9-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t16

deps: ## install what the demo needs
	@scripts/install-deps.sh demo

deps-test: ## install what the tests and benches need
	@scripts/install-deps.sh test

build: deps ## the three binaries, static, optimised
	@cargo build --quiet --locked --release --target $(TARGET) -p cni-plugin -p ipam -p node-agent

image: build ## the image slash32/slash32-agent from these binaries, by docker
	@scripts/build-image.sh "$(BIN)"

manifests: ## manifests/slash32.yaml from manifests/base
	@scripts/build-manifests.sh

demo: build ## the main job, shown; KEEP=1 leaves the lab up
	@cargo run --quiet --locked -p slash32-tests --bin demo

go-tools: deps-test ## cnitool and the libcni program
	@scripts/build-go-tools.sh "$(GO_TOOLS)"

k8s-tools: deps-test ## Kubernetes, etcd, CoreDNS, kind and Kubernetes' own tests: ten minutes where nothing is cached
	@scripts/build-k8s-tools.sh "$(SLASH32_K8S_TOOLS)" cluster conformance kind

test: build go-tools ## all tests, those on a real kernel included
	@scripts/run-tests.sh

test-vm: build ## the tunnel suites on a kernel with IPIP, under qemu (software emulation)
	@scripts/install-deps.sh vm
	@CACHE="$(CACHE)" scripts/test-vm.sh

e2e: build ## the product on a real Kubernetes cluster of three nodes; E2E=part of a test's name
	@scripts/install-deps.sh e2e
	@scripts/build-k8s-tools.sh "$(SLASH32_K8S_TOOLS)" cluster conformance
	@scripts/fetch-containerd.sh "$(SLASH32_CONTAINERD)"
	@cargo run --quiet --locked -p slash32-tests --bin e2e -- $(E2E)

deps-kind: deps-test
	@scripts/install-deps.sh kind
	@scripts/build-k8s-tools.sh "$(SLASH32_K8S_TOOLS)" cluster kind

e2e-kind: build deps-kind ## Slash32 in the real kind (manifests/kind/try.sh), with a node image made here; ARGS=up leaves it up
	@scripts/e2e-kind.sh "$(CACHE)/kind" $(ARGS)

torture: build deps-test ## kills, faults, fights, attacks; SEED=n repeats a run
	@cargo run --quiet --locked -p slash32-tests --bin torture

soak: build deps-test ## an hour of churn; MINUTES=n
	@MINUTES=$${MINUTES:-60} cargo run --quiet --locked -p slash32-tests --bin torture

fuzz: ## each parser for TIME=n seconds with cargo-fuzz, on the pinned toolchain
	@scripts/fuzz.sh "$${TIME:-60}" $(TARGETS)

verify: deps-test ## what CI asks of the text: format, lints, docs, licences
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps
	scripts/check-licences.sh
	scripts/build-manifests.sh --check

bench: build deps-test ## figures beside the reference plugins; ROUNDS=n, ONLY=plugins|host-ports|agent|api
	@cc -O2 -static -Wall -o "$(SLASH32_FLOOR)" tests/bench/floor.c
	@cargo run --quiet --locked --release -p slash32-tests --bin bench

fmt: ## format the code
	cargo fmt --all

clean: ## remove what was built
	cargo clean
