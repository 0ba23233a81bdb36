# make test | test-slicer | bench | docs | demo | screenshots | picture | lint | types | clean      (needs Python 3.11 or newer)
# Tests on real images run when SVLDRL_DATA names their folder: make test SVLDRL_DATA=/data

PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
WORKERS ?= 2
SLICER_PYTHON ?= python3.12
SLICER_VENV ?= .venv-slicer

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv test test-slicer bench docs demo screenshots picture lint types clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Testing/slicer/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,report]' \
	  --requirement Testing/slicer/requirements.txt
	touch $@

test: venv
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# The panels and adapters alone, with the Python that Slicer has, and without torch.
test-slicer:
	test -x $(SLICER_VENV)/bin/python || $(SLICER_PYTHON) -m venv $(SLICER_VENV)
	$(SLICER_VENV)/bin/python -m pip install --quiet --requirement Testing/slicer/requirements.txt
	$(SLICER_VENV)/bin/python -m pytest -m "not worker" Testing/slicer $(PYTEST_ARGS)

# The speed table, meant to take ten minutes on two quiet cores: printed, and written to bench.json.
bench: venv
	$(BIN)/python Testing/bench/run.py --output bench.json $(BENCH_ARGS)

# The site, in docs/_build. Any warning is an error.
docs: venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build

screenshots: venv
	$(BIN)/python Testing/screenshots.py

picture: venv
	$(BIN)/python Testing/readme_picture.py

demo: venv
	$(BIN)/svldrl demo --output demo --seed $(SEED)

lint: venv types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Types of both packages; the settings are in pyproject.toml.
types: venv
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(SLICER_VENV) docs/_build build dist *.egg-info demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
