# Two commands on a fresh machine: `make reproduce` and `make test`. Both set everything up first.
PY ?= python3
PROFILE ?= quick
NAMES ?=
ARGS ?=
DEVICE ?= $(if $(filter paper,$(PROFILE)),auto,cpu)
FLAGS ?=
EXTRAS ?= dev
BIN := .venv/bin
DONE := .venv/.done

.DEFAULT_GOAL := help
.PHONY: help setup reproduce publish results test live docs readme lab bench clean

help:
	@echo 'make reproduce  set up, then make every table and figure at PROFILE=$(PROFILE) (quick, small, paper);'
	@echo '                NAMES="table1 figure2" picks some; what is already computed is not computed again;'
	@echo '                DEVICE=$(DEVICE) (cpu, cuda, auto); ARGS="--dry-run" only says what would be done, and how long it'
	@echo '                takes; ARGS="--fresh" trains again (rp_reproduce --help lists the rest). Tables and figures go to'
	@echo '                runs/figures/$(PROFILE)/, which git ignores'
	@echo 'make publish    the same, then copy tables, figures, records and memories to figures/PROFILE/ for everybody;'
	@echo '                PROFILE=small or paper; small then does make results'
	@echo 'make results    store in nbs/paper what the records of figures/small give, for the site and for readers on the web'
	@echo 'make test       set up, then run every test; FLAGS="slow cuda" adds the notebook cells so marked'
	@echo 'make setup      only .venv, the package and a Jupyter kernel; PY=python3.12 picks the Python,'
	@echo '                EXTRAS=dev,cluster installs Ray too'
	@echo 'make lab        JupyterLab on the notebooks'
	@echo 'make live       what the pages that compute (nbs/live) read, from the memories of figures/small'
	@echo 'make docs       the site into _docs/ (needs Quarto)'
	@echo 'make readme     README.md from nbs/index.ipynb'
	@echo 'make bench      time the engine beside its peers, which it installs'
	@echo 'make clean      remove what was built; .venv and runs/ stay'

setup: $(DONE)

$(DONE): settings.ini setup.py pyproject.toml
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo 'remember_past needs Python 3.10 or newer as $(PY): name another with make PY=python3.12 $(or $(MAKECMDGOALS),setup)' >&2; exit 2; }
	@$(PY) -m venv .venv || \
	  { echo '$(PY) cannot make a virtual environment: install its venv module (on Debian: apt-get install python3-venv)' >&2; exit 2; }
	@echo 'installing the package and its requirements into .venv (minutes, once)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@$(BIN)/python -m ipykernel install --sys-prefix --name python3 --display-name python3 >/dev/null
	@touch $@

reproduce: $(DONE)
	@$(BIN)/rp_reproduce $(NAMES) --profile $(PROFILE) --device $(DEVICE) $(ARGS)

publish: $(DONE)
	@$(BIN)/rp_reproduce $(NAMES) --profile $(PROFILE) --device $(DEVICE) --publish $(ARGS)
	@$(if $(filter small,$(PROFILE)),$(BIN)/python tools/results.py $(NAMES))

results: $(DONE)
	@$(BIN)/python tools/results.py $(NAMES)

# Each step stops the rest. The tree is only read: cleaning and exporting happen on a scratch copy.
test: $(DONE)
	@echo '== 1 of 5: notebooks are clean'
	@$(BIN)/python tools/in_step.py clean
	@echo '== 2 of 5: modules are what the notebooks export'
	@$(BIN)/python tools/in_step.py export
	@echo '== 3 of 5: README is nbs/index.ipynb'
	@$(BIN)/python tools/readme.py --check
	@echo '== 4 of 5: every cell of every notebook, $(if $(FLAGS),those marked $(FLAGS) too,but those marked slow or cuda)'
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/nbdev_test --flags '$(FLAGS)' --n_workers 2 --do_print --timing
	@echo '== 5 of 5: pytest'
	@PATH="$(CURDIR)/$(BIN):$$PATH" MPLBACKEND=agg $(BIN)/python -m pytest tests -n 2 --dist loadfile --durations 20

readme: $(DONE)
	@$(BIN)/python tools/readme.py

live: $(DONE)
	@$(BIN)/python tools/live.py

docs: $(DONE)
	@$(BIN)/python tools/site.py

lab: $(DONE)
	@$(BIN)/jupyter lab nbs

bench: $(DONE)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(BIN)/rp_bench

clean:
	rm -rf _docs _proc build dist .pytest_cache nbs/nbdev.yml
	find nbs remember_past tests tools -name __pycache__ -prune -exec rm -rf {} + -o -name .ipynb_checkpoints -prune -exec rm -rf {} +
