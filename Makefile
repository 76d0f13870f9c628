# Everything runs in a virtual environment that is made here when it is first needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DATA ?= ../shared/data
MINUTES ?= 10
FUZZ ?= 3
SEED ?= 1
RECORDS ?= 200000
KILLS ?= 10

.DEFAULT_GOAL := help
.PHONY: help install demo test quick check lint format bench acceptance soak same simulation constraints clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; this is " + sys.version.split()[0] + ". Say which one to use: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing driftd and what it needs into $(VENV): a minute or two"
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing driftd and what its tests need into $(VENV): a minute or two"
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.run

install: $(VENV)/.run ## a virtual environment with the command: .venv/bin/driftd

demo: $(VENV)/.run ## the main job in a minute, no server needed
	$(BIN)/driftd demo

test: lint check ## all checks and tests, with a real Kafka and a real PostgreSQL

check: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadfile

quick: $(VENV)/.dev ## the tests that need no server and no process of their own, in under two minutes
	$(BIN)/pytest -n 2 -m "not kafka and not postgres and not process and not slow"

lint: $(VENV)/.dev ## style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## speed and memory, as ratios measured in one run
	@# The package that is compared with pins older numerics than it needs, so it comes without its dependencies.
	$(PIP) install --no-deps frouros==0.9.0 tqdm
	$(BIN)/python -m tests.bench

acceptance: $(VENV)/.dev ## the data sets with known answers: make acceptance DATA=folder
	DRIFTD_DATA=$(DATA) $(BIN)/pytest tests/acceptance

soak: $(VENV)/.dev ## crashes and outages at random, audited, and fuzz: make soak MINUTES=10 FUZZ=3 SEED=1
	$(BIN)/python -m tests.e2e.fuzz --minutes $(FUZZ) --seed $(SEED)
	$(BIN)/python -m tests.e2e.soak --minutes $(MINUTES) --seed $(SEED)

same: $(VENV)/.dev ## one stream read live, behind, under kills and in a replay: make same RECORDS=200000 SEED=1 KILLS=10
	$(BIN)/python -m tests.e2e.same --records $(RECORDS) --seed $(SEED) --kills $(KILLS)

simulation: $(VENV)/.dev ## alarms of models that never change, against the budget, and how soon changes are found: FULL=1
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulation --seed $(SEED) $(if $(FULL),--full)

constraints: $(VENV)/.dev ## write constraints.txt anew from what is installed
	$(BIN)/python -m pip freeze --exclude-editable | LC_ALL=C sort -f > constraints.txt

clean: ## remove what was made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
