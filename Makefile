# Sets up .venv by itself; needs git, make and Python >= 3.11. `make help` lists the targets.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# pip shows its progress on a terminal and is silent in a log, where every line counts.
QUIET := $(shell test -t 2 && test -z "$$CI" || echo --quiet)
INSTALL := -m pip install $(QUIET) --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL) --constraint constraints.txt
ARGS ?=
# One more than two cores: tests of links and devices wait four fifths of their time.
WORKERS ?= 3

# Most mistakes show without the folders whose tests start commands or servers, import torch or build packages.
FAST := -m "not slow and not torch" $(addprefix --ignore=tests/,audit benchmarks bundle cli conformance contracts exporters packaging runners store support_hosts zoo)

.DEFAULT_GOAL := help
.PHONY: help run test fast format check docs wheel lock clean

help:  ## list the targets
	@echo 'usage: make TARGET [ARGS="arguments for the program that the target runs"]'
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: .venv/run.stamp  ## measure MobileViG-Ti on ONNX Runtime and store the record
	$(BIN)/latbench run --model mobilevig_ti --backend onnxruntime $(ARGS)

test: .venv/test.stamp .venv/tflite-runtime.stamp  ## run all tests (30 to 40 minutes on two cores)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

fast: .venv/test.stamp  ## run the tests that finish in less than a minute
	$(BIN)/python -m pytest -n 2 --dist worksteal $(FAST) $(ARGS)

format: .venv/test.stamp  ## format the code and apply the safe fixes of the linter
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: .venv/test.stamp  ## check style, types, the dependence rules and the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet --persona=pedantic .github

docs: .venv/docs.stamp  ## build the documentation in site/ and check its links
	$(BIN)/python -m mkdocs build --strict $(ARGS)

wheel: .venv/test.stamp  ## build the wheel in dist/
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

lock: .venv/test.stamp .venv/docs.stamp  ## write the versions installed in .venv to constraints.txt
	$(BIN)/python .ci/lock.py constraints.txt

clean:  ## delete the environment and everything that was built
	rm -rf .venv dist site

.venv/python.stamp:
	@test -n "$(PYTHON)" || { echo "latbench needs Python >= 3.11. Name one with: make PYTHON=/path/to/python"; exit 1; }
	@echo "[set-up] creating .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@touch $@

# torch comes first and alone: as a requirement of another package, pip installs its newest build.
.venv/torch.stamp: .venv/python.stamp constraints.txt
	@echo "[set-up] installing torch: 0.9 GB on disk, about 40 s (a CUDA build, the default on Linux: 5.7 GB)"
	@$(PIP) torch
	@touch $@

.venv/run.stamp: .venv/torch.stamp pyproject.toml
	@echo "[set-up] installing latbench with ONNX export: 0.4 GB on disk, about 30 s"
	@$(PIP) --editable '.[export]'
	@touch $@

.venv/test.stamp: .venv/torch.stamp pyproject.toml
	@echo "[set-up] installing latbench with the runtimes and tools of its tests: 3 GB on disk, 2 to 5 minutes"
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/run.stamp .venv/docs.stamp

.venv/docs.stamp: .venv/python.stamp pyproject.toml
	@echo "[set-up] installing latbench with the tools of the documentation: 0.4 GB on disk, about 30 s"
	@$(PIP) --editable '.[docs]'
	@touch $@

# The runtime for older boards needs numpy 1 and Python 3.11; elsewhere its test is skipped.
.venv/tflite-runtime.stamp: .venv/python.stamp pyproject.toml
	@echo "[set-up] installing the older TFLite runtime in an environment of its own (Python 3.11 only)"
	@$(BIN)/python -m venv .venv/tflite-runtime
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || rm -rf .venv/tflite-runtime
	@test ! -d .venv/tflite-runtime || .venv/tflite-runtime/bin/python $(INSTALL) --editable '.[tflite-runtime]'
	@touch $@
