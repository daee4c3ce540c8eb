# make demo      videos -> records -> training -> evaluation -> export -> prediction
# make test      what CI runs          make test-all   the slow tests too
# make lint      ruff                  make clean      remove the demo's output
#
# Each target makes the virtual environment from the lock file when it is missing or old.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed-from-lock
JOBS ?= 2
# Neighbours run in one process, which has their fixtures.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# TensorFlow's CUDA registration messages say nothing on a machine without a GPU.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-all lint clean environment

demo: $(READY)
	$(BIN)/python -m pipelines.demo --output demo --overwrite --expect-margin 40

test: $(READY) lint
	$(PYTEST) -m "not slow"
	KERAS_BACKEND=jax $(PYTEST) -m "not slow" tests/layers

test-all: $(READY) lint
	$(PYTEST)
	KERAS_BACKEND=jax $(PYTEST) tests/layers tests/models

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf demo

environment: $(READY)

$(READY): requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip check
	touch $@
