SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/pytest

.PHONY: help setup demo test check format generate check-generated bench soak faults fuzz requirements

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## make .venv, build llama.cpp, prepare the embedded models (nothing to do: under 1 s)
	@$(PYTHON) -m scripts.setup

demo: export MESH_DEMO_STARTED_AT := $(shell date +%s)
demo: setup ## start the mesh, ask each model by REST and gRPC, stop it
	@$(BIN)/mesh demo

test: setup ## all tests: unit, integration, end to end (about 5 minutes)
	@$(PYTEST) tests

check: setup ## format, lint, types, layers, protos, generated files, repository rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/baseline.binpb
	$(MAKE) --no-print-directory check-generated
	$(BIN)/python scripts/check_repository.py

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: setup ## write the gRPC stubs and the generated pages of docs/
	$(BIN)/python scripts/generate_protos.py
	PYTHONPATH=. $(BIN)/python scripts/generate_docs.py

check-generated: setup ## say whether the generated files are current
	$(BIN)/python scripts/generate_protos.py --check
	PYTHONPATH=. $(BIN)/python scripts/generate_docs.py --check

bench: setup ## what each hop costs; writes build/bench/hops.json (about 3 minutes)
	@$(BIN)/python -m tests.bench.hops

soak: setup ## 15 minutes of mixed load; memory, files and tasks must stay flat
	@$(BIN)/python -m tests.bench.soak --minutes 15

faults: setup ## kill, stop and starve real processes (about 2 minutes)
	@$(PYTEST) tests -m faults

fuzz: setup ## generated input against parsers and servers (about 10 minutes)
	@MESH_FUZZ_EXAMPLES=20000 $(PYTEST) tests -m fuzz --timeout 600

requirements: ## pin the packages again after a change in pyproject.toml
	$(BIN)/python -m pip install -q uv
	bash scripts/compile_requirements.sh
