# make demo and make test set up everything they need on a fresh machine; nothing is done twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two at a time, for two cores: a test mostly waits for the processes it starts. Who dies is not replaced, for pytest-xdist
# would wait for the tests of the dead for ever.
TWO_AT_A_TIME := -n 2 --dist loadfile --max-worker-restart=0

.PHONY: setup demo test check chaos format clean

setup: $(READY)

# Bytecode is written here, as pip does for what it copies: not everywhere may a command write its own.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mixgrid needs Python 3.11 or later: make PYTHON=/path/to/python3.11 setup"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cluster,dev,timm]'
	$(BIN)/python -m compileall -q experiments orchestrator results trainer
	touch $(READY)

demo: $(READY)
	$(BIN)/mixgrid run demo

test: $(READY)
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

chaos: $(READY)
	$(BIN)/python -m pytest -m chaos --durations=20

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
