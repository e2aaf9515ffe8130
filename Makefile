# `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SITE ?= build/docs

.PHONY: demo test test-slow test-oldest soak lint docs clean
.DEFAULT_GOAL := test

# The tests of test-oldest: each room of the code, but not every config and every method, which take hours.
OLDEST := .venv-oldest
OLDEST_TESTS := $(addprefix tests/test_,$(addsuffix .py,options heads losses transforms weights masks scenario_loop \
	prediction commands packaging))

$(VENV)/.installed: setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lite]'
	touch $@

demo: $(VENV)/.installed  ## SSUL-M on the embedded data set, all tasks, ending in the table and the path of a page
	rm -rf work_dirs/demo
	$(BIN)/python tools/train.py configs/ssul/shapes_4-1_m.py --work-dir work_dirs/demo
	$(BIN)/python tools/report.py work_dirs/demo --out work_dirs/demo/report

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/python -m mypy

# A file of tests is one process's, as its tests share what they set up; each process computes on one core.
test: lint  ## everything but the slow tests
	PATH=$(CURDIR)/$(BIN):$$PATH OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: $(VENV)/.docs  ## the slow tests
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m pytest -m slow --timeout 7200

# Not from constraints.txt, which holds the newest; uv resolves to the lowest versions, which pip cannot.
$(OLDEST)/.installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct -e '.[test,lite]'
	touch $@

test-oldest: $(OLDEST)/.installed  ## with the lowest versions that setup.cfg admits
	PATH=$(CURDIR)/$(OLDEST)/bin:$$PATH OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest $(OLDEST_TESTS)

soak: $(VENV)/.installed  ## a run killed at 30 moments, resumed, and compared with an undisturbed one
	$(BIN)/python tools/soak.py --kills 30 --out work_dirs/soak

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/.docs  ## the pages of docs/ as a site; warnings, broken links and anchors among them, are errors
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d $(SITE)/.doctrees docs $(SITE)

clean:
	rm -rf $(VENV) $(OLDEST) work_dirs build *.egg-info
