# A face only: each target is a line or two that calls a real tool.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test bench lint lock clean

help:  ## what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): appliance/requirements-dev.txt appliance/pyproject.toml
	@$(PYTHON) tests/setup_host.py python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r appliance/requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable appliance
	@touch $@

demo: $(READY)  ## a simulated building and a whole appliance, live (ARGS=--once checks every step and exits)
	$(BIN)/bacpipes demo $(ARGS)

test: $(READY) lint  ## everything that CI runs; installs Debian packages where it is root
	@$(BIN)/python tests/setup_host.py packages
	$(BIN)/pytest $(ARGS)

bench: $(READY)  ## measures worker, MQTT and export on this machine; docs/benchmarks.md has the figures
	@$(BIN)/python tests/setup_host.py packages
	for part in worker mqtt_publish export; do PYTHONPATH=tests $(BIN)/python tests/bench/$$part.py || exit 1; done

lint: $(READY)  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lock: $(READY)  ## renew the hashed requirement files after a change to appliance/pyproject.toml
	cd appliance && ../$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml --python-version 3.11 -o requirements.txt
	cd appliance && ../$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml --extra dev --python-version 3.11 -o requirements-dev.txt

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
