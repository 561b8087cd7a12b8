# What a contributor can do; 'make help' lists it. Needs Python >= 3.11; 'make node' also npm.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= 3
LOCK := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
HOST ?= http://127.0.0.1:4000

.PHONY: help install lock run test matrix matrix-clients tasks-server interop chaos soak fuzz unit lint format node browser bubblewrap bench retrieval loadtest sbom clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# Another version of Python gets an environment of its own in the place of the one that is there.
$(VENV)/.installed-$(VERSION): pyproject.toml requirements-dev.lock
	$(PYTHON) -m venv $(if $(wildcard $@),,--clear) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(VENV)/.installed-$(VERSION)  ## prepare .venv; puts 'gateway' into .venv/bin

lock: install  ## write requirements.lock and requirements-dev.lock anew: the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv $(LOCK) --upgrade --extra openapi --extra otel pyproject.toml --output-file requirements.lock
	$(BIN)/uv $(LOCK) --upgrade --all-extras --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

run: install  ## start the gateway with demo upstreams on an embedded Redis
	@exec $(BIN)/python deploy/demo/run.py $(ARGS)

node:  ## install the Node clients that some tests run (needs npm)
	@if command -v npm >/dev/null; then \
	  if [ ! -e tests/node/node_modules/.package-lock.json ] || [ tests/node/package.json -nt tests/node/node_modules/.package-lock.json ]; then \
	    cd tests/node && npm install --no-audit --no-fund --no-package-lock --loglevel=error && touch node_modules/.package-lock.json; fi; \
	else echo "npm is not here: tests that need Node are skipped"; fi

tests/matrix/.venv/.installed-$(VERSION): tests/matrix/requirements.txt
	$(PYTHON) -m venv $(if $(wildcard $@),,--clear) tests/matrix/.venv
	tests/matrix/.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

tests/interop/.venv-tasks/.installed-$(VERSION): tests/interop/requirements-tasks.txt
	$(PYTHON) -m venv $(if $(wildcard $@),,--clear) tests/interop/.venv-tasks
	tests/interop/.venv-tasks/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

tasks-server: tests/interop/.venv-tasks/.installed-$(VERSION)  ## install the FastMCP with tasks that some tests run, beside .venv

matrix-clients: tests/matrix/.venv/.installed-$(VERSION)  ## install the older SDK that some tests run, beside .venv

browser:  ## install Chromium for the tests of the dashboard (Debian and Ubuntu, as root)
	@if command -v chromium chromium-browser google-chrome >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get install -qq -y --no-install-recommends chromium >/dev/null 2>&1 || { apt-get update -qq; apt-get install -qq -y --no-install-recommends chromium >/dev/null; }; \
	else echo "chromium is not here: tests of the dashboard are skipped"; fi

bubblewrap:  ## install bubblewrap for the tests of sandboxes (Debian and Ubuntu, as root)
	@if command -v bwrap >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get install -qq -y --no-install-recommends bubblewrap >/dev/null 2>&1 || { apt-get update -qq; apt-get install -qq -y --no-install-recommends bubblewrap >/dev/null; }; \
	else echo "bubblewrap is not here: tests of sandboxes are skipped"; fi

# Each file of tests is played in one process, the long ones first, so that the last ones to run are short. The many
# processes that tests start need not compile what they import, also where Python is told to keep nothing compiled.
test: install node matrix-clients tasks-server browser bubblewrap  ## all tests, JOBS=3 files at a time
	@$(BIN)/python -m compileall -q gateway worker shared tests/*.py tests/servers
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

matrix: install node matrix-clients  ## every feature, client, SDK and upstream together; writes docs/matrix.md
	$(BIN)/python -m tests.matrix $(ARGS)

interop: install matrix-clients  ## the servers that people use, directly and through the gateway; writes docs/interop.md
	$(BIN)/python -m tests.interop $(ARGS)

chaos: install  ## kill, stop, cut off and fill every part of a fleet under load (ten minutes); writes docs/faults.md
	$(BIN)/python -m tests.chaos $(ARGS)

soak: install  ## ten minutes of load, reloads and killed upstreams: does anything grow or fail? ARGS=180: seconds
	$(BIN)/python -m tests.chaos.soak $(ARGS)

fuzz: install  ## the fuzz tests with many more inputs than 'make test' plays (three minutes); FUZZ_SEED=1 for others
	FUZZ_ROUNDS=$${FUZZ_ROUNDS:-150000} $(BIN)/python -m pytest tests/fuzz -o timeout=600 $(ARGS)

unit: install  ## the tests that touch no socket
	$(BIN)/python -m pytest tests/unit $(ARGS)

lint: install  ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_settings.py --check

format: install  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## benchmarks with their budgets; ARGS="--quick", ARGS="--row NAME", ARGS="--save"
	@$(BIN)/python -m compileall -q gateway worker shared loadtest
	@$(BIN)/python -m loadtest.bench $(ARGS)

retrieval: install  ## how well and how fast tools are found by search
	@$(BIN)/python -m tests.retrieval $(ARGS)

loadtest: install  ## ten seconds of Locust on the gateway at HOST (start one with 'make run')
	@$(BIN)/locust -f loadtest/ --headless -u 50 -r 50 -t 10s --host $(HOST) $(ARGS)

sbom: install  ## list what the image has in it: dist/sbom.cdx.json (CycloneDX), made from requirements.lock
	@$(BIN)/python deploy/sbom.py $(ARGS)

clean:  ## remove what was built
	rm -rf $(VENV) bench-results build dist *.egg-info tests/node/node_modules tests/matrix/.venv tests/interop/.venv-tasks .pytest_cache .mypy_cache .ruff_cache .hypothesis
