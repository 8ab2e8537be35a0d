# Everything happens inside this folder: the virtual environment in .venv, run-time files in var/.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export PIP_CACHE_DIR := $(CURDIR)/var/cache/pip

.PHONY: demo test test-fast soak check format docs simulate bench lock clean

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned dependencies (about half a minute the first time) …"
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

# The main job on the sample content; `make demo ONCE=1` ends when it is done instead of serving.
demo: .venv/installed
	@trap : INT; $(BIN)/newsletter demo $(if $(ONCE),--once) || test $$? -eq 130  # Ctrl-C is no error

test: .venv/installed-dev
	@mkdir -p var
	$(BIN)/python -m pytest -n 2 --dist worksteal --basetemp=var/pytest $(TESTS)

test-fast: .venv/installed-dev
	@mkdir -p var
	$(BIN)/python -m pytest -q -n 2 -m "not (slow or browser or postgres or command)" \
	    --ignore=tests/web --ignore=tests/service --ignore=tests/mailbox --ignore=tests/providers \
	    --ignore=tests/delivery/test_settling.py --ignore=tests/delivery/test_races.py \
	    --basetemp=var/pytest $(TESTS)

# More rounds of what breaks for real, with the provider away for a minute: `make soak N=200`.
soak: .venv/installed-dev
	@mkdir -p var
	SOAK_ROUNDS=$(or $(N),100) SOAK_DOWN_SECONDS=60 \
	    $(BIN)/python -m pytest -n 2 --dist worksteal --basetemp=var/pytest tests/faults

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

format: .venv/installed-dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: .venv/installed-dev
	$(BIN)/python -m docs.generate

# The engine under simulated faults: `make simulate SEED=7` one seed with all that happens in it,
# `make simulate N=100000` as many as wanted, on all cores.
simulate: .venv/installed-dev
	@PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),$(if $(N),-n $(N)))

.venv/installed-bench: .venv/installed-dev requirements-bench.lock
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements-bench.lock
	@touch $@

# `make bench ONLY="tables growth"` makes those parts only, and leaves bench/results.md alone.
bench: .venv/installed-bench
	$(BIN)/python -m bench $(ONLY)

# Needs uv; the files hold hashes and no index address.
lock:
	uv pip compile pyproject.toml --all-extras --group build --universal --python-version 3.11 \
	    --generate-hashes --no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --all-extras --group build --group dev -c requirements.lock \
	    --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements-dev.lock
	uv pip compile pyproject.toml --all-extras --group build --group bench -c requirements-dev.lock \
	    --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements-bench.lock

clean:
	rm -rf .venv var build dist
