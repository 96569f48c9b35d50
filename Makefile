# make run     set up .venv, then train and score `direct` and `reasoning_tokens` on arithmetic, side by side
# make demo    two tasks, three seeds, five strategies and the comparator, at equal compute: about 20 minutes on 2 cores
# make test    the tests that are not slow; SLOW=1 adds the slow ones; PYTEST_ARGS="-k name" chooses
# make check   conformance of every strategy and task
# make bench   speed against peers, ratios in one run
# make lint    ruff check, ruff format --check, mypy --strict;  make format  mends what ruff can
# make clean   remove caches and build output (results/ and .venv stay; make distclean removes .venv too)
#
# PIP_ARGS goes to pip: PIP_ARGS="--find-links FOLDER" to install from wheels at hand, or an index option for the CPU build of torch.
# ARGS goes to the harness command: make bench ARGS=--json

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2
ARGS ?=
SLOW ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check install
# `make run` needs less than `make test`: two stamps, each written last, so an interrupted set-up is done again.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
slow := $(if $(filter-out 0,$(SLOW)),--slow)

.DELETE_ON_ERROR:
.PHONY: help run demo test check bench lint format clean distclean

help:
	@sed -n 's/^# //p;/^$$/q' Makefile

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUN_STAMP): pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) $(PIP_ARGS) -c constraints.txt -e .
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $(RUN_STAMP) $@

run: $(RUN_STAMP)
	$(PY) -m harness run --strategy direct --task arithmetic $(ARGS)
	$(PY) -m harness run --strategy reasoning_tokens --task arithmetic $(ARGS)

demo: $(RUN_STAMP)
	$(PY) -m harness compare --suite demo $(ARGS)

# One thread a process: two OpenMP threads beside another busy process are 4-20 times slower than one.
test: export OMP_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: export TOKENIZERS_PARALLELISM = false
test: export HF_HUB_OFFLINE = 1
test: $(DEV_STAMP)
	$(PY) -m pytest -n $(WORKERS) --dist worksteal -q $(slow) $(PYTEST_ARGS)

check: $(RUN_STAMP)
	$(PY) -m harness check $(ARGS)

bench: $(DEV_STAMP)
	$(PY) -m harness bench $(ARGS)

lint: $(DEV_STAMP)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

format: $(DEV_STAMP)
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find harness strategies tasks tests -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
