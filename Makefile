# loopsweep: `make demo` shows it, `make test` tests it, `make check` is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

.PHONY: help setup demo test lint check soak clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## create .venv with everything in it (quick when nothing changed)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "loopsweep needs Python >= 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' 2>&1 \
		| grep -v 'is ignored: it is neither a file nor a directory' || true
	@$(BIN)/loopsweep --help >/dev/null
	@touch $(STAMP)

demo: setup  ## run the study `quickstart` and write its report
	@$(BIN)/loopsweep run quickstart
	@$(BIN)/loopsweep report quickstart

test: setup  ## the tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: setup  ## ruff, format check, mypy strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint test  ## lint and tests

soak: setup  ## long fault and scale tests (results belong in docs/log.md)
	@$(BIN)/python -m pytest -m soak --run-soak -s

clean:  ## remove caches, not results
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
