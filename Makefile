# Everything goes through one virtual environment, filled from the hashed requirements; a repeated call costs a second.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
TESTS := -n 2
FOR ?= 600
FOUNDATION ?= foundation
# Modules are compiled when they are installed, and what is compiled is kept, whatever the environment says: each process
# that had to compile torch and transformers again would take seconds more to start.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header

.PHONY: help
help: ## This text
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/use.stamp ## The environment to use graph2image

.PHONY: demo
demo: setup ## Set up, then the main job end to end on a synthetic gallery; ends with demo/report.html
	$(BIN)/graph2image demo --out demo

.PHONY: foundation
foundation: setup ## Train a foundation for 64-pixel models, for hours, in FOUNDATION (./foundation); it can be killed
	$(BIN)/python -m flows.foundation $(FOUNDATION)

.PHONY: test
test: .venv/dev.stamp ## Set up, then all tests
	$(BIN)/pytest $(TESTS)

.PHONY: test-quick
test-quick: .venv/dev.stamp ## The tests that need no server and take no seconds
	$(BIN)/pytest $(TESTS) -m "not slow"

.PHONY: durations
durations: .venv/dev.stamp ## All tests, then how long each took
	$(BIN)/pytest $(TESTS) --durations=0 --durations-min=1

.PHONY: fuzz
fuzz: .venv/dev.stamp ## The property tests on other examples each time, for FOR seconds (600); ends at the first fault
	end=$$(( $$(date +%s) + $(FOR) )); while [ $$(date +%s) -lt $$end ]; do \
		$(BIN)/pytest $(TESTS) -q -x -m hypothesis --hypothesis-profile=fuzz || exit 1; done

.PHONY: lint
lint: .venv/dev.stamp ## Format check, linter, import rules, type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

.PHONY: format
format: .venv/dev.stamp ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: kernels
kernels: .venv/dev.stamp ## Note in each module of kernels what it has compiled in
	$(BIN)/python graphstore/ppr/compiled_with.py

.PHONY: tree
tree: ## Write the list of modules in docs/architecture.md again
	$(PYTHON) docs/tree.py

.PHONY: lock
lock: .venv/uv.stamp ## Resolve the requirements again from pyproject.toml
	$(COMPILE) pyproject.toml --extra neo4j --output-file requirements/use.txt
	$(COMPILE) pyproject.toml --extra neo4j --extra watermark --group dev --constraints requirements/use.txt --output-file requirements/dev.txt

.PHONY: lock-neo4j
lock-neo4j: setup ## Resolve Neo4j's jars again from the versions in graphstore/neo4j/server/jars.py
	$(BIN)/python -m graphstore.neo4j.server.jars

.PHONY: clean
clean: ## Remove the environment and the caches (not your data)
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/uv.stamp: requirements/bootstrap.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; call make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/bootstrap.txt
	touch $@

.venv/use.stamp: .venv/uv.stamp requirements/use.txt pyproject.toml
	$(UV) pip install --require-hashes --requirement requirements/use.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/dev.stamp: .venv/use.stamp requirements/dev.txt
	$(UV) pip install --require-hashes --requirement requirements/dev.txt
	touch $@
