# Everything a newcomer types. `make up` starts a cloud, `make test` proves the project.

STATE ?= $(or $(TRUNKLINE_STATE),$(HOME)/.local/state/trunkline)
HOSTS ?= 3
VENV := .venv
BIN := $(VENV)/bin
PEER ?= $(CURDIR)/.peer

.PHONY: up down test lint bench bench-peer bench-appliance conformance packages

up: packages $(VENV)/installed
	$(BIN)/trunkline --state $(STATE) up --hosts $(HOSTS) $(if $(PORT),--port $(PORT)) --prove

down: $(VENV)/installed
	$(BIN)/trunkline --state $(STATE) down $(if $(WIPE),--wipe)

test: packages $(VENV)/installed-test lint
ifdef PYTEST
	$(BIN)/python -m pytest $(PYTEST)
else
	@# What moves packets and boots guests has the machine to itself.
	status=0; \
	$(BIN)/python -m pytest -m "not machine" --numprocesses auto --dist loadfile || status=1; \
	$(BIN)/python -m pytest -m machine || scripts/once-more $(BIN)/python || status=1; \
	exit $$status
endif

lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: packages $(VENV)/installed-test
	$(BIN)/python -m bench $(BENCH)

bench-peer: packages $(VENV)/installed-test
	scripts/install-peer $(PEER)
	$(BIN)/python -m bench.compare $(PEER) $(BENCH)

bench-appliance: packages $(VENV)/installed-test
	scripts/install-packages keepalived conntrackd iperf3
	$(BIN)/python -m bench.appliance --kills $(BENCH)
	$(BIN)/python -m bench.appliance.peers

conformance: packages $(VENV)/installed-test
	$(BIN)/python conformance/run.py --state $(STATE) --vxlan \
	    $(patsubst %,--expect %,$(wildcard conformance/expected*.txt))

packages:
	@scripts/install-packages

$(VENV)/installed: pyproject.toml scripts/install-python
	scripts/install-python $(VENV) client
	touch $@

$(VENV)/installed-test: pyproject.toml scripts/install-python
	scripts/install-python $(VENV) test
	touch $@ $(VENV)/installed
