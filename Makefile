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

test: $(VENV)/installed
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layout.py

clean:
	rm -rf $(VENV) demo-output build dist site htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
