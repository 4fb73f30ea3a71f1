# Set-up is automatic: every target that needs the environment depends on .venv/.ready.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for processes more than they compute; the tests of one file share theirs.
TEST_PROCESSES ?= 3

.PHONY: help setup demo up test test-all soak check bench bench-quick bundle lock clean

help:
	@echo "make demo         run the whole scenario once, print the report, stop everything"
	@echo "make up           the same, left running; prints addresses, keys and how to stop"
	@echo "make test         all tests that this machine can run"
	@echo "make test-all     the same, failing where something is missing"
	@echo "make soak         commands under random faults: SECONDS=600 SEED=7 OUT=folder (a new one)"
	@echo "make check        lint, types, import rules"
	@echo "make bench-quick  the speed figures in under two minutes;  make bench: all of them"
	@echo "make bundle       an installation for a machine without a network (dist/bundle)"

$(VENV)/.ready: requirements.lock pyproject.toml
	@command -v git >/dev/null || { echo "missing: git"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON) (Python 3.11 or newer)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer ($$($(PYTHON) --version) found; try make PYTHON=python3.12)"; exit 1; }
	@rm -rf $(VENV)
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	    $(PYTHON) -m venv --without-pip $(VENV) && INSTALL="$(PYTHON) -m pip --python $(BIN)/python"; \
	 elif $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; then INSTALL="$(BIN)/python -m pip"; \
	 else echo "missing: pip or venv for $(PYTHON) (Debian: python3-pip or python3-venv)"; exit 1; fi; \
	 echo "installing the locked packages into $(VENV) ..."; \
	 $$INSTALL install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	 $$INSTALL install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.ready

demo: setup
	@$(BIN)/lienthong demo

up: setup
	@$(BIN)/lienthong demo --keep-running

test: setup
	@$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-all: setup
	@LIENTHONG_TEST_ALL=1 $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

soak: setup
	@$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out $(OUT))

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench-quick: setup
	@$(BIN)/python -m bench --quick

bench: setup
	@$(BIN)/python -m bench

bundle: setup
	@$(BIN)/python -m console.bundle dist/bundle

lock:
	uv pip compile -q pyproject.toml --extra dev --extra postgresql --universal --python-version 3.11 \
	    --generate-hashes --no-header --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
