# Every target makes .venv on first use. TORCH_INDEX chooses another wheel index for torch, such as one with CUDA builds.
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SYSTEM ?= ACE-ALA-NME

.PHONY: run test bench docs lint clean

run: $(STAMP)
	$(BIN)/gibbsian run $(SYSTEM) -o runs/$(SYSTEM)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow"

bench: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

$(STAMP): pyproject.toml constraints.txt kernels/CMakeLists.txt $(wildcard kernels/*.cpp)
	$(PYTHON) -c 'import sys; sys.exit("gibbsian needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build docs/_build
