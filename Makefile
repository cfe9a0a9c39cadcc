# The commands of this project. `make` alone lists them; everything they need is installed on the way, saying so.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where tools, downloads, cluster binaries and models are kept between runs.
NPC_FLEET_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/npc-fleet
export NPC_FLEET_CACHE

VENV := .venv
PYTHON := $(VENV)/bin/python
# More arguments for pytest, e.g. `make test-fast PYTEST_ARGS="-k digest -x"`.
PYTEST_ARGS ?=
# How long `make fuzz` looks, for each of its two kinds of input.
FUZZ_SECONDS ?= 60
PYTEST := $(PYTHON) -m pytest
# What tests run beside the cluster. Built or fetched before them, because a test has not the minutes it takes once.
HAVE_PROGRAMS = $(PYTHON) -m hack.cluster.binaries helm helm3 karpenter-kwok kwok promtool versitygw >/dev/null && $(PYTHON) -m hack.models venv >/dev/null

##@ Start here

.PHONY: help
help: ## List the commands
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: venv ## Bring up a cluster, a region of three vLLM tiers, and swap an adapter under load
	$(PYTHON) -m hack.demo up

.PHONY: demo-rollback
demo-rollback: venv ## A bad vampire is caught at 10% and taken back while you watch, on the demo's region
	$(PYTHON) -m hack.demo rollback

.PHONY: demo-spot
demo-spot: venv ## A spot node gets two minutes of notice and is taken away while NPCs talk, on the demo's region
	$(PYTHON) -m hack.demo spot

.PHONY: demo-down
demo-down: venv ## Remove the demo and its cluster
	$(PYTHON) -m hack.demo down

.PHONY: test
test: check-host ## Everything CI runs: lint, verify, fast, contract and e2e tests, with the time each took
	@$(PYTHON) -m hack.ladder lint verify test-fast test-contract test-e2e

##@ While writing code

.PHONY: venv
venv: ## Make .venv: every extra and every tool, exactly as locked (a second call does nothing)
	@hack/bootstrap.sh venv $(VENV) requirements/dev.txt --project

.PHONY: format
format: venv ## Put the code in its one form
	$(PYTHON) -m ruff check --fix --exit-zero --quiet .
	$(PYTHON) -m ruff format .

.PHONY: lint
lint: venv ## ruff, mypy strict, and the layers of .importlinter
	@broken=0; \
	for tool in "$(PYTHON) -m ruff check --quiet ." "$(PYTHON) -m ruff format --check --quiet ." "$(PYTHON) -m mypy" \
	  "$(VENV)/bin/lint-imports --no-logo"; do \
	  echo "$$tool"; $$tool || broken=1; \
	done; exit $$broken

.PHONY: generate
generate: venv ## Write crds/, the CRD chart and docs/api from the types
	$(PYTHON) -m hack.gen

.PHONY: verify
verify: venv ## Fail if what is committed differs from what `make generate` would write
	$(PYTHON) -m hack.gen --check

.PHONY: test-fast
test-fast: venv ## Unit and component tests: seconds, neither root nor cluster
	$(PYTEST) tests/unit tests/component $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: ## Look for requests and engine answers that break the gateway, FUZZ_SECONDS (60) each
	@hack/bootstrap.sh venv $(VENV)-fuzz requirements/fuzz.txt --project
	$(VENV)-fuzz/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

.PHONY: test-contract
test-contract: check-host cluster-up ## The contract with a real kube-apiserver: schemas, CEL rules, server-side apply
	$(HAVE_PROGRAMS)
	$(PYTEST) tests/contract $(PYTEST_ARGS)

.PHONY: test-e2e
test-e2e: check-host cluster-up images ## The whole product on the local cluster with real vLLM pods
	$(HAVE_PROGRAMS)
	$(PYTEST) tests/e2e $(PYTEST_ARGS)

.PHONY: check-host
check-host: venv ## Say what this machine lacks for the demo and the tests with real engines
	@$(PYTHON) -m hack.models check >/dev/null

.PHONY: bench
bench: venv ## Measure; prints the table that docs/benchmarks.md keeps
	$(PYTHON) -m hack.bench

.PHONY: bench-plot
bench-plot: venv ## Simulate every spot market again and draw docs/spot-market.png (5 minutes)
	@hack/bootstrap.sh venv $(VENV)-bench requirements/bench.txt
	@mkdir -p .make
	$(PYTHON) -m hack.bench.spot_cells --json .make/spot-cells.json
	$(VENV)-bench/bin/python -m hack.bench.spot_plot .make/spot-cells.json docs/spot-market.png

##@ The local cluster

.PHONY: cluster-up
cluster-up: venv ## Start the local cluster, or mend it
	$(PYTHON) -m hack.cluster up

.PHONY: cluster-down
cluster-down: venv ## Stop the local cluster and leave nothing behind
	$(PYTHON) -m hack.cluster down

.PHONY: images
images: venv ## Build the image of the three processes, and the base image of the CPU engines
	$(PYTHON) -m hack.images

##@ Housekeeping

.PHONY: lock
lock: ## Resolve the locked dependencies anew (hashes, all platforms)
	hack/bootstrap.sh lock

.PHONY: clean
clean: ## Remove what the tools left in the checkout; caches outside it stay
	rm -rf $(VENV) $(VENV)-bench $(VENV)-fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
