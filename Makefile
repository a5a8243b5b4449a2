# make demo and make test work from a bare clone that has only python3 (with venv) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

# installed once, and again when the requirements change
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/s2d-zoo demo --output demo-output --overwrite

# one thread for each of as many processes as there are cores
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term:skip-covered

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layout.py

clean:
	rm -rf $(VENV) demo-output build dist site htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

# Old versions of the runtimes that consumers use, and a browser's: about 4 GB below build/, so not part of `make test`.
CONSUMERS := build/consumers

.PHONY: consumers
consumers: $(VENV)/installed $(CONSUMERS)/onnxruntime-oldest/installed $(CONSUMERS)/torch-oldest/installed
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(CONSUMERS)/browser/installed; \
	else echo "There is no npm here: the tests in a browser will be skipped. Install Node.js."; fi
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| echo "There is no Chromium here: the tests in a browser will be skipped. Install chromium."
	$(BIN)/python -m pytest tests/consumers -ra

$(CONSUMERS)/%-oldest/installed: tests/consumers/%-oldest.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(CONSUMERS)/browser/installed: tests/consumers/browser/package.json
	mkdir -p $(@D)
	cp $< $(@D)
	npm install --prefix $(@D) --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error
	touch $@
