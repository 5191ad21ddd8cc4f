SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := .venv/bin
# The first Python that is new enough; PYTHON=… names another.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)

.PHONY: help setup llama-cuda demo compile test test-unit test-integration test-e2e check format generate check-generated \
	check-manifests check-alerts bench bench-bridge bench-engines soak soak-engines faults fuzz requirements baseline images sbom

help: ## show this list
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## make .venv, build llama.cpp once, prepare the embedded models; under 1 s if all is there
	@$(PYTHON) -m scripts.setup

llama-cuda: setup ## build llama.cpp with CUDA for this machine's GPU and put it into .venv (needs nvcc)
	@$(PYTHON) -m scripts.llama_cuda $(ARGS)

demo: export MESH_DEMO_STARTED_AT := $(shell date +%s)
demo: setup ## start the mesh, ask each model by REST and gRPC, stop it
	@$(BIN)/mesh demo

compile: setup ## make machine code of the pure policy with mypyc (40 s); the gateway uses it while it fits
	@$(BIN)/python -m scripts.compile_policy

test: compile ## all tests: unit, integration, end to end (about 10 minutes)
	@$(BIN)/pytest tests

test-unit: setup ## the tests without servers (seconds)
	@$(BIN)/pytest tests/unit

test-integration: setup ## each service with real servers around it
	@$(BIN)/pytest tests/integration

test-e2e: setup ## real processes and signals
	@$(BIN)/pytest tests/e2e

check: check-manifests setup ## manifests, format, lint, types, layers, protos, generated files, rules of the repository
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/baseline.binpb
	@$(MAKE) check-generated check-alerts
	$(BIN)/python -m scripts.check_repository

format: setup ## format the code and repair what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: setup ## write the gRPC stubs, the generated pages of docs/, alerts and dashboards
	$(BIN)/python -m scripts.generate_protos
	$(BIN)/python -m scripts.generate_docs
	$(BIN)/python -m scripts.generate_observability
	$(BIN)/python -m scripts.generate_prometheus_rule

check-generated: setup ## prove that stubs, generated pages, alerts and dashboards are current
	$(BIN)/python -m scripts.generate_protos --check
	$(BIN)/python -m scripts.generate_docs --check
	$(BIN)/python -m scripts.generate_observability --check
	$(BIN)/python -m scripts.generate_prometheus_rule --check

check-manifests: ## have kubectl render every overlay of kustomize/; says so if there is no kubectl
	@$(PYTHON) -m scripts.check_manifests

check-alerts: setup ## check Prometheus' configuration and run the unit tests of its rules by promtool
	@$(BIN)/python -m scripts.check_alerts

bench: compile ## what each hop, the policy alone and /metrics cost; writes build/bench/*.json (about 6 minutes)
	@$(BIN)/python -m tests.bench.hops
	@$(BIN)/python -m tests.bench.policy
	@$(BIN)/python -m tests.bench.metrics_page

bench-bridge: setup ## what REST costs: a call, a stream, a vector's form, and LiteLLM's proxy beside it (about 5 minutes)
	@$(BIN)/python -m tests.bench.bridge $(ARGS)

bench-engines: setup ## both engines beside the raw limit and their peers; writes build/bench/engines.json (about 20 minutes)
	@$(BIN)/python -m tests.bench.engines $(ARGS)

soak: setup ## mixed load; memory, open files and tasks must stay flat (15 minutes)
	@$(BIN)/python -m tests.bench.soak --minutes 15

soak-engines: setup ## mixed load on one worker of each engine; memory must stay flat (10 minutes)
	@$(BIN)/python -m tests.bench.soak_engines --minutes 10

faults: setup ## kill, stop, starve and overload real processes, in full length (about 30 minutes)
	@$(BIN)/pytest tests -m faults --full-faults --timeout 1800

fuzz: setup ## the tests with generated input, 100 times as many examples (about 10 minutes)
	@$(BIN)/pytest tests -m fuzz --hypothesis-profile=long --timeout 900

requirements: ## pin the packages again after a change in pyproject.toml (needs uv)
	@scripts/compile_requirements.sh

baseline: setup ## at a release: make today's protos the ones that must not break
	$(BIN)/buf build -o proto/baseline.binpb

images: ## build the container images with docker, podman or buildah; ARGS="--help" tells what else it takes
	@$(PYTHON) -m scripts.build_images $(ARGS)

sbom: ## write a bill of materials (CycloneDX) for each image to build/sbom
	@scripts/sbom.sh
