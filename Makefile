# The only commands to know: demo, test, lint. All set themselves up; a stamp file makes the second run quick.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install -q
DATA   ?= $(TAILORBIRD_DATA)

.PHONY: demo test test-slow fuzz lint format protos bench bench-zoo bench-loc bench-accuracy bench-latency-fewshot bench-tune bench-cost bench-swap oracle clean help

help:
	@echo "make demo        run the whole pipeline on this machine"
	@echo "make test        the quick tests          make test-slow   the rest"
	@echo "make fuzz        2,000 random networks, every subnet exact (EXAMPLES=2000)"
	@echo "make lint        ruff, mypy, pyright, import contracts, generated code"
	@echo "make bench       the agent's benchmark, one JSON object (SUITE=quick|full)"
	@echo "make bench-zoo   the compiler on 216 networks beside Torch-Pruning; ZOO='--suite quick', '--resume', ..."
	@echo "make bench-loc   lines of code a SuperNet costs its user, here and elsewhere"
	@echo "make bench-accuracy  CIFAR-10 in DATA: accuracy of subnets and of its prediction; ACCURACY='--suite full', ..."
	@echo "make bench-latency-fewshot  latency in DATA on devices never seen; FEWSHOT='--suite full', ..."
	@echo "make bench-tune  TVM tuned here beside LiteRT and ONNX Runtime, hours; TUNE='--suite quick', '--nets ...', ..."
	@echo "make bench-cost  cost models replayed across contexts; COST='--suite quick', ..."
	@echo "make bench-swap  1,000,000 requests across deployments and switches of rung, resumable; SWAP='--suite quick', ..."
	@echo "make protos      regenerate the code beside each .proto"
	@echo "make oracle      .venv-oracle with litert-torch, the converter some slow tests compare with"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What a user needs, and what a developer needs on top.
$(VENV)/.host: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[host]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/.host $@

# An agent's own environment: the base and one runtime, as on a board. The end-to-end tests deploy to it.
.venv-agent/.done: pyproject.toml
	$(PYTHON) -m venv .venv-agent
	.venv-agent/bin/python -m pip --disable-pip-version-check install -q -e '.[agent-litert]'
	@touch $@

.venv-oracle/.done:
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/python -m pip --disable-pip-version-check install -q 'litert-torch==0.10.0' 'torch>=2.13,<2.14'
	@touch $@

demo: $(VENV)/.host
	$(BIN)/tailorbird demo $(ARGS)

test: $(VENV)/.dev .venv-agent/.done
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile $(ARGS)

test-slow: $(VENV)/.dev .venv-agent/.done oracle
	$(BIN)/python -m pytest -m slow $(ARGS)

# Each network takes about 0.3 s; the count is printed.
EXAMPLES ?= 2000
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.supernet --examples $(EXAMPLES) --processes 2 $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/.dev
	$(BIN)/python protos/generate.py

SUITE ?= quick
bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench.agent --suite $(SUITE)

ZOO ?=
bench-zoo: $(VENV)/.dev
	$(BIN)/python -m tests.bench.zoo --json zoo.json $(ZOO) >/dev/null

bench-loc: $(VENV)/.dev
	$(BIN)/python -m tests.bench.loc

ACCURACY ?=
bench-accuracy: $(VENV)/.dev
	$(BIN)/python -m tests.bench.accuracy --json accuracy.json $(if $(DATA),--data $(DATA)) --summary $(ACCURACY) >/dev/null

FEWSHOT ?=
bench-latency-fewshot: $(VENV)/.dev
	$(BIN)/python -m tests.bench.latency_fewshot --json latency_fewshot.json $(if $(DATA),--data $(DATA)) $(FEWSHOT) >/dev/null

TUNE ?=
bench-tune: $(VENV)/.dev
	$(PIP) -e '.[bench]'
	$(BIN)/python -m tests.bench.tune --json tests/bench/results/tune.json $(TUNE)

COST ?=
bench-cost: $(VENV)/.dev
	$(BIN)/python -m tests.bench.cost --json tests/bench/results/cost.json $(COST) >/dev/null

SWAP ?=
bench-swap: $(VENV)/.dev
	$(BIN)/python -m tests.bench.swap --json swap.json $(SWAP) >/dev/null

oracle: .venv-oracle/.done

clean:
	rm -rf $(VENV) .venv-agent .venv-oracle build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
