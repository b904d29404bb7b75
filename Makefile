# Every target installs what it needs first; a second call installs nothing until a requirements file changes.
#
#   PYTHON=/path/to/python   the interpreter to build on (3.11 or newer; default: 3.12, 3.11, then newer ones)
#   OWN_TORCH=1              builds .venv on a Python that has torch >= 2.11 and torchvision, and keeps those
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo serve status doctor test faults bench lint format

VENV := .venv
SERVER := .venv-labelstudio
BIN := $(VENV)/bin

# An environment that was built with OWN_TORCH=1 keeps it.
export OWN_TORCH ?= $(if $(wildcard $(VENV)/.own-torch),1)
RUNTIME := $(VENV)/.installed$(if $(OWN_TORCH),-own-torch)
DEV := $(VENV)/.installed-dev

# The stamps of an interrupted installation are not valid: scripts/install.sh installs it again.
$(foreach folder,$(VENV) $(SERVER),$(if $(wildcard $(folder)/.installing),$(shell rm -f $(folder)/.installed*)))

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

setup: $(RUNTIME) $(SERVER)/.database  ## prepare .venv (the backend) and .venv-labelstudio (the server)

demo: setup  ## run the whole loop on 1,797 digits; a second call continues [FRESH=1 PORT=9090 LS_PORT=8080 DATA=folder DEMO_DIR=folder EXIT=1]
	@$(BIN)/python -m backend demo

serve: $(RUNTIME)  ## run the backend [PORT=9090 DATA_DIR=folder]
	@$(BIN)/python -m backend serve

status: $(RUNTIME)  ## show all projects as a table, also while no server runs [DATA_DIR=folder]
	@$(BIN)/python -m backend status

doctor: $(RUNTIME)  ## find what is wrong in this installation, and how to fix it [DATA_DIR=folder]
	@$(BIN)/python -m backend doctor

test: $(DEV) $(SERVER)/.database  ## run all tests [ARGS="-k name"]
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

faults: $(DEV) $(SERVER)/.database  ## run the long fault tests: kills, outages, a long run (an hour) [FAULTS_TIMES=4 ARGS="-k kills"]
	$(BIN)/python -m pytest tests/faults -m faults --timeout 0 $(ARGS)

bench: setup  ## measure speeds as ratios into benchmarks/results.json [ARGS="--full" or "--only recording"]
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(DEV)  ## run ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: requirements.txt requirements-nodeps.txt constraints.txt
	@OWN_TORCH= scripts/install.sh $(VENV) -r requirements.txt
	@OWN_TORCH= scripts/install.sh $(VENV) --no-deps -r requirements-nodeps.txt
	@touch $@

$(VENV)/.installed-own-torch: requirements.txt requirements-nodeps.txt constraints.txt
	@scripts/install.sh $(VENV) -r <(sed -e '/^torch/d' -e 's|^-c |-c $(CURDIR)/|' requirements.txt)
	@scripts/install.sh $(VENV) --no-deps -r requirements-nodeps.txt
	@touch $(VENV)/.own-torch $@

$(DEV): $(RUNTIME) requirements-dev.txt
	@scripts/install.sh $(VENV) -r requirements-dev.txt
	@touch $@

$(SERVER)/.installed: requirements-labelstudio.txt
	@OWN_TORCH= scripts/install.sh $(SERVER) -r $<
	@touch $@

$(SERVER)/.database: $(SERVER)/.installed | $(RUNTIME)
	@$(BIN)/python -c 'from backend.demo.empty_database import main; main()'
	@touch $@
