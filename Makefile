.DEFAULT_GOAL := help
.PHONY: help setup demo up down test lint bench bench-full chaos chaos-bugs fuzz lock clean

PYTHON ?= python3
MINUTES ?= 30
BROKERS ?= 1
VENV := .venv
BIN := $(VENV)/bin
UV = $(shell command -v uv || echo $(BIN)/uv)
INSTALLED := $(VENV)/.installed

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(INSTALLED)  ## make .venv and install what is pinned

$(INSTALLED): requirements.txt requirements-dev.txt modules/faces/requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "cannot make $(VENV): Python 3.11 or later with its venv module is needed (PYTHON=… names another)"; exit 1; }
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(UV) pip sync --python $(BIN)/python requirements.txt requirements-dev.txt
	@# facenet-pytorch pins old releases of torch, numpy and pillow that it does not need.
	$(UV) pip install --python $(BIN)/python --no-deps -r modules/faces/requirements.txt
	$(UV) pip install --python $(BIN)/python --no-deps -e .
	@touch $@

demo: setup  ## start everything, analyze sample images, show the answers
	$(BIN)/analysis up
	$(BIN)/analysis demo

up: setup  ## start Kafka, S3, PostgreSQL and the application here
	$(BIN)/analysis up

down:  ## stop what `make up` or `make demo` started; data stays
	@test ! -x $(BIN)/analysis || $(BIN)/analysis down

test: setup lint  ## check the code and run every test, on servers of its own
	@# Most tests wait for servers and processes, so three at a time suit two cores; each has its own stack.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadfile

lint: setup  ## style, types and layout
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup  ## compare with the alternatives on the local stack: under 20 minutes
	$(BIN)/analysis up --services-only
	$(BIN)/python -m benchmarks headline

bench-full: setup  ## measure everything, with more and longer rounds: hours
	$(BIN)/analysis up --services-only
	$(BIN)/python -m benchmarks full

chaos: setup  ## break everything for MINUTES=30 while requests keep coming, and check that nothing is lost
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --minutes $(MINUTES) --rate 37 $(if $(SEED),--seed $(SEED)) \
	  --brokers $(BROKERS) $(if $(filter-out 1,$(BROKERS)),--faults brokers) --report chaos-report.json

chaos-bugs: setup  ## run the service with one bug after another; the checker of `make chaos` must find each
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --bugs all

fuzz: setup  ## feed broken input to everything that parses, for MINUTES=10
	FUZZ_MINUTES=$(MINUTES) $(BIN)/pytest -q -p no:cacheprovider tests/fuzz

lock: setup  ## resolve requirements and Kafka's jars anew
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade requirements.in -o requirements.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade requirements-dev.in -o requirements-dev.txt
	$(BIN)/python -m infra.local.jars

clean: down  ## stop everything and delete .venv, .local and caches
	rm -rf $(VENV) .local .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
