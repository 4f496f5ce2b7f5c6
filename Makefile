# Everything sets itself up: the first target that needs it creates .venv.
#   make demo                     the whole main job, from purchases to revenue per bucket
#   make demo EXTRA=gpu           the same with a FAISS wheel for NVIDIA GPUs
#   make test PYTHON=python3.12   with another interpreter
#   make bench TARGET=operators ARGS='--out docs/benchmarks'   one benchmark, its results written
PYTHON ?= python3
EXTRA ?= cpu
DATA_DIR ?= var
PORT ?= 8000
# What `make bench` runs, and what it passes on.
TARGET ?= operators conflict
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(EXTRA)
SOURCES := operators training serving abtest loadtest benchmarks tests cli demo.py

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench serve loadtest

help:
	@echo "make demo | test | check | format | bench | serve | loadtest"
	@echo "make bench TARGET=NAME for one of: $(TARGET)"

# faiss-cpu and faiss-gpu both provide the module faiss, so neither may be left beside the other.
$(STAMP): pyproject.toml $(wildcard operators/kernels/cpu/*.cpp operators/kernels/cpu/*.h \
    training/kernels/*.cpp training/kernels/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed and $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
	       "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/.installed-*
	$(BIN)/python -m pip uninstall -qq --yes faiss-cpu faiss-gpu
	$(BIN)/python -m pip install -e '.[$(EXTRA),dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/cascade demo --data-dir $(DATA_DIR)

# Tests, doctests and the blocks of the README; a process a core, so one thread in each. Bytecode is
# written whatever the environment says: the tests start hundreds of processes that import the same.
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest \
	  --numprocesses logical --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(STAMP)
	set -e; for target in $(TARGET); do $(BIN)/python -m benchmarks.$$target $(ARGS); done

serve: $(STAMP)
	$(BIN)/cascade serve --data-dir $(DATA_DIR) --port $(PORT)

# Against the server at PORT or, if none answers there, one on a copy of what $(DATA_DIR) serves.
# Two minutes; the exit code says whether loadtest/slo.toml is kept.
SHOPPERS := $(firstword $(wildcard $(DATA_DIR)/data/*/prepared/replay/users.parquet))
loadtest: $(STAMP)
	$(BIN)/cascade loadtest all --url http://127.0.0.1:$(PORT) --serve $(DATA_DIR) \
	  --slo loadtest/slo.toml --html $(DATA_DIR)/reports/loadtest.html \
	  $(if $(SHOPPERS),--users-from $(SHOPPERS)) $(ARGS)
