# `make` lists what there is to make. Another Python: make lab PYTHON=python3.12 · more for Jupyter or pytest: ARGS="..."
# PyTorch without CUDA: make lab TORCH=cpu · the newest packages instead of the tested ones: make test LOCK=
PYTHON ?= python3
LOCK ?= --constraint constraints.txt
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PY := .venv/bin/python
READY := .venv/ready
TOOLS := .venv/ready-tools
PYTEST := $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r name text; do printf '%-10s %s\n' "$$name" "$$text"; done

lab: $(READY) ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

test: $(TOOLS) ## check style, run the quick tests, and every notebook as a test
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(TOOLS) ## run only the slow tests, which `make test` leaves out: grading, hand-outs, planted slips, slides, site, JupyterLab, a fake GPU
	$(PYTEST) -m slow $(ARGS)

test-colab: .venv-colab/ready ## run every notebook as on Colab: alone in an empty folder, with the versions there
	.venv-colab/bin/python -m pytest --override-ini addopts= -n auto tests/test_colab.py $(ARGS)

run: $(TOOLS) ## run all notebooks again and store what they print and draw
	$(PY) -m tools.run $(ARGS)

figures: $(TOOLS) ## draw the pictures of the ideas in img/ again
	$(PY) -m tools.figures

homework: $(TOOLS) ## write the hand-outs: homework/NAME.zip for a class, notebooks/practice/ for learners
	$(PY) -m tools.homework

grade: $(TOOLS) ## grade a folder of submissions into graded/: make grade SUBMISSIONS=folder SEED=word
	$(PY) -m tools.grading "$(SUBMISSIONS)" --seed "$(SEED)" $(ARGS)

slides: $(TOOLS) ## make lecture slides in slides/, which need no network
	$(PY) -m tools.slides

format: $(TOOLS) ## format code and notebooks
	$(PY) -m ruff check --fix --exit-zero --quiet
	$(PY) -m ruff format

bench: $(TOOLS) ## measure the speed of training and of the notebooks (ten minutes, with nothing else running)
	TQDM_DISABLE=1 $(PY) -m tools.bench $(ARGS)

site: $(TOOLS) ## write the course as web pages to docs/build/html
	$(PY) -m sphinx -M html . docs/build -c docs -E -q -W --keep-going
	@echo "Open docs/build/html/index.html in a browser."

publish: $(TOOLS) ## write your repository's address into badges and notebooks: make publish REPO=owner/name (REPO= undoes it)
	$(PY) -m tools.publish $(if $(filter undefined,$(origin REPO)),,--repo "$(REPO)") --branch "$(BRANCH)"

digits: $(TOOLS) ## make utils/digits.npz again (needs npm and the network)
	$(PY) -m tools.digits

train: $(TOOLS) ## train the networks of notebook 07 again, on all of MNIST (90 minutes on one core; ARGS=--evaluate only measures)
	$(PY) -m tools.train $(ARGS)

lock: $(TOOLS) ## pin every package that the course needs, directly or not (newest versions: ARGS=--upgrade)
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --universal --extra test --extra homework --extra docs --no-annotate --custom-compile-command "make lock" \
		--output-file constraints.txt $(ARGS) pyproject.toml

clean: ## remove the environments, the slides, the site and caches
	rm -rf .venv .venv-colab docs/build slides screenshots .pytest_cache .ruff_cache .hypothesis *.egg-info

# Written last: without it an environment is unfinished, and is made from scratch.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || \
		{ echo "$(PYTHON) is not Python 3.11 to 3.14; name one that is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) lacks its module venv; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	$(PY) -m pip install $(LOCK) $(if $(filter cpu,$(TORCH)),--extra-index-url $(CPU_INDEX)) --editable .
	@touch $@

$(TOOLS): $(READY)
	$(PY) -m pip install $(LOCK) --editable ".[test,homework,docs]"
	@touch $@

.venv-colab/ready: tests/colab.txt
	$(PYTHON) -m venv --clear .venv-colab
	.venv-colab/bin/python -m pip install --requirement tests/colab.txt
	@touch $@

.PHONY: help lab test test-all test-colab run figures homework grade slides site format bench publish digits train lock clean
