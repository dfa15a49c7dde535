# The two commands a newcomer needs: make demo, make test. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Extra arguments for the installation of torch, such as an index with the build you want.
TORCH_PIP_ARGS ?=
UV_VERSION := 0.13.9
VENV := .venv
UV := $(VENV)/tools/bin/uv
JOBS := $(VENV)/jobs/bin
AIRFLOW := $(VENV)/airflow/bin
PYTEST := -m pytest
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_LINK_MODE ?= hardlink
# Compiled once here, not at every start of a command: some machines forbid Python to keep what it compiles.
export UV_COMPILE_BYTECODE ?= 1
export UV_CONFIG_FILE := $(CURDIR)/uv.toml

.PHONY: help
help: ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

# ---- environments

.PHONY: env
env: $(VENV)/jobs/.ready $(VENV)/airflow/.ready ## Make both environments (minutes the first time, seconds after).

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed; found $$($(PYTHON) --version). Say which: make PYTHON=/path/to/python3.11"; exit 64; }
	@echo "==> tools"
	@$(PYTHON) -m venv $(VENV)/tools
	@$(VENV)/tools/bin/pip install -q uv==$(UV_VERSION)

JOBS_LOCKS := images/jobs/requirements.txt images/train/requirements.txt images/train/requirements-build.txt tests/requirements.txt
$(VENV)/jobs/.ready: $(JOBS_LOCKS) images/train/requirements-torch.txt images/train/build_mmcv.py jobs/pyproject.toml | $(UV)
	@echo "==> $(VENV)/jobs: what the jobs need"
	@test -x $(JOBS)/python || $(UV) venv -q --seed --python $(PYTHON) $(VENV)/jobs
	@$(UV) pip install --python $(JOBS)/python --require-hashes --no-deps $(addprefix -r ,$(JOBS_LOCKS))
	@echo "==> $(VENV)/jobs: torch"
	@$(JOBS)/python -m pip install -q $(TORCH_PIP_ARGS) -r images/train/requirements-torch.txt 2> >(grep -v '^WARNING: Location' >&2)
	@echo "==> $(VENV)/jobs: the detector's operators"
	@$(JOBS)/python images/train/build_mmcv.py
	@$(UV) pip install -q --python $(JOBS)/python --no-deps -e jobs
	@touch $@

$(VENV)/airflow/.ready: requirements.txt tests/requirements-airflow.txt jobs/pyproject.toml | $(UV)
	@echo "==> $(VENV)/airflow: Airflow"
	@test -x $(AIRFLOW)/python || $(UV) venv -q --python $(PYTHON) $(VENV)/airflow
	@$(UV) pip install --python $(AIRFLOW)/python --require-hashes -r requirements.txt -r tests/requirements-airflow.txt
	@$(UV) pip install -q --python $(AIRFLOW)/python --no-deps -e jobs
	@touch $@

COMPILE = $(UV) pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
# torch's CUDA build decides its libraries; TORCH_LOCK_ARGS can name the index that has another build.
TORCH_LOCK = --no-config --python-platform x86_64-manylinux_2_28 $(TORCH_LOCK_ARGS)
.PHONY: lock
lock: | $(UV) ## Lock every environment anew from its .in file.
	$(COMPILE) images/jobs/requirements.in -o images/jobs/requirements.txt
	$(COMPILE) -c images/jobs/requirements.txt images/train/requirements.in -o images/train/requirements.txt
	$(COMPILE) images/train/requirements-build.in -o images/train/requirements-build.txt
	$(COMPILE) $(TORCH_LOCK) -c images/jobs/requirements.txt -c images/train/requirements.txt -c images/train/requirements-build.txt --no-emit-package torch images/train/requirements-torch.txt -o images/train/requirements-cuda.txt
	$(COMPILE) $(TORCH_LOCK) images/train/requirements-nvcc.in -o images/train/requirements-nvcc.txt
	$(COMPILE) -c images/jobs/requirements.txt -c images/train/requirements.txt tests/requirements.in -o tests/requirements.txt
	$(COMPILE) -c images/jobs/requirements.txt images/edge/requirements.in -o images/edge/requirements.txt
	$(COMPILE) images/bom/requirements.in -o images/bom/requirements.txt
	$(COMPILE) images/bom/requirements-build.in -o images/bom/requirements-build.txt
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) -c requirements.txt tests/requirements-airflow.in -o tests/requirements-airflow.txt

# ---- checks

.PHONY: lint
lint: $(VENV)/jobs/.ready ## Style and types; changes nothing.
	$(JOBS)/ruff check .
	$(JOBS)/ruff format --check .
	$(JOBS)/mypy

.PHONY: test
test: env lint ## Everything that CI runs.
	$(JOBS)/python $(PYTEST) tests/unit tests/fuzz tests/integration tests/helm
	$(AIRFLOW)/python $(PYTEST) tests/dags tests/plugins
	$(JOBS)/python $(PYTEST) tests/assurance tests/e2e

.PHONY: test-quick
test-quick: env ## The inner loop: unit tests and DAGs, about a minute.
	$(JOBS)/ruff check .
	$(JOBS)/python $(PYTEST) tests/unit -x
	$(AIRFLOW)/python $(PYTEST) tests/dags -x

.PHONY: assurance-long
assurance-long: env ## The long tier of the fault tests: hours.
	SCANLOOP_ASSURANCE=long $(JOBS)/python $(PYTEST) tests/fuzz tests/assurance -s

.PHONY: instants
instants: env ## Intake killed at 200 random instants (a quarter of an hour).
	SCANLOOP_ASSURANCE_INSTANTS=200 $(JOBS)/python $(PYTEST) tests/assurance/test_intake_instants.py -s

# What to try: FUZZ="--count 1000000 --seed mine --kinds 'dicom jpeg' --keep 20"; --help says all.
FUZZ ?=
.PHONY: fuzz
fuzz: env ## 200,000 mutants of every format through the readers of scans (minutes).
	PYTHONPATH=tests $(JOBS)/python -m fuzzing.run $(FUZZ)

# ---- the stack on this machine

.PHONY: demo
demo: env ## The whole loop on this machine, twice round, with a report at the end.
	$(JOBS)/scanloop stack demo

.PHONY: up
up: env ## Leave the stack running; prints the address and the login.
	$(JOBS)/scanloop stack up

.PHONY: down
down: ## Stop what make up or make demo started.
	@test ! -x $(JOBS)/scanloop || $(JOBS)/scanloop stack down

.PHONY: docs
docs: env ## Write the generated pages anew.
	PYTHONPATH=dags:plugins $(AIRFLOW)/python -m scanloop_dags.document > docs/DAGS.md
	$(JOBS)/python -m scanloop.cli.reference > docs/commands.md
	PYTHONPATH=tests $(JOBS)/python -m format_matrix > docs/formats.md
	$(JOBS)/python -m scanloop.training.reference docs/training.md
	$(JOBS)/python -m scanloop.query.reference docs/queries.md

.PHONY: clean
clean: down ## Remove the deployment in .scanloop, keep the environments.
	rm -rf .scanloop
