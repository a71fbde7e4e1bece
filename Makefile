# Two commands set up everything on a fresh machine with Python 3.11 or newer:
#   make bench    the quick suite, a leaderboard, and the path of the HTML report
#   make test     the test suite, in tox's default environment

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
OUT ?= results/quick
SUITE ?= quick

.PHONY: bench test check kernels docs clean

bench: $(VENV)/bench.stamp
	$(VENV)/bin/weightcast run --suite $(SUITE) --out $(OUT)
	@echo
	@$(VENV)/bin/weightcast leaderboard $(OUT)
	@echo
	@$(VENV)/bin/weightcast report $(OUT)

# A left-over build folder would ship, and test, deleted modules.
test: $(VENV)/tox.stamp
	rm -rf build
	$(VENV)/bin/tox run

# Everything that is cheap to check before a commit.
check: $(VENV)/tox.stamp
	$(VENV)/bin/tox run -e lint,types,imports

# Tests that hold numbers to a tolerance, as other processors would round them.
kernels: $(VENV)/tox.stamp
	$(VENV)/bin/tox run -e kernels

# The pages of docs/ as HTML; a warning is an error.
docs: $(VENV)/tox.stamp
	$(VENV)/bin/tox run -e docs
	@echo $(CURDIR)/.tox/docs/site/index.html

clean:
	rm -rf $(VENV) .tox build *.egg-info results

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Weightcast needs Python 3.11 or newer; name one with PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# A left-over build folder would ship deleted modules.
$(VENV)/bench.stamp: $(VENV)/bin/python pyproject.toml constraints.txt $(shell find bench methods datasets reports -name "*.py" -o -name "*.toml" -o -path "*/templates/*")
	rm -rf build
	$(PIP) install --quiet --constraint constraints.txt .
	@touch $@

$(VENV)/tox.stamp: $(VENV)/bin/python constraints.txt
	$(PIP) install --quiet --constraint constraints.txt tox
	@touch $@
