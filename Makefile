# Sets up .venv by itself; needs git, make and Python >= 3.11.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=

.PHONY: run test check wheel clean

run: .venv/run.stamp  ## measure MobileViG-Ti on ONNX Runtime and store the record
	$(BIN)/latbench run --model mobilevig_ti --backend onnxruntime $(ARGS)

test: .venv/test.stamp .venv/tflite-runtime.stamp  ## run all tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: .venv/test.stamp  ## style, types and the dependence rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: .venv/test.stamp
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

.venv/python.stamp:
	@test -n "$(PYTHON)" || { echo "latbench needs Python >= 3.11; name one with: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

# torch first and alone: left to another package's requirement, pip takes the newest build there is.
.venv/torch.stamp: .venv/python.stamp constraints.txt
	$(PIP) torch
	touch $@

.venv/run.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) --editable '.[export]'
	touch $@

.venv/test.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) --editable '.[dev]'
	touch $@ .venv/run.stamp

# The runtime for older boards needs numpy 1 and Python 3.11; elsewhere its test is skipped.
.venv/tflite-runtime.stamp: .venv/python.stamp pyproject.toml
	$(BIN)/python -m venv .venv/tflite-runtime
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || rm -rf .venv/tflite-runtime
	test ! -d .venv/tflite-runtime || .venv/tflite-runtime/bin/python -m pip install --quiet \
		--disable-pip-version-check --editable '.[tflite-runtime]'
	touch $@

clean:
	rm -rf .venv dist
