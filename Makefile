# Everything runs in .venv, which is made from requirements.lock. `make help` lists the targets.

# The first of these that is a Python 3.10 to 3.13 makes .venv; `make venv PYTHON=python3.12`
# insists on one.
PYTHON = python3 python3.13 python3.12 python3.11 python3.10
VENV = .venv
IN_VENV = $(VENV)/bin/python

.PHONY: help venv demo test lint lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-5s %s\n", $$1, $$2 }' Makefile

venv: $(VENV)/installed  ## install the pinned requirements into .venv, unless they are there

demo: venv  ## convert, train, evaluate, predict; FROM_DIR=DIR takes MNIST's files from a folder
	@$(IN_VENV) predict/demo.py $(if $(FROM_DIR),--from_dir="$(FROM_DIR)")

test: venv  ## run the tests, in two processes: each that uses TensorFlow needs about 1 GB
	$(IN_VENV) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: venv  ## check style, formatting and types
	$(IN_VENV) -m ruff check
	$(IN_VENV) -m ruff format --check
	$(IN_VENV) -m mypy

lock: venv  ## write requirements.lock anew from requirements-dev.txt
	$(IN_VENV) -m uv pip compile --quiet --universal --python-version 3.10 \
	  --generate-hashes --custom-compile-command "make lock" \
	  --output-file requirements.lock requirements-dev.txt

clean:  ## remove .venv and all caches; data/ and runs/ stay
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an installation that was cut short is done again from scratch.
# pip compiles what it installs whatever PYTHONDONTWRITEBYTECODE says: without that, TensorFlow
# takes several times as long to import, in every process anew.
$(VENV)/installed: requirements.lock
	@for python in $(PYTHON); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); \
	  case "$$version" in 3.10|3.11|3.12|3.13) break;; esac; \
	  found="$$found $$python=$${version:-missing}"; python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: Python 3.10, 3.11, 3.12 or 3.13 is needed, TensorFlow has no other;" \
	    "found:$$found. Install one, or name it: make venv PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	echo "Installing the requirements into $(VENV) with Python $$version."; \
	$$python -m venv --clear $(VENV)
	$(IN_VENV) -m pip install --disable-pip-version-check --only-binary :all: --require-hashes \
	  --compile -r requirements.lock
	@touch $@
