# `make demo` and `make test` need Python 3.11 or later and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
export HF_HUB_OFFLINE := 1

.PHONY: demo test lint types imports docs bench bench-learn bench-kv kv-page check clean

demo: $(VENV)/.runtime
	$(BIN)/jeton demo --out demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict -q

check: lint types imports docs test

bench: $(VENV)/.dev
	for room in $(ROOMS); do $(BIN)/python bench/$$room.py --quick || exit 1; done

ROOMS = audit bytelm core decoding kv learn lm retrofit transfer

KV_PEERS = snapkv,adakv,h2o,tova,keydiff,streaming,knorm,random
KV_KEEP = 0.125,0.25,0.5

# kvpress needs transformers below 5.3: its own environment, called as a process.
bench-kv: $(VENV)/.dev
	test -x .venv-kvpress/bin/python || $(PYTHON) -m venv .venv-kvpress
	.venv-kvpress/bin/python -m pip -q install torch==2.13.0
	.venv-kvpress/bin/python -m pip -q install 'transformers<5.3' kvpress==0.5.5
	$(BIN)/python bench/kv.py
	$(BIN)/jeton bench kv --policies $(KV_PEERS) --keep $(KV_KEEP) --no-text \
		--peer .venv-kvpress/bin/python --html .venv-kvpress/peer.html

# The tables and pictures of docs/kv.md.
kv-page: $(VENV)/.dev
	$(BIN)/jeton bench kv --policies all --keep $(KV_KEEP) -q --json > .venv-kvpress/run.json
	$(BIN)/jeton bench kv --policies $(KV_PEERS) --keep $(KV_KEEP) --no-text -q --json \
		--peer .venv-kvpress/bin/python > .venv-kvpress/peer.json
	$(BIN)/python recipes/kv/page.py .venv-kvpress/run.json .venv-kvpress/peer.json

# The full comparison of learn, with gigatoken in an environment of its own.
bench-learn: $(VENV)/.dev
	python3 -m venv .peers && .peers/bin/pip install -q gigatoken
	$(BIN)/python bench/learn.py --gigatoken .peers/bin/python

# Torch first and pinned: a range would bring a newer build with gigabytes of GPU packages.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "jeton needs Python 3.11 or later; make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch==2.13.0
	touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo site dist

.PHONY: bench-bytelm
bench-bytelm:  ## bytelm beside genlm-bytes, which gets an environment of its own
	test -x .venv-genlm/bin/python || python -m venv .venv-genlm
	.venv-genlm/bin/pip install -q torch==2.13.0
	.venv-genlm/bin/pip install -q genlm-bytes==0.2.0
	python bench/bytelm.py --peer .venv-genlm/bin/python
