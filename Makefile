PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Real survey files, where they are at hand.
DATA ?= $(wildcard ../shared/data)

.PHONY: setup frameworks check format test demo example bench build clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# For the tests that use them, else skipped. This release of PyTorch has a build for processors only.
frameworks: setup
	$(BIN)/python -m pip install --quiet torch==2.13.0 jax==0.10.2 \
		torchdata==0.11.0 pytorch-lightning==2.6.6

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup
	$(BIN)/python -m pytest -q -n auto

test-faults: setup
	$(BIN)/python -m pytest -q -m faults

demo: setup
	$(BIN)/astropile demo demo $(if $(DATA),--data $(DATA))

# Images and spectra of the same objects: a model trained from native files on, in minutes.
example: frameworks
	$(BIN)/python examples/images_and_spectra.py example $(if $(DATA),--data $(DATA))

bench: frameworks
	$(BIN)/python benchmarks/match_positions.py
	$(BIN)/python benchmarks/match_trees.py
	$(BIN)/python benchmarks/read_rows.py
	$(BIN)/python benchmarks/read_remote.py
	$(BIN)/python benchmarks/train_loader.py

build: setup
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist demo example .pytest_cache .mypy_cache .ruff_cache .hypothesis
