# smx: the two commands are `make run` and `make check`; `make help` lists the others.
VENV ?= .venv
PYTHON ?= python3
PREFIX ?= /usr/local
DESTDIR ?=
RUN_DIR ?= ./run
PY_DIRS = libsmx mcp qmgr smtps smtpc smar misc/smxtools tests

export VENV PYTHON PREFIX DESTDIR RUN_DIR SMTP_PORT NEXTHOP DNS

.PHONY: help run check lint type test docs bench bench-quick bench-smar profile install uninstall venv dev clean

help:
	@echo "make run      start smx on 127.0.0.1:2525 below ./run, as an ordinary user"
	@echo "              SMTP_PORT=2525 NEXTHOP=host:port DNS=host:port RUN_DIR=./run"
	@echo "make check    run every test (what CI runs)"
	@echo "make install  install below PREFIX=/usr/local as root (DESTDIR= for packages)"
	@echo "              SENDMAIL=yes puts sendmail, mailq and newaliases beside the other programs"
	@echo "make uninstall  remove what was installed; configuration, queue and logs stay"
	@echo "make bench    measure smx against Postfix on this machine (bench-quick: 2 minutes)"
	@echo "              BACKLOG=n: what n deferred recipients cost new mail"
	@echo "make bench-smar  how many questions the address resolver answers"
	@echo "make profile  where the time of each daemon goes (PROFILE_ARGS=--help)"
	@echo "make lint type test docs   the parts of check; docs writes the generated pages"
	@echo "make clean    remove what was built (not ./run)"

venv:
	@misc/setup-venv.sh $(VENV) runtime $(PYTHON)

dev:
	@misc/setup-venv.sh $(VENV) dev $(PYTHON)

run: venv
	@exec $(VENV)/bin/smxrun

check: lint type test

lint: dev
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --check --quiet .

type: dev
	$(VENV)/bin/mypy

test: dev
	$(VENV)/bin/pytest -q $(PYTEST_ARGS)

docs: dev
	$(VENV)/bin/python -m smxtools.docs

bench: dev
	$(VENV)/bin/python -m tests.bench$(if $(BACKLOG),.backlog $(BACKLOG)) $(BENCH_ARGS)

bench-quick: dev
	$(VENV)/bin/python -m tests.bench --quick $(BENCH_ARGS)

bench-smar: dev
	$(VENV)/bin/python -m tests.bench.smar

profile: dev
	$(VENV)/bin/python -m tests.bench.profile $(PROFILE_ARGS)

install:
	@misc/install.sh

uninstall:
	@misc/uninstall.sh

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
