# Two commands, nothing before them:  make demo   and   make test
# Everything lives in .venv (made here from pyproject.toml) and in data/, runs/, index/.

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Any Python from 3.11 to 3.13; `make demo PYTHON=/path/to/python3.12` names one.
PYTHON ?=

.PHONY: help env demo demo-full test test-all check format docs doctor clean

help: ## list the targets
	@echo "e6tag: learn the tags of a booru, then tag, search and sort illustrations."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s%s\n", $$1, $$2}'

env: $(STAMP) ## make .venv with everything the other targets need (2 to 5 minutes, once)

$(STAMP): pyproject.toml tools/make_env.sh constraints.txt
	@PYTHON="$(PYTHON)" sh tools/make_env.sh $(VENV)

demo: $(STAMP) ## download, train, evaluate, tag and search real pictures, here (about 10 minutes)
	@$(BIN)/python -m e6tag demo

demo-full: $(STAMP) ## the same with 29,000 pictures in several styles (needs Node; over an hour)
	@$(BIN)/python -m e6tag demo --full

test: $(STAMP) ## run the tests (up to 10 minutes on 2 cores)
	@echo "running the tests; up to 10 minutes on 2 cores"
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(STAMP) ## run all tests, the slow ones included (about 20 minutes)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP) ## format, lint, types, import rules, generated docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/make_cli_docs.py --check

format: $(STAMP) ## format the code and apply safe lint fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(STAMP) ## write docs/cli.md anew from the commands
	@$(BIN)/python tools/make_cli_docs.py

doctor: $(STAMP) ## say what this installation can do
	@$(BIN)/python -m e6tag doctor

clean: ## remove .venv and caches; data/, runs/ and index/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
