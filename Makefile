# Everything a person or CI does with this repository. `make` alone prints the list.
# Variables: PYTHON=<interpreter for .venv>  PARTS=containers  SEED=<number>  ARGS=<more for pytest>  POSTRIDER_HOME=<data>
# LANES=<processes of make test>
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.set-up
SDKS := .venv-sdks
SDKS_STAMP := $(SDKS)/.set-up
PACKAGES := libs/common services/campaign-api services/segment-engine services/scheduler services/dispatcher
SOURCES := libs services tests demo $(if $(wildcard benchmarks/*.py),benchmarks)
TEST_FOLDERS := $(wildcard libs/*/tests services/*/tests tests)
SEED ?= 1
KILLS ?= 30
LANES ?= 3
UV ?= uv
KAFKA_HERE := KAFKA_BOOTSTRAP_SERVERS=$${KAFKA_BOOTSTRAP_SERVERS:-127.0.0.1:$${POSTRIDER_KAFKA_PORT:-9092}}
PYTEST := $(PY) -m pytest -p tests.support.totals $(ARGS)

.PHONY: help setup setup-sdks sdk-node run demo test lint types format unit integration e2e images compose-smoke containers faults outages stops bench bench-http bench-kannel bench-ledger bench-memory bench-events bench-heavy-user bench-segments bench-timers bench-audience bench-hang check-times simulate simulate-month import-events replay-history export-events dead-letters replay-dead-letters lock stop clean

help: ## this list
	@echo "Postrider. Needs Python >= 3.11, Java >= 17 and Maven (or Docker); make setup fetches the rest."
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## virtual environment in .venv with the locked packages (the other targets do it when needed)
	@:

$(STAMP): deploy/locks/requirements.lock $(PACKAGES:%=%/pyproject.toml)
	@python=""; seen=""; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python="$$candidate"; break; fi; \
	  seen="$$seen $$candidate is $$version;"; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: Postrider needs Python 3.11 or newer ($${seen:-no python3 was found}):" \
	    "install it, or say make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if ! [ -x $(PY) ]; then \
	  echo "setup: making $(VENV) with Python $$version"; \
	  "$$python" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "error: $$python cannot make virtual environments (Debian: apt-get install python3-venv)" >&2; exit 1; }; \
	fi
	@echo "setup: installing $$(grep -c '==' $<) locked packages (a minute the first time)"
	@$(PY) -m pip install -q --disable-pip-version-check --no-input --require-hashes -r $<
	@echo "setup: installing Postrider's own packages"
	@$(PY) -m pip install -q --disable-pip-version-check --no-input --no-index --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

setup-sdks: $(SDKS_STAMP) ## SDKs that tests use as they are published, in .venv-sdks (test, integration and e2e do it)
	@:

$(SDKS_STAMP): deploy/locks/requirements-sdks.lock $(STAMP)
	@echo "setup: the SDKs of Segment, RudderStack, Twilio and Vonage, for their tests"
	@[ -x $(SDKS)/bin/python ] || $(PY) -m venv $(SDKS)
	@$(SDKS)/bin/python -m pip install -q --disable-pip-version-check --no-input --require-hashes -r $<
	@touch $@

run: setup ## the whole suite in the foreground, until Ctrl-C; data in .local; STANDINS=1: and a stand-in of each vendor
	@exec $(PY) -m $(if $(STANDINS),demo.standins,postrider.local.run) --stop-with-parent

demo: setup ## a story on real input: imports, campaigns, failover, funnel; leaves nothing running
	@exec $(PY) -m demo

test: setup setup-sdks ## everything CI runs, side by side; the last line is the totals
	@echo "test: lint, types, unit, contract, integration, e2e"
	@exec $(PY) -m tests.lanes --lanes $(LANES) --check "$(MAKE) lint" --check "$(MAKE) types" $(if $(ARGS),--show) \
	  -- -m "not faults and not containers and not sdk_node" $(TEST_FOLDERS) $(ARGS)

lint: setup ## ruff, formatting, the layer rule
	@echo "lint: ruff, import-linter"
	@$(PY) -m ruff check -q .
	@$(PY) -m ruff format -q --check . || { echo "error: not formatted as above says: make format" >&2; exit 1; }
	@report=$$($(VENV)/bin/lint-imports) || { echo "$$report"; exit 1; }

types: setup ## mypy --strict
	@echo "types: mypy"
	@$(PY) -m mypy $(SOURCES)

format: setup ## rewrite the code as lint wants it
	@$(PY) -m ruff check -q --fix . && $(PY) -m ruff format -q .

unit: setup ## unit and contract tests: seconds, nothing real
	@$(PYTEST) $(wildcard libs/*/tests services/*/tests)

integration: setup setup-sdks ## tests on a real Kafka and Postgres, started by the tests
	@$(PYTEST) -m "not containers" tests/integration

sdk-node: setup ## the Node SDKs of Segment and RudderStack, and kcat, against the suite; needs Node, npm, kcat
	@for tool in npm kcat; do command -v $$tool >/dev/null || { \
	  echo "error: make sdk-node needs Node, npm and kcat on the PATH: there is no $$tool" >&2; exit 1; }; done
	@npm install --prefix .local/sdk-node --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
	  @segment/analytics-node@3.1.0 @rudderstack/rudder-sdk-node@3.0.13
	@$(PYTEST) -m sdk_node tests/e2e/test_sdks.py

e2e: setup setup-sdks ## all four services as processes
	@$(PYTEST) -m "not sdk_node and not faults" tests/e2e

stops: setup ## a running campaign stopped while a dispatcher, Kafka or the scheduler is away, and a slow provider
	@$(PYTEST) -m faults tests/e2e

images: ## container images of the four services, postrider/<service>:local; needs a container engine
	@deploy/build-images

compose-smoke: setup images ## deploy/compose.yaml up, campaigns through its ports, down without leftovers
	@exec $(PY) -m tests.containers

containers: setup images ## all tests that need a container engine, compose-smoke's among them
	@$(PYTEST) -m containers tests

faults: setup ## kills and stops services while campaigns go out through ill providers; SEED=<number> KILLS=<number> (30)
	@exec $(PY) -m tests.faults --seed $(SEED) --kills $(KILLS)

outages: setup ## the same, and Kafka, Postgres and the provider go away too, commits are cut; up to nine minutes; SEED=<number>
	@exec $(PY) -m tests.faults --seed $(SEED) --kills $(KILLS) --outages

bench: setup ## throughput and latency, beside a naive sender
	@exec $(PY) -m benchmarks

bench-http: setup ## HTTP clients that could carry provider calls, side by side
	@exec $(PY) -m benchmarks.http_clients

bench-kannel: setup ## job to 2xx beside Kannel (Debian's, fetched by apt) and a naive sender, and a provider that takes 50 ms
	@exec $(PY) -m benchmarks.sending

bench-ledger: setup ## the same with an empty ledger and with one of 10 M texts, in turns; BENCH_LEDGER=<fewer>
	@exec $(PY) -m benchmarks.ledger_size

bench-memory: setup ## memory of each service while 200,000 texts go out
	@exec $(PY) -m benchmarks.memory

bench-events: setup ## events a second through the segment-engine, matched against 10 to 1,000 campaigns
	@exec $(PY) -m benchmarks.matching

bench-heavy-user: setup ## how long others wait for a text while one person has a million events
	@exec $(PY) -m benchmarks.heavy_user

bench-timers: setup ## timers armed a second, and how late they fire beside a million others
	@exec $(PY) -m benchmarks.timers

bench-audience: setup ## an audience of a million, from its snapshot to the last job; takeover among schedulers; BENCH_AUDIENCE=<fewer>
	@exec $(PY) -m benchmarks.audience

bench-hang: setup ## what a provider that hangs for 30 s costs another one's texts, and what becomes of its own; two minutes
	@exec $(PY) -m benchmarks.hang

bench-segments: setup ## rules on 1 M users and 20 M events, beside hand-written SQL and Postgres; BENCH_SEGMENT_USERS=<fewer>
	@exec $(PY) -m benchmarks.segments

simulate: setup ## a simulated year of CAMPAIGNS=<number> (2000) of every kind: one text each, at their minute; SEED=<number>
	@exec $(PY) -m tests.simulation --seed $(SEED) --campaigns $(or $(CAMPAIGNS),2000) $(ARGS)

simulate-month: setup ## the same for a month on real Kafka and Postgres, schedulers killed; SEED=<number> CAMPAIGNS=<number> (24)
	@exec $(PY) -m tests.simulation.real --seed $(SEED) --campaigns $(or $(CAMPAIGNS),24) $(ARGS)

check-times: setup ## occurrences in every zone, 1990 to 2040, against a slow oracle and two libraries, two minutes; SEED=<number> CASES=<number>
	@exec $(PY) -m tests.check_times --seed $(SEED) $(if $(CASES),--cases $(CASES))

dead-letters: setup ## what consumers could not read, by topic and reason; TOPIC=<its name> shows the newest of one
	@$(KAFKA_HERE) $(PY) -m postrider.kafka.dead_letters_cli $(if $(TOPIC),show $(TOPIC),list)

replay-dead-letters: setup ## put the dead letters of TOPIC=<name> back where they came from
	@$(if $(TOPIC),,echo "error: say which: make replay-dead-letters TOPIC=<name>; make dead-letters lists them" >&2; exit 1)
	@$(KAFKA_HERE) $(PY) -m postrider.kafka.dead_letters_cli replay $(TOPIC)

import-events: setup ## events of the past from FILE=<csv or jsonl> into a running suite; ARGS="--user … --time …" (docs/imports.md)
	@$(if $(FILE),,echo "error: say which: make import-events FILE=orders.csv ARGS=\"--user customer …\"" >&2; exit 1)
	@$(KAFKA_HERE) $(PY) -m postrider.imports $(FILE) $(ARGS)

replay-history: setup ## rebuild the event store, make run stopped: FROM=kafka or FROM=file=<path>; REPLACE=1 deletes first
	@exec $(PY) -m postrider.local.replay --from $(or $(FROM),kafka) $(if $(REPLACE),--replace)

export-events: setup ## write the event store's events to FILE=<path.jsonl.gz>, make run stopped
	@$(if $(FILE),,echo "error: say where to: make export-events FILE=events.jsonl.gz" >&2; exit 1)
	@exec $(PY) -m postrider.local.replay --to $(FILE)

lock: ## resolve deploy/locks/*.in into locks with hashes (the images' are part of the first); needs uv; UPGRADE=1
	@command -v $(UV) >/dev/null || { echo "error: make lock needs uv on the PATH (or UV=/path/to/uv)" >&2; exit 1; }
	@cd deploy/locks && $(UV) pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
	  --no-annotate --no-header $(if $(UPGRADE),--upgrade) requirements.in -o requirements.lock
	@cd deploy/locks && for part in runtime event-store; do \
	  $(UV) pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
	    --no-header -c requirements.lock requirements-$$part.in -o requirements-$$part.lock || exit; \
	done
	@cd deploy/locks && $(UV) pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
	  --no-annotate --no-header $(if $(UPGRADE),--upgrade) requirements-sdks.in -o requirements-sdks.lock

stop: ## end what make run started, also what a killed one left behind
	@if [ -x $(PY) ]; then $(PY) -m postrider.local.stop; fi

clean: stop ## remove data (.local) and caches; .venv stays
	@rm -rf .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find libs services tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
