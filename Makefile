# make demo      the whole thing with invented leads, days passing in seconds
# make up        the same for real use, until Ctrl-C
# make check     style, types, import directions, scenarios      make test      the suite      make bench     the benchmarks
# make faults    the fault campaigns of docs/reliability.md (some hours)
# make pins      new pins from pyproject.toml (needs uv)          make clean     removes what make made, but no state
#
# Everything sets itself up: Python 3.11 or newer is all that must be there.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# One stamp a pin file: installing again only when that file has changed.
RUN := $(VENV)/.run-stamp
DEV := $(VENV)/.dev-stamp
# Processes that `make test` spreads the tests over: many wait for servers, so one more than two cores. `make test WORKERS=0`: none,
# all in one. One test is run, and debugged, without: .venv/bin/python -m pytest tests/test_journey.py -k pause
WORKERS ?= 3
BENCHES := journeys ingest rescore mail render
CODE := mebae workflows activities worker.py server.py starter.py scenarios bench

.PHONY: help demo up test check bench faults pins clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(RUN)
	@$(BIN)/mebae demo

up: $(RUN)
	@exec $(BIN)/mebae up

test: $(DEV)
	$(BIN)/python -m pytest -q -p no:cacheprovider -m "not slow" -n $(WORKERS) --dist loadgroup

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/mebae check

bench: $(DEV)
	@for one in $(BENCHES); do echo "== $$one"; $(BIN)/python -m "bench.$$one"; done

faults: $(DEV)
	@$(BIN)/python -m tests.faults

pins:
	@command -v uv >/dev/null || { echo "make pins needs uv (https://docs.astral.sh/uv/)"; exit 1; }
	uv pip compile --quiet --generate-hashes --universal --no-emit-index-url --no-emit-find-links --python-version 3.11 \
	  --extra embedded pyproject.toml -o requirements.txt
	uv pip compile --quiet --generate-hashes --universal --no-emit-index-url --no-emit-find-links --python-version 3.11 \
	  --extra embedded --group dev pyproject.toml -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/mebae:
	@[ -n "$(PYTHON)" ] || { echo "Mebae needs Python 3.11 or newer, and there is no python3 here."; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] < (3, 14) else "Mebae needs Python 3.11 to 3.13; " + sys.executable + " is %d.%d. Install one, or name it: make PYTHON=/path/to/python3.11" % v[:2])'
	@echo "Making the environment in $(VENV) …"
	@"$(PYTHON)" -m venv $(VENV) || { echo "Python's venv module is missing: install it (Debian, Ubuntu: python3-venv)."; exit 1; }
	@# The command runs from here: nothing to build, nothing to fetch.
	@printf '#!/bin/sh\nPYTHONPATH="%s$${PYTHONPATH:+:$$PYTHONPATH}" exec "%s" -m mebae "$$@"\n' "$(CURDIR)" "$(CURDIR)/$(BIN)/python" > $@
	@chmod +x $@

# The development pins hold all that running needs.
$(RUN): requirements.txt | $(BIN)/mebae
	@echo "Installing what it runs on (once; a minute or two) …"
	@$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt | $(BIN)/mebae
	@echo "Installing what it runs on and is tested with (once; a minute or two) …"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@ $(RUN)
