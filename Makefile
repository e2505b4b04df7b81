# Set-up, demo, tests. Every target installs what it needs; nothing else is assumed but Python 3.11 and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

FUZZ_SECONDS ?= 60

.PHONY: demo test test-slow test-exhaustive test-processors lint types contracts device openvino dist wheelhouse deb \
  man docs firmware firmware-all clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## simulate two wards, adapt to one, export, merge, forecast: a picture and a table
	$(BIN)/edge-tsfm demo --out demo

test: $(VENV)/.installed  ## the default suite: under five minutes on two cores
	$(BIN)/python -m pytest -m "not slow and not exhaustive" -n 2

test-slow: $(VENV)/.installed  ## the slow tests
	$(BIN)/python -m pytest -m slow

test-exhaustive: $(VENV)/.installed  ## every page as printed, every command at every wrong path
	$(BIN)/python -m pytest -m exhaustive

test-processors: $(VENV)/.installed  ## results on other processors: SSE, AVX, AVX2; aarch64 by tests/processors/aarch64.sh
	$(BIN)/python -m pytest -m slow tests/processors

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

# The update agent's libraries and its publisher's; still no torch.
.venv-deploy/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[deploy]' pytest pytest-timeout pytest-xdist hypothesis
	touch $@

# A monitor with OpenVINO's plugin: on an Intel processor, or on one that qemu-user emulates.
.venv-openvino/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-openvino
	.venv-openvino/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[openvino]' pytest pytest-timeout hypothesis
	touch $@

openvino: .venv-openvino/.installed  ## a base proven and run on OpenVINO's plugin, which is installed for it
	.venv-openvino/bin/python -m pytest tests/processors/test_openvino.py

WITHOUT = import importlib.util as u, sys; sys.exit(any(map(u.find_spec, sys.argv[1:])))

device: .venv-device/.installed .venv-deploy/.installed  ## tests/device_runtime without torch, onnx or pandas
	.venv-device/bin/python -c "$(WITHOUT)" torch onnx pandas tuf
	.venv-device/bin/python -m pytest tests/device_runtime -m "not slow and not exhaustive"
	.venv-deploy/bin/python -c "$(WITHOUT)" torch onnx pandas
	.venv-deploy/bin/python -m pytest tests/device_runtime/update -m "not slow and not exhaustive" -n 2

# Packages for other machines: distribution/README.md. ARCH and MONITOR_PYTHON are the monitor's.
ARCH ?= x86_64 aarch64
MONITOR_PYTHON ?= 3.11

dist: $(VENV)/.installed  ## the wheels of a release: one for the monitor, one for the workstation
	$(BIN)/python distribution/wheels.py --out dist

wheelhouse: $(VENV)/.installed  ## all that an offline monitor installs, for each processor
	$(BIN)/python distribution/wheelhouse.py $(ARCH:%=--arch %) --python $(MONITOR_PYTHON) --out dist/wheelhouse

deb: wheelhouse  ## the device's Debian package for each processor
	for arch in $(ARCH); do PYTHONPATH=. $(BIN)/python distribution/debian.py \
	  dist/wheelhouse/$$arch-cp$(subst .,,$(MONITOR_PYTHON)) --out dist || exit 1; done

man: $(VENV)/.installed  ## manual pages of both commands
	$(BIN)/python distribution/manpages.py --out dist/man

.venv-docs/.installed: pyproject.toml docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	touch $@

docs: .venv-docs/.installed  ## the documentation as a site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. .venv-docs/bin/mkdocs build --strict --quiet

firmware:  ## build the C core and run its tests on this machine
	cmake -S firmware_examples --preset x86-64
	cmake --build firmware_examples/build/x86-64
	ctest --test-dir firmware_examples/build/x86-64 --output-on-failure

# On every processor, sanitized, analysed, measured against ceilings, fuzzed; needs what firmware_examples/README.md lists.
firmware-all: firmware  ## the same cross-compiled under qemu, sanitizers, cppcheck, sizes, libFuzzer
	cd firmware_examples && for preset in aarch64 armhf sanitize sodium; do \
	  cmake --preset $$preset && cmake --build --preset $$preset && ctest --preset $$preset || exit 1; done
	cd firmware_examples && for compiler in gcc aarch64-linux-gnu-gcc arm-linux-gnueabihf-gcc; do \
	  $(PYTHON) sizes.py --compiler $$compiler || exit 1; done
	sh firmware_examples/cppcheck.sh
	cd firmware_examples && cmake --preset fuzz && cmake --build --preset fuzz && $(PYTHON) fuzz/corpus.py build/corpus
	cd firmware_examples/build && for target in blob manifest graph; do mkdir -p found/$$target && \
	  fuzz/fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -dict=../fuzz/json.dict -max_len=8192 \
	    found/$$target corpus/$$target 2>fuzz_$$target.log || { tail -n 30 fuzz_$$target.log; exit 1; }; \
	  grep -E "DONE|stat::number_of_executed_units" fuzz_$$target.log; done

clean:
	rm -rf $(VENV) .venv-device .venv-openvino demo firmware_examples/build
