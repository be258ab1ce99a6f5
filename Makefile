# The words a developer types; `make` alone lists them. CI calls the same ones (.ci/run).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# The Python that .venv is made of: the first of these that is new enough, or `make PYTHON=...`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
# pip and not uv installs: a developer's mirrors, proxies and certificates are in pip's settings.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
NPM := npm --prefix labextension
STAMPS := $(VENV)/stamps
EXTENSION := labextension/dist/static/style.js
EXTENSION_SOURCES := $(wildcard labextension/*.json labextension/.npmrc labextension/src/* labextension/style/* labextension/schema/*)

# As root on Debian and Ubuntu, install packages. The lists are fetched when they are missing or too old.
apt_install = DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends
may_apt = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null
apt = { $(apt_install) $(1) >/dev/null 2>&1 || { apt-get update -qq && $(apt_install) $(1) >/dev/null; }; }

.PHONY: help setup demo test lab lint format bench docs clean browser

help:  ## list these words
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

setup: $(STAMPS)/installed  ## make .venv: the package (editable), its dependencies, the JupyterLab extension

demo: setup  ## execute the first tutorial in a real kernel and print what comes back
	@$(BIN)/python -m tests.acceptance.demo notebooks/01_first_function.ipynb

test: $(STAMPS)/test browser  ## run the tests, those in a browser included
	$(BIN)/python -m pytest -rs

lab: setup  ## open JupyterLab on the tutorials
	$(BIN)/jupyter lab --notebook-dir notebooks $$([ "$$(id -u)" = 0 ] && echo --allow-root || true)

lint: $(STAMPS)/lint  ## check style and types, Python and TypeScript
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(NPM) run --silent check

format: $(STAMPS)/lint  ## bring the code into ruff's form
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

bench: $(STAMPS)/bench  ## measure what the documentation claims
	$(BIN)/python -m tests.bench

docs: $(STAMPS)/docs  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## remove what was made here: .venv, node_modules, builds, caches
	rm -rf $(VENV) labextension/node_modules labextension/lib labextension/dist labextension/tsconfig.tsbuildinfo
	rm -rf dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find nbfunctions tests notebooks -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# -- what the words need; a stamp is newer than everything it was made from ----------------------------------

$(STAMPS)/venv:
	@if [ -z "$(PYTHON)" ]; then \
		echo "nbfunctions needs Python 3.11 or later; say which with make PYTHON=/path/to/python" >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		if $(may_apt); then $(call apt,python3-venv); \
		else echo "this Python can't make virtual environments: install python3-venv" >&2; exit 1; fi; fi
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@mkdir -p $(@D) && touch $@

labextension/node_modules/.package-lock.json: labextension/package.json labextension/package-lock.json labextension/.npmrc
	@if ! node -e 'process.exit(+process.versions.node.split(".")[0] < 20 ? 1 : 0)' 2>/dev/null || ! command -v npm >/dev/null; then \
		echo "the JupyterLab extension is built with Node 20 or later and npm; found: $$(node --version 2>/dev/null || echo no node)" >&2; exit 1; fi
	$(NPM) ci --loglevel=error
	@touch $@

$(EXTENSION): $(EXTENSION_SOURCES) labextension/node_modules/.package-lock.json
	$(NPM) run --silent clean
	$(NPM) run --silent build:prod
	@touch $@

# The extension is built above, from the lock; the wheel's own hook would build it again.
$(STAMPS)/installed: pyproject.toml nbfunctions/__init__.py $(EXTENSION) $(STAMPS)/venv
	HATCH_JUPYTER_BUILDER_SKIP_NPM=1 $(PIP) install --quiet --editable .
	@touch $@

$(STAMPS)/test $(STAMPS)/docs $(STAMPS)/bench: $(STAMPS)/%: $(STAMPS)/installed
	$(PIP) install --quiet --group $*
	@touch $@

$(STAMPS)/lint: $(STAMPS)/test  # tests are checked, too
	$(PIP) install --quiet --group lint
	@touch $@

# The tests in a browser are skipped, and say so, where there is none.
browser: $(STAMPS)/test
	@if ! $(BIN)/python -m tests.browser.chromium >/dev/null; then \
		if $(may_apt); then \
			echo "installing chromium for the tests in a browser"; \
			$(call apt,chromium fonts-dejavu-core bubblewrap) || true; fi; \
		$(BIN)/python -m tests.browser.chromium >/dev/null || \
			echo "*** no chromium here: tests/browser will be skipped (apt-get install chromium fonts-dejavu-core)" >&2; fi
