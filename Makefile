# Needs python3 (3.11 to 3.13) and make; everything else is installed into .uv and .venv of this folder.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := -m pytest --numprocesses auto --dist loadfile --max-worker-restart 0
RUN := OMP_NUM_THREADS=1
# Engines other than torch get processes of their own: in one that had run everything else, onnxruntime once brought it down.
ENGINES := tests/engines tests/test_examples.py

# The fast half of the tests, for the oldest dependencies and for other versions of Python.
FAST := tests/test_model.py tests/test_api.py tests/test_cli.py tests/semantic tests/losses tests/acceleration tests/data \
	tests/files tests/decoders tests/encoders/test_swin.py tests/encoders/test_encoder.py tests/checkpoints \
	tests/prediction/test_predictor.py tests/prediction/test_score_maps.py tests/engines/formats/test_onnx.py

.PHONY: demo test oldest other dist lint types format setup constraints clean

demo: .venv/ready  ## set up, train a small model on synthetic scenes, write demo/index.html
	$(BIN)/semask demo

test: .venv/ready  ## set up and run all tests
	$(RUN) $(BIN)/python $(PYTEST) --durations 20 $(ENGINES:%=--ignore=%)
	$(RUN) $(BIN)/python $(PYTEST) --durations 20 $(ENGINES)

oldest: .venv-oldest/ready  ## the fast half of the tests on the oldest dependencies that pyproject.toml names
	$(RUN) .venv-oldest/bin/python $(PYTEST) $(FAST)

other: .venv-other/ready  ## the fast half of the tests on another Python: make other PYTHON=python3.13
	$(RUN) .venv-other/bin/python $(PYTEST) $(FAST)

dist: .uv/bin/uv  ## build the wheel and the sdist into dist/
	rm -rf dist
	.uv/bin/uv build --quiet --out-dir dist

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

# An environment: the packages of a constraints file, and this checkout.
define environment
	.uv/bin/uv venv --quiet --clear --python $(PYTHON) $(@D)
	VIRTUAL_ENV=$(@D) .uv/bin/uv pip install --quiet --require-hashes -r $(1)
	VIRTUAL_ENV=$(@D) .uv/bin/uv pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
endef

.venv/ready .venv-other/ready: .uv/bin/uv constraints.txt pyproject.toml
	$(call environment,constraints.txt)

.venv-oldest/ready: .uv/bin/uv constraints-oldest.txt pyproject.toml
	$(call environment,constraints-oldest.txt)

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

COMPILE := .uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --upgrade --extra dev pyproject.toml

constraints: .uv/bin/uv  ## pin the newest versions that fit pyproject.toml, and the oldest
	$(COMPILE) -o constraints.txt
	$(COMPILE) --resolution lowest-direct -o constraints-oldest.txt

clean:
	rm -rf .venv .venv-oldest .venv-other .uv dist
