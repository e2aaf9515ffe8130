# `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow soak lint clean
.DEFAULT_GOAL := test

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/.installed  ## SSUL-M on the embedded data set, all tasks, ending in the table
	rm -rf work_dirs/demo
	$(BIN)/python tools/train.py configs/ssul/shapes_4-1_m.py --work-dir work_dirs/demo

lint: $(VENV)/.installed
	$(BIN)/ruff check .

test: lint  ## everything but the slow tests
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m pytest

test-slow: $(VENV)/.installed  ## the slow tests
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) work_dirs build *.egg-info
