# leanvit: `make` shows what there is. A fresh machine needs python3 (3.11 to 3.13) and make.
PYTHON ?= python3
RUN := .venv/bin/python
# where `make data` takes the course images from; empty: the official archive, downloaded
SOURCE ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint train eval sweep report complexity data bench start step plain gpu clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

setup: .venv/installed  ## build .venv with the locked versions

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14)' 2>/dev/null || \
		{ echo "leanvit needs Python 3.11 to 3.13; $(PYTHON) is" \
		"$$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv pip install --quiet --python $(RUN) -r requirements.lock
	.venv/bin/uv pip install --quiet --python $(RUN) --no-deps -e .
	touch $@

demo: setup  ## train and compare a small grid on the built-in shapes (drawn, not photographs)
	$(RUN) src/train.py -m experiment=demo_vit,demo_coatnet loss=ce,focal parallel=auto
	@echo "These are results on shapes drawn by the program. For photographs: make data train"

test: setup  ## run every test
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadgroup

lint: setup  ## check style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

train: setup  ## train one net: make train ARGS="model=coatnet loss=focal"
	$(RUN) src/train.py $(ARGS)

sweep: setup  ## train a grid: make sweep ARGS="model=vit,coatnet loss=ce,focal"
	$(RUN) src/train.py -m $(ARGS)

eval: setup  ## evaluate a finished run again: make eval ARGS="run=outputs/..."
	$(RUN) src/eval.py $(ARGS)

report: setup  ## compare all finished runs
	$(RUN) src/report.py $(ARGS)

complexity: setup  ## cost of every published net beside its published figures
	$(RUN) src/complexity.py published=true $(ARGS)

data: setup  ## bring the course images into data/: make data SOURCE=cifar10_course.zip
	$(RUN) src/prepare.py $(if $(SOURCE),source=$(SOURCE))

bench: setup  ## measure the data path against ImageFolder, and grids beside a busy process
	$(RUN) tools/data_path.py $(ARGS)
	$(RUN) tools/neighbour.py

start: setup  ## measure how soon a command answers, and how soon a net is trained
	$(RUN) tools/start.py $(ARGS)

step: setup  ## measure what a training step spends its time on: make step ARGS="model=coatnet"
	$(RUN) tools/step.py $(ARGS)

plain: setup  ## measure a training against a plain float32 loop of the same net, in one run
	$(RUN) tools/against_plain.py $(ARGS)

gpu: setup  ## check, time and train in 14 minutes of a CUDA machine: make gpu ARGS="out=gpu"
	$(RUN) tools/gpu.py $(ARGS)

clean:  ## remove .venv and caches; data/ and outputs/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
