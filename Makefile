# `make demo` and `make test` set up what they need in .venv; PYTHON picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests run side by side in so many processes; each takes about 3 GB of memory.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all lint docs clean

demo: $(STAMP)
	$(BIN)/python -m fid_med.demo --output_dir=demo_output

test: lint
	$(PYTEST)

test-all: lint
	$(PYTEST) -m "slow or not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m pdoc fid_med --docformat google --no-show-source --output-directory docs

# pip first: the one that Python 3.10 ships resolves slowly.
$(STAMP): setup.py fid_med/version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info demo_output docs
