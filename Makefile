# Every target sets up what is missing: a fresh machine needs the one command.
python := .venv/bin/python
ready := .venv/.ready
compiled := .venv/.compiled
.DEFAULT_GOAL := help
.PHONY: help setup quick test soak mnist browser site lint lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(compiled) ## make the environment in .venv, compile the kernels

$(ready): pyproject.toml environment.yml $(wildcard requirements/*.txt) tools/setup.sh
	@tools/setup.sh
	@touch $@

$(compiled): $(ready) tools/kernels.py $(wildcard ltgate/backends/*.py ltgate/surrogate/*.py)
	@echo "setup: compiling the kernels"
	@$(python) tools/kernels.py
	@touch $@

quick: $(compiled) ## main job on the bundled digits: all notebooks, figures, tables (minutes)
	$(python) -m ltgate run params/quick.yaml

mnist: $(compiled) ## the same on MNIST, downloaded or from the folder LTGATE_DATA
	$(python) -m ltgate run params/mnist.yaml

test: $(compiled) ## unit tests, then the committed notebooks against their outputs
	OMP_NUM_THREADS=1 $(python) -m pytest -n auto --dist worksteal
	LTGATE_PROGRESS=off $(python) -m pytest -n auto --dist loadfile --nbval --nbval-current-env \
	    --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks/*.ipynb
	-$(python) tests/soak audit --no-record  # a report: it stops nothing

soak: $(ready) ## what takes long: kills, full disks, fuzzing, ...; the table of tests/README.md
	$(python) tests/soak

browser: $(ready) ## drive every notebook in JupyterLab (wants any Chromium)
	$(python) -m pip install --quiet --no-deps --require-hashes --requirement requirements/browser.txt
	LTGATE_BROWSER=all $(python) -m pytest tests/test_jupyterlab.py

site: $(ready) ## the pages, notebooks, results and API as a site in site/, offline
	$(python) -m sphinx -q -W --keep-going -c docs . site -d site/.doctrees

lint: $(ready) ## check style and format
	$(python) -m ruff check
	$(python) -m ruff format --check

lock: $(ready) ## make requirements/ anew from pyproject.toml; upgrade=1: with the newest versions
	$(python) tools/lock.py $(if $(upgrade),--upgrade)

clean: ## remove environment, caches, smoke and quick runs (keeps data and longer runs)
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis \
	    runs/smoke runs/quick figures/smoke figures/quick
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
