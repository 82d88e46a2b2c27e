# Two commands for a newcomer: `make demo` and `make test`. `make help` lists the others.
PYTHON ?= python3
VENV ?= .venv
# How long `make soak` loads a node.
MINUTES ?= 20
# Test files that run at a time; with more, set OMP_NUM_THREADS so that their threads fit the cores.
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test fault soak browser check format bench-demo bench-phantom bench-reliability bench-explainers bench-gate bench-encode bench-receive card matrix conformance bench-hybrids clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(STAMP)  ## create .venv and install everything into it

# torch comes first: its CPU build satisfies what the others ask for.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Pellucid needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,demo,card,cluster,browser]'
	touch $@

demo: $(STAMP)  ## a study goes in, findings and measured explanations come out (no PACS needed)
	$(BIN)/pellucid demo

test: $(STAMP)  ## all tests; those that need a peer say what to install
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadscope --no-loadscope-reorder

fault: $(STAMP)  ## attacks, crash points, a fuzzer: what a hospital network may do to a node
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m fault --verbose --timeout 3600 tests

soak: $(STAMP)  ## a node under mixed load for MINUTES, a line a minute, figures in build/soak.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fault.soak --minutes $(MINUTES)

check: $(STAMP)  ## format, lint, types, contracts, spelling
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

format: $(STAMP)  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-demo: $(STAMP)  ## how long the demo takes
	$(BIN)/python -m benchmarks.demo

bench-phantom: $(STAMP)  ## how well the phantom model finds, and its default explainer shows
	$(BIN)/python -m benchmarks.phantom --workers 2

bench-reliability: $(STAMP)  ## how far the phantom model's calibrated answer can be trusted (an hour)
	$(BIN)/python -m benchmarks.reliability --phantoms 2000 --again 1000

bench-explainers: $(STAMP)  ## what explaining costs beside captum, MONAI and shap
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.explainers

bench-receive: $(STAMP)  ## how fast images are taken beside Orthanc, DCMTK and stock pynetdicom (most of an hour)
	$(BIN)/python -m benchmarks.receive

bench-gate: $(STAMP)  ## which good and bad heatmaps of found lesions the gate lets through
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gate
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.class_maps
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.trust

bench-encode: $(STAMP)  ## what encoding costs beside plain highdicom
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.encode

card: $(STAMP)  ## the explainer cards of the docs: phantoms and a head, validated and photographed (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.cards

browser: $(STAMP)  ## what OHIF shows of every result object, tested by its pixels and photographed for docs/gallery
	$(BIN)/python -m pytest -q tests/browser
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.browser.gallery

matrix: $(STAMP)  ## every explainer on every network, as docs/explainers-matrix.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.matrix

conformance: $(STAMP)  ## what a validator says of every kind of object, as docs/conformance.md
	$(BIN)/python -m tests.contract.test_conformance --write

bench-hybrids: $(STAMP)  ## what an explanation by construction costs beside a black box (two hours)
	$(BIN)/python -m benchmarks.hybrids --work build/hybrids
	$(BIN)/python -m benchmarks.hybrid_plot

clean:  ## remove what the commands above made
	rm -rf $(VENV) demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis
