# A face only: each target is a line or two that calls a real tool.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# The controller's tools are apart: Ansible is large, and the appliance needs none of it.
CONTROLLER := .venv-controller
FLEET  := $(CONTROLLER)/.ready
PIP    := pip install --quiet --disable-pip-version-check
LAB    := PATH="$(CURDIR)/$(CONTROLLER)/bin:$$PATH" PYTHONPATH=tests/lab $(CONTROLLER)/bin/python -m lab
STAGE  := $(PYTHON) tests/stage.py
PARTS  := rpm peers worker setpoint mqtt_publish export central live_lane link fleet page

.DEFAULT_GOAL := help
.PHONY: help demo controller test test-appliance test-roles test-lab test-faults lab lab-down lab-status bench lint lint-roles lock clean

help:  ## what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): appliance/requirements-dev.txt appliance/pyproject.toml
	@$(PYTHON) tests/setup_host.py python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) --require-hashes -r appliance/requirements-dev.txt
	$(BIN)/$(PIP) --no-deps --no-build-isolation --editable appliance
	@touch $@

$(FLEET): playbooks/requirements.txt appliance/pyproject.toml
	@$(PYTHON) tests/setup_host.py python
	$(PYTHON) -m venv $(CONTROLLER)
	$(CONTROLLER)/bin/$(PIP) --require-hashes -r playbooks/requirements.txt
	$(CONTROLLER)/bin/$(PIP) --no-deps --no-build-isolation --editable appliance
	@touch $@

controller: $(FLEET)  ## the controller's virtual environment: Ansible and what the playbooks need

demo: $(READY)  ## a simulated building and a whole appliance, live (ARGS=--once checks every step and exits)
	$(BIN)/bacpipes demo $(ARGS)

test: $(READY) $(FLEET)  ## everything that CI runs; installs Debian packages where it is root
	@rm -f .stages
	$(STAGE) lint $(MAKE) --no-print-directory lint lint-roles
	$(STAGE) appliance $(MAKE) --no-print-directory test-appliance
	$(STAGE) lab $(MAKE) --no-print-directory test-lab
	$(STAGE) roles $(MAKE) --no-print-directory test-roles ROLES="pki base docker lxc_container"
	@$(STAGE) --summary

test-appliance: $(READY) $(FLEET)  ## the appliance's tests and the controller's, without containers
	@$(BIN)/python tests/setup_host.py packages
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)

test-lab: $(FLEET)  ## the lab from nothing, onboarding twice, verification with kill and reboot, offboarding (root)
	@$(PYTHON) tests/setup_host.py lab-tests
	$(LAB) test $(ARGS)

test-faults: $(READY) $(FLEET)  ## the long tests: the appliance under fire, onboarding that is killed, every role again and again (root)
	$(BIN)/pytest -m faults -s tests/integration/test_faults.py tests/integration/test_disk_full.py tests/integration/test_central_faults.py
	@$(PYTHON) tests/setup_host.py lab
	$(LAB) test -m 'faults or not faults' # they build on one another: a site must be taken away before it can come back
	$(LAB) molecule --long

test-roles: $(FLEET)  ## Molecule: every role by itself, or ROLES="base docker", in the lab's ground (root)
	@$(PYTHON) tests/setup_host.py lab-tests
	$(LAB) molecule $(ROLES)

lab: $(FLEET)  ## the whole system on this machine: central and two sites in LXC, by the real playbooks (root)
	@$(PYTHON) tests/setup_host.py lab
	$(LAB) up

lab-down: $(FLEET)  ## take every trace of the lab away (root)
	$(LAB) down

lab-status: $(FLEET)  ## what of the lab runs
	$(LAB) status

bench: $(READY)  ## measures every part on this machine (PARTS="rpm export"); docs/benchmarks.md has the figures
	@$(BIN)/python tests/setup_host.py packages
	for part in $(PARTS); do echo "== $$part"; PYTHONPATH=tests $(BIN)/python tests/bench/$$part.py || exit 1; done
	@echo "== over time"; $(BIN)/python tests/bench/costs.py

lint: $(READY)  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lint-roles: $(FLEET)  ## ansible-lint, production profile
	PATH="$(CURDIR)/$(CONTROLLER)/bin:$$PATH" $(CONTROLLER)/bin/ansible-lint --offline -q

UV_LOCK = uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate --python-version 3.11
lock: $(READY)  ## renew the hashed requirement files after a change to what they are made from
	cd appliance && ../$(BIN)/$(UV_LOCK) pyproject.toml -o requirements.txt
	cd appliance && ../$(BIN)/$(UV_LOCK) pyproject.toml --extra dev -o requirements-dev.txt
	$(BIN)/$(UV_LOCK) appliance/requirements.txt playbooks/requirements.in -o playbooks/requirements.txt

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) $(CONTROLLER) .venv-bench .pytest_cache .ruff_cache .mypy_cache
