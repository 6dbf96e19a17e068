# One command each: `make demo` shows the plugin at work, `make test` checks it. Both install what they need first.

PYTEST_ARGS ?=
TESTERS ?= 2
DEMO_ARGS ?=
N ?= 200
SEED ?=

VENV := .venv
PYTEST ?= $(VENV)/bin/python -m pytest
DEB_DEMO := ca-certificates python3 python3-venv r-base-core r-cran-codetools r-cran-terra saga
DEB_TEST := $(DEB_DEMO) bindfs chromium chromium-driver git libcap2-bin strace

DEB_CLUSTER := munge slurm-client slurmctld slurmd
DEB_CLUSTER += libjson-perl libyaml-perl oar-node oar-server oar-server-pgsql oar-user oar-user-pgsql openssh-server postgresql

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-user test-root faults test-clusters test-clusters-user lint format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24
	@echo '  Variables: PYTEST_ARGS="-k word -x", DEMO_ARGS="...", N=200 SEED=7 (faults)'

setup: ## install what the demo needs: Debian packages (as root), .venv, CRIU inside .venv
	@tools/setup.sh demo $(DEB_DEMO)

setup-dev: ## the same, with the tools of the tests
	@tools/setup.sh dev $(DEB_TEST)

demo: setup ## the example: jobs longer than their walltime, saved and restored (DEMO_ARGS="--size valley")
	$(VENV)/bin/python tools/demo.py $(DEMO_ARGS)

# Saving without root is the product, so root hands the suite to an ordinary user.
test: ## lint, types and tests; as root: run as an ordinary user, then the root-only tests
ifeq ($(shell id -u),0)
	@tools/debian-packages.sh $(DEB_TEST)
	@tools/test-as-user.sh
else
	@$(MAKE) --no-print-directory test-user
endif

# Groups are made in tests/conftest.py.
test-user: lint ## the tests, as whoever calls it
	$(PYTEST) -n $(TESTERS) --dist loadgroup --no-loadscope-reorder --durations 12 -m "not root" $(PYTEST_ARGS)

# Called after test-user in the same folder, which is another user's: nothing may be left there. 5: no such tests.
test-root:
	PYTHONDONTWRITEBYTECODE=1 $(PYTEST) -p no:cacheprovider -m root $(PYTEST_ARGS) || [ $$? -eq 5 ]

faults: setup-dev ## the long campaign: chains with processes killed at random (N trials), then at every named point
	PYTHONPATH=tests $(VENV)/bin/python -m faults.campaign $(N) $(SEED)
	CKPT_FAULTS=all $(PYTEST) tests/faults/test_points.py $(PYTEST_ARGS)

# CLUSTERS: which ones, of those that are known (oar, slurm).
test-clusters: ## chains on a real OAR and a real Slurm, which root brings up here for it (CLUSTERS="slurm")
ifeq ($(shell id -u),0)
	@tools/debian-packages.sh $(DEB_TEST) $(DEB_CLUSTER)
	@tools/test-clusters.sh $(CLUSTERS)
else
	@$(MAKE) --no-print-directory test-clusters-user
endif

test-clusters-user: setup-dev # all nodes share the home directories, and not /tmp
	@mkdir -p $(HOME)/ckpt-cluster-tests
	$(PYTEST) -m cluster --basetemp=$(HOME)/ckpt-cluster-tests/pytest $(PYTEST_ARGS)

lint: setup-dev ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/snakefmt --check workflows

format: setup-dev ## put the style right
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/snakefmt workflows

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
