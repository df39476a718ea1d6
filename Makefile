# Everything here needs only Python 3.11 and make: `.venv` is made when there is none.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= 100
# Twice two cores: integration tests wait for a third of their time. Each starts brokers of its own.
TEST_PROCESSES ?= 4
SEED ?= 1
# Records per second while faults happen; more needs more than two cores.
RATE ?= 100
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help install demo up test check format bench faults tamper mutants settings rules wheel clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

install: $(STAMP) ## Make .venv and install the project into it

demo: $(STAMP) ## Start everything, publish a sample, show what a ledger shows, stop everything
	$(BIN)/consent-ledger demo

up: $(STAMP) ## Run broker, store, workers and API on this machine, data under ./consent-data
	$(BIN)/consent-ledger up

test: $(STAMP) ## All tests; those on Apache Kafka need a container engine
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## Format, lint, types, import contracts, contracts of the log, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m consent_ledger.contract_checks
	$(BIN)/python -m pytest -q -m 'not slow and not embedded and not kafka' tests/docs tests/packaging tests/contract

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH_STAMP) ## Measure against peers on Apache Kafka; writes bench/results.json and a plot
	$(BIN)/python -m bench

faults: $(STAMP) ## RUNS faults under load on three Apache Kafka brokers; the last line is JSON
	$(BIN)/python -m tests.fault.campaign --runs $(RUNS) --seed $(SEED) --rate $(RATE)

mutants: $(STAMP) ## Change every parameter of the rules, one at a time; the last line is JSON
	$(BIN)/python -m tests.mutation --seed $(SEED)

tamper: $(STAMP) ## RUNS random alterations of a whole ledger, each to be found; last line JSON
	$(BIN)/python -m tests.fault.tamper --runs $(RUNS) --seed $(SEED)

settings: $(STAMP) ## Write docs/settings.md anew from the code
	$(BIN)/consent-ledger settings --markdown > docs/settings.md

rules: $(STAMP) ## Write docs/rules-coverage.md anew from the rulebook
	$(BIN)/python -m consent_ledger.coverage_page > docs/rules-coverage.md

wheel: $(STAMP) ## Build the wheel
	$(BIN)/python -m build --wheel

clean: ## Remove the virtual environment and what tools left behind
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
