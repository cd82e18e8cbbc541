# make env, make demo, make test, make test-slow, make faults, make lint: each needs only Python 3.11 and this
# file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: env demo test test-slow test-container test-apptainer test-slurm test-package faults bench lint clean

env: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt version
	$(PYTHON) -m venv $(VENV)
	$(PIP) "setuptools>=77"
	# torch by its exact version; whether its build is for the CPU or for GPUs is up to pip's index
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) --no-build-isolation --editable ".[test]"
	touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(PIP) --no-build-isolation --editable ".[test,lint]"
	touch $@

demo: env
	rm -rf demo
	$(BIN)/cascade-bids phantom demo/bids
	$(BIN)/python run.py demo/bids demo/out participant --verbose
	$(BIN)/python run.py demo/bids demo/out group
	$(BIN)/cascade-bids compare-loads demo/bids demo/out
	@echo "Report of the cohort: $$PWD/demo/out/group.html"

# A process for each core, which takes whole files, since the tests of a file share what they set up.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist loadfile --durations 10

test: $(VENV)/.test
	$(PYTEST) -m "not slow"

# What runs networks on whole heads, trains, or copies the program.
test-slow: $(VENV)/.test
	$(PYTEST) -m slow

# These install and start a lot, mostly as root on Debian; each skips with a reason where it can't run.
# ONLY takes options of pytest, such as -k.
test-container test-apptainer test-slurm test-package: test-%: $(VENV)/.test
	$(BIN)/python -m pytest -rs $(ONLY) tests/system/test_$*.py

# Hours: odd inputs of full size with the default method, and an hour of random damage. tests/faults has the
# table, which make test runs on tiny heads. ONLY takes options of pytest, such as ONLY="-k oblique".
faults: $(VENV)/.test
	$(BIN)/python -m pytest -rs --durations 10 $(ONLY) tests/system/test_faults.py

# Hours: a table of speed against bars, in .bench. ARGS takes options, such as ARGS="--only session".
bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed $(ARGS)

lint: $(VENV)/.lint
	.ci/check-version
	git ls-files -z ':!cascade_bids/data/weights' ':!benchmarks/folds' | xargs -0 .ci/refuse-large
	$(BIN)/codespell
	$(BIN)/check-jsonschema --builtin-schema vendor.circle-ci .circleci/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo build dist *.egg-info
