# Two commands do everything on a fresh machine: `make run` and `make test`.
# Needs Python 3.11, 3.12 or 3.13 with venv (3.14 is untried: docs/installing.md), g++, make and perl; everything else is installed into .venv.

# The first that fits: python3 and python3.NN on the path, then pyenv's, newest first (3.14 last). PYTHON=... overrides.
VERSIONS := 3.13 3.12 3.11 3.14
PYTHONS := python3 $(VERSIONS:%=python%) $(foreach v,$(VERSIONS),$(wildcard $(HOME)/.pyenv/versions/$(v).*/bin/python3))
FITS := -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
PYTHON ?= $(shell for python in $(PYTHONS); do if "$$python" $(FITS); then command -v "$$python"; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := search,export,synthesis,data,root,cluster,bayes,pnr,docs,notebooks,dev
PIP := --quiet --disable-pip-version-check
# the rival of bench-designs and bench-triggers has an environment of its own
HGQ2 := .venv-hgq2/bin/python
CONFIG ?= examples/jets_100ns.yaml
REPORTS ?=

.DEFAULT_GOAL := help
.PHONY: help python venv run test test-slow test-lowest lock docs golden check calibrate bench bench-estimators bench-predictor bench-search bench-labels bench-device bench-scorer bench-designs bench-triggers bench-families mutants clean

help:
	@echo "make run               the whole loop on the bundled jets, ending in runs/jets_100ns/report.html"
	@echo "make run CONFIG=x.yaml the same for your own study"
	@echo "make test              default test suite (under 5 minutes)"
	@echo "make test-slow         the slow tests"
	@echo "make check             formatting, lint and types"
	@echo "make python            which Python will be used; PYTHON=/path/to/python3.13 chooses another"
	@echo "make docs              the site of the guides, in site/"
	@echo "make golden            record the digests of tests/golden and the figures of all laws again; read the diff"
	@echo "make calibrate         fit the hardware models; REPORTS=dir reads your synthesis reports"
	@echo "make mutants           how many random changes of the code the default tests notice (15 to 20 minutes)"
	@echo "make bench             all benchmarks (bench-estimators, -predictor, -search, -labels, -device, -scorer, -designs, -triggers)"

python:
	@test -n "$(PYTHON)" && "$(PYTHON)" $(FITS) || { echo "No fitting Python ($(or $(PYTHON),none found)): Python 3.11, 3.12 or 3.13 with venv is needed; run make PYTHON=/path/to/it"; exit 1; }
	@echo "$(PYTHON) is $$("$(PYTHON)" --version)"

$(STAMP): pyproject.toml requirements.lock
	@$(MAKE) --no-print-directory python
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): about two minutes, more where torch comes with CUDA (docs/installing.md)"
	$(BIN)/python -m pip install $(PIP) --constraint requirements.lock -e '.[$(EXTRAS)]'
	touch $(STAMP)

venv: $(STAMP)

run: $(STAMP)
	$(BIN)/codesign run $(CONFIG)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu and not hls and not network" -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not gpu and not hls and not network" -n 2 --dist loadfile

docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet

# The oldest packages that pyproject.toml allows: what reads, estimates, searches, exports and proves.
LOWEST := .venv-lowest
test-lowest:
	@$(MAKE) --no-print-directory python
	$(PYTHON) tests/lowest.py > $(LOWEST).txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install $(PIP) --constraint $(LOWEST).txt -e '.[search,export,synthesis,data,root,cluster,bayes,dev]'
	$(LOWEST)/bin/python -m pytest -q tests/golden tests/contracts tests/test_pipeline.py -m "not slow"

# What `make` installs, as it stands in .venv.
lock: $(STAMP)
	{ sed '/^$$/q' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > requirements.lock.tmp
	mv requirements.lock.tmp requirements.lock

golden: $(STAMP)
	$(BIN)/python -m tests.golden.test_golden
	$(BIN)/python -m tests.hw_models.test_laws
	$(BIN)/python -m tests.hw_models.test_primitive_figures --write

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy codesign hw_models

mutants: $(STAMP)
	$(BIN)/python tests/mutation/run.py --n-mutants 150 --seed 1

calibrate: $(STAMP)
	$(BIN)/codesign calibrate $(REPORTS)

bench: bench-estimators bench-predictor bench-search bench-labels bench-device bench-scorer bench-designs bench-triggers bench-families

bench-estimators: $(STAMP)
	$(BIN)/python tests/benchmarks/bench_estimators.py

bench-predictor: $(STAMP)
	$(BIN)/python tests/benchmarks/bench_predictor.py

bench-search: $(STAMP)
	$(BIN)/python tests/benchmarks/bench_search.py

bench-labels: $(STAMP)
	$(BIN)/python tests/benchmarks/bench_labels.py

bench-device: $(STAMP)
	$(BIN)/python tests/benchmarks/bench_device.py --rtl

bench-scorer: $(STAMP)
	$(BIN)/python tests/benchmarks/bench_scorer.py

bench-designs: $(STAMP) $(HGQ2)
	CODESIGN_HGQ2_PYTHON=$(abspath $(HGQ2)) $(BIN)/python tests/benchmarks/bench_designs.py --write docs/precision.md $(if $(JUDGE),--judge $(JUDGE))

$(HGQ2):
	$(PYTHON) -m venv $(dir $(HGQ2))..
	$(HGQ2) -m pip install --quiet --disable-pip-version-check HGQ2==0.2.0 keras==3.15.1 jax==0.10.2 alkaid==0.8.2

bench-triggers: $(STAMP) $(HGQ2)
	CODESIGN_HGQ2_PYTHON=$(abspath $(HGQ2)) $(BIN)/python tests/benchmarks/bench_triggers.py --contest level1 --contest level1_student --contest muons

bench-families: $(STAMP) $(HGQ2)
	CODESIGN_HGQ2_PYTHON=$(abspath $(HGQ2)) $(BIN)/python -m tests.benchmarks.bench_families $(if $(JUDGE),--judge $(JUDGE))

clean:
	rm -rf $(VENV) runs dist build .pytest_cache .mypy_cache .ruff_cache
