# make run      set up what is needed, and serve on http://127.0.0.1:8787 (PORT=... for another)
# make install  the set-up alone: .venv/, with .venv/bin/fal-gateway in it
# make test     set up, then run every check and every test (JOBS=1: one after the other)
# make check    format, lint, types, floors
# make bench    the gateway against its peers
# make lock     resolve the dependencies anew (UPGRADE=1: to the newest)
# make clean    remove what the other targets made, but for data/
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.PHONY: run install dev test check bench lock clean

PORT ?= $(or $(GATEWAY_PORT),8787)
JOBS ?= 4
BIN := .venv/bin
# Last, so that what the system has comes first.
export PATH := $(PATH):$(CURDIR)/.venv/bin
# Without it pyright asks a registry whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

run: install
	@GATEWAY_PORT=$(PORT) exec $(BIN)/fal-gateway run

install:
	@deploy/setup run

dev:
	@deploy/setup dev

test: check
	@exec $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: dev
	@echo "==> Checking format, lint, types and floors ..."
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports --no-logo

bench: dev
	@$(BIN)/python -m tests.bench.figures

lock:
	@deploy/lock $(if $(UPGRADE),--upgrade)

clean:
	@rm -rf .venv dist *.egg-info .*_cache tests/clients/js/node_modules
	@find gateway tests -name __pycache__ -type d -prune -exec rm -rf {} +
