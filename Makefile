# The commands a stranger can rely on. Everything at run time lives under var/ (LETHE_VAR moves it).
PYTHON ?= python3
VAR = $(or $(LETHE_VAR),var)
RUN = .venv/bin/python

.PHONY: demo serve test test-fast proofs bench lint train install install-test

# Three requests by three fictional people, from intake to signed report, on the real demo model.
# Runs in a folder of its own, which each run makes anew.
demo: install
	@$(RUN) -m setup.state --fresh $(VAR)/demo/state
	@LETHE_VAR=$(VAR)/demo/state $(RUN) manage.py demo --out $(VAR)/demo

# Web and worker on this machine, with demo accounts.
serve: install
	@$(RUN) -m setup.state $(VAR)
	@$(RUN) manage.py serve

# The whole test suite: style, types, tests. Warnings are errors.
test: install-test lint
	@$(RUN) -m pytest -n 2 --dist loadgroup -q

# The same without the whole stories and benches: for every change.
test-fast: install-test lint
	@$(RUN) -m pytest -n 2 --dist loadgroup -q -m "not slow"

# The slow proofs of the trust core, one after the other (hours); figures in var/proofs.
PROOFS = log_mutations append poison promotion canaries zombies brokers intake postgres crash disk
proofs: install-test
	@for proof in $(PROOFS); do echo "== $$proof"; $(RUN) -m proofs.$$proof || exit 1; done

# Speed, memory and quality against the peers, side by side; figures in var/bench/summary.json.
# LETHE_PEER and LETHE_PEER_PYTHON name a checkout of EasyEdit and its Python (docs/editing.md);
# LETHE_PEER_UNLEARNING and LETHE_PEER_UNLEARNING_PYTHON one of open-unlearning and its Python.
bench: install-test
	@$(RUN) -m benchmarks

lint:
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@# The types of Django come from its settings, which want a key; nothing is signed with it.
	@LETHE_SECRET_KEY=for-types-only $(RUN) -m mypy

# Train the demo model again and report its recall.
train: install
	@$(RUN) -m demo.train --out $(VAR)/demo-model

install:
	@$(PYTHON) -m setup

install-test:
	@$(PYTHON) -m setup --test
