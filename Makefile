# `make` lists what there is to make. Another Python: make lab PYTHON=python3.12 · more for Jupyter or pytest: ARGS="..."
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/ready

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r name text; do printf '%-10s %s\n' "$$name" "$$text"; done

lab: $(READY) ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

test: $(READY) ## check style, run every test, and every notebook as a test
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

test-colab: .venv-colab/ready ## run every notebook as on Colab: alone in an empty folder, with the versions there
	.venv-colab/bin/python -m pytest --override-ini addopts= tests/test_colab.py $(ARGS)

run: $(READY) ## run all notebooks again and store what they print and draw
	$(PY) -m tools.run $(ARGS)

figures: $(READY) ## draw the pictures of the ideas in img/ again
	$(PY) -m tools.figures

homework: $(READY) ## write the hand-outs: homework/NAME.zip for a class, notebooks/practice/ for learners
	$(PY) -m tools.homework

grade: $(READY) ## grade a folder of submissions into graded/: make grade SUBMISSIONS=folder SEED=word
	$(PY) -m tools.grading "$(SUBMISSIONS)" --seed "$(SEED)" $(ARGS)

slides: $(READY) ## make lecture slides in slides/, which need no network
	$(PY) -m tools.slides

format: $(READY) ## bring code and notebooks into the one style
	$(PY) -m ruff check --fix --exit-zero --quiet
	$(PY) -m ruff format

bench: $(READY) ## measure the speed of training and of the notebooks (ten minutes, with nothing else running)
	TQDM_DISABLE=1 $(PY) -m tools.bench $(ARGS)

site: $(READY) ## write the course as web pages to docs/build/html
	$(PY) -m sphinx -M html . docs/build -c docs -E -q -W --keep-going
	@echo "Open docs/build/html/index.html in a browser."

publish: ## write your repository's address into badges and notebooks: make publish REPO=owner/name
	$(PYTHON) -m tools.publish "REPO=$(REPO)" "BRANCH=$(BRANCH)"

digits: $(READY) ## make utils/digits.npz again (needs npm and the network)
	$(PY) -m tools.digits

lock: $(READY) ## pin every package that pyproject.toml leads to (newest versions: ARGS=--upgrade)
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --universal --extra test --extra homework --extra docs --no-annotate --custom-compile-command "make lock" \
		--output-file constraints.txt $(ARGS) pyproject.toml

clean: ## remove the environment and everything else that can be made again
	rm -rf .venv .venv-colab docs/build slides screenshots .pytest_cache .ruff_cache .hypothesis *.egg-info

# Written last: without it an environment is unfinished, and is made from scratch.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || \
		{ echo "$(PYTHON) is not Python 3.11 to 3.14; name one that is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) lacks its module venv; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	$(PY) -m pip install --constraint constraints.txt --editable ".[test,homework,docs]"
	@touch $@

.venv-colab/ready: tests/colab.txt
	$(PYTHON) -m venv --clear .venv-colab
	.venv-colab/bin/python -m pip install --requirement tests/colab.txt
	@touch $@

.PHONY: help lab test test-colab run figures homework grade slides site format bench publish digits lock clean
