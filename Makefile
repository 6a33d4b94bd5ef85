# Two commands for a newcomer: `make train` and `make test`. Everything else is listed by `make help`.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/pytest --numprocesses auto --dist worksteal
# Versions that the tests passed with. `make CONSTRAINTS= train` takes the newest instead.
CONSTRAINTS ?= tests/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help train test torture bench gpu check fix clean

help:  ## List these commands
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

train: .venv/installed  ## Install into .venv, then train the default run: a small CNN on handwritten digits
	@$(BIN)/trainrun

test: .venv/installed  ## Install into .venv, then run the tests
	@OMP_NUM_THREADS=1 $(PYTEST)

torture: .venv/installed  ## Kill hundreds of runs and flip hundreds of bits, in a quarter of an hour; tells the figures
	@TORTURE_KILLS=$${TORTURE_KILLS:-220} TORTURE_FLIPS=$${TORTURE_FLIPS:-400} \
	TORTURE_RANK_KILLS=$${TORTURE_RANK_KILLS:-100} OMP_NUM_THREADS=1 \
	$(PYTEST) tests/invariants
	@OMP_NUM_THREADS=1 $(PYTEST) -m torture

bench: .venv-bench/installed  ## Time trainrun beside guides, loops and frameworks, ten minutes; ONLY=mlp for a part
	@.venv-bench/bin/python tests/benchmarks/speed.py $(ONLY)

gpu: .venv/installed  ## Check a GPU in 8 minutes: exactness, memory, speed beside bare loops, ranks; ONLY=gpt for a part
	@$(BIN)/python tests/gpu/check.py $(ONLY)

check: .venv/installed  ## What CI runs: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(PYTEST)

fix: .venv/installed  ## Format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove .venv, .venv-bench and caches; runs in outputs/ stay
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trainrun needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "installing trainrun and torch into .venv: two minutes or more, and about 2 GB"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(addprefix --constraint ,$(CONSTRAINTS)) --editable '.[dev]'
	@touch $@

.venv-bench/installed: pyproject.toml tests/benchmarks/requirements.txt $(CONSTRAINTS)
	@echo "installing trainrun and what it is compared with into .venv-bench: some minutes, and about 2 GB"
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet $(addprefix --constraint ,$(CONSTRAINTS)) \
	--requirement tests/benchmarks/requirements.txt --editable .
	@touch $@
