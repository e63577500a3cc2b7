# `make demo`, `make test`: both set up .venv first. `make` alone lists what there is.

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/src

SHELL := /bin/bash
INSTALLED := .venv/.installed

.PHONY: help install demo init plan doctor test check types lint bench soak

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## set up .venv from envs/requirements.lock

$(INSTALLED): envs/requirements.lock
	@echo "Setting up .venv from envs/requirements.lock: some minutes; 2 GB, more where pip finds the CUDA build of torch"
	python3 -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check --no-compile -r envs/requirements.lock
	@# on all cores, which pip does on one; tests of packages are not imported; what does not compile is not ours
	.venv/bin/python -m compileall -q -j 0 -x '/tests/' .venv/lib > .venv/compiled.txt || true
	@# so that `python -m microtome.…` works wherever .venv is active
	echo "$(CURDIR)/src" > "$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/microtome.pth"
	touch $@

demo: $(INSTALLED) ## draw a small cohort and run everything on it, CPU only
	python -m microtome.demo --folder demo
	@echo "What a job is at, while it runs: logs/<rule>/"
	snakemake --profile profiles/local --configfile config/demo.yaml -- all
	@echo
	@echo "Report:  results/report.html"
	@echo "Figures: $$(find results/figures -name "*.pdf" | sort | tr '\n' ' ')"
	@echo "Tables:  $$(ls results/tables/*.md | tr '\n' ' ')"

init: $(INSTALLED) ## a folder for a cohort of its own, which uses this installation: FOLDER=…
	@$(if $(FOLDER),,$(error FOLDER is missing: make init FOLDER=/where/the/cohort/shall/be))
	@python -m microtome.init --folder "$(FOLDER)"

plan: $(INSTALLED) ## what a run will need: jobs, GPU hours, disk, files; CONFIG="overlay.yaml …" PROFILE=slurm SLIDES=400000
	@python -m microtome.plan $(if $(CONFIG),--configfile $(CONFIG)) $(if $(PROFILE),--profile $(PROFILE)) $(if $(SLIDES),--slides $(SLIDES))

doctor: $(INSTALLED) ## is this machine, project and cluster fit for a run? CONFIG="overlay.yaml …" PROFILE=slurm
	@python -m microtome.doctor $(if $(CONFIG),--configfile $(CONFIG)) $(if $(PROFILE),--profile $(PROFILE))

check: $(INSTALLED) ## format, lint and types
	@$(MAKE) --no-print-directory --jobs 2 types lint

types: $(INSTALLED)
	mypy --strict src

lint: $(INSTALLED)
	ruff format --check src tests
	ruff check src tests
	snakefmt --check Snakefile rules
	snakemake --lint

test: check ## all checks and all tests
	@# several threads a process, where cores are fewer than processes, mostly wait for one another;
	@# and hundreds of starts of Python compile nothing twice
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= pytest tests --numprocesses 3 --dist loadscope --no-loadscope-reorder

bench: $(INSTALLED) ## measure, beside the obvious alternative on the same input: benchmarks/bench.json
	python -m tests.benchmarks

soak: $(INSTALLED) ## the tests that repeat, in full
	MICROTOME_SOAK=1 pytest tests -k soak
