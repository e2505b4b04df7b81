# Set-up, demo, tests. Every target installs what it needs; nothing else is assumed but Python 3.11 and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow lint types contracts device firmware clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## simulate two wards, adapt to one, export, merge, forecast: a picture and a table
	$(BIN)/edge-tsfm demo --out demo

test: $(VENV)/.installed  ## the default suite: under five minutes on two cores
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.installed  ## what takes longer
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

contracts: $(VENV)/.installed
	$(BIN)/lint-imports

# A monitor's install: no extras, so no torch. The runtime's own tests must pass there.
.venv-device/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-device
	.venv-device/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . pytest pytest-timeout hypothesis
	touch $@

device: .venv-device/.installed  ## tests/device_runtime without torch, onnx or pandas
	.venv-device/bin/python -c "import importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('onnx')"
	.venv-device/bin/python -m pytest tests/device_runtime -m "not slow"

firmware:  ## build the C core and run its tests on this machine
	cmake -S firmware_examples --preset x86-64
	cmake --build firmware_examples/build/x86-64
	ctest --test-dir firmware_examples/build/x86-64 --output-on-failure

clean:
	rm -rf $(VENV) .venv-device demo firmware_examples/build
