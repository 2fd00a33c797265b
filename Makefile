# Needs python3 (3.11 to 3.13) and make; everything else is installed into .uv and .venv of this folder.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --max-worker-restart 0
# Engines other than torch get processes of their own: in one that had run everything else, onnxruntime once brought it down.
ENGINES := tests/engines tests/test_examples.py

.PHONY: demo test lint types format setup constraints clean

demo: .venv/ready  ## set up, train a small model on drawn scenes, write demo/index.html
	$(BIN)/semask demo

test: .venv/ready  ## set up and run all tests
	$(PYTEST) $(ENGINES:%=--ignore=%)
	$(PYTEST) $(ENGINES)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: .venv/ready
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: .venv/ready

.venv/ready: .uv/bin/uv constraints.txt pyproject.toml
	.uv/bin/uv venv --quiet --clear --python $(PYTHON) .venv
	VIRTUAL_ENV=.venv .uv/bin/uv pip install --quiet --require-hashes -r constraints.txt
	VIRTUAL_ENV=.venv .uv/bin/uv pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

constraints: .uv/bin/uv  ## pin the newest versions that fit pyproject.toml
	.uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --upgrade --extra dev pyproject.toml -o constraints.txt

clean:
	rm -rf .venv .uv
