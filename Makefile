# Everything a newcomer or a contributor runs. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak lint types docs docs-figures docs-site bench format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py $(VENV)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py $(VENV) test lint
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py $(VENV) docs
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed  ## plan, prepare, train, report on this Python's own documentation; then once more, privately (under 5 minutes)
	$(BIN)/shuyuan run
	$(BIN)/shuyuan run demo-private

test: $(VENV)/.installed-dev  ## the fast tests (under 10 minutes)
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-all: $(VENV)/.installed-dev  ## all tests
	$(BIN)/pytest

soak: $(VENV)/.installed-dev  ## the server under mixed load for ten minutes
	SHUYUAN_SOAK_SECONDS=600 $(BIN)/pytest tests/serve/test_soak.py

lint: $(VENV)/.installed-dev  ## style, import contract, generated pages up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py --check

types: $(VENV)/.installed-dev  ## strict type check
	$(BIN)/mypy

docs: $(VENV)/.installed-dev  ## write the generated pages of docs/
	$(BIN)/python scripts/docs.py

docs-figures: $(VENV)/.installed-dev  ## measure every figure of the handbook again, and write its pages; takes hours and wants a quiet machine
	$(BIN)/python benchmarks/handbook_figures.py
	$(BIN)/python scripts/docs.py

docs-site: $(VENV)/.installed-docs  ## the documentation as a site, in build/site
	$(BIN)/python scripts/docs_site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.installed-dev  ## measure beside peers; takes a while and wants a quiet machine
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

format: $(VENV)/.installed-dev  ## put the code into the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and caches, never a run
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
