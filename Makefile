# Everything for a fresh machine with Python 3.11 or later. `make demo` and `make test` make their own venv in .venv.

PYTHONS = python3.11 python3.12 python3.13 python3
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test clean constraints

help:
	@echo "make demo    a whole study of synthetic street scenes, from nothing to three Pareto fronts (minutes)"
	@echo "make test    ruff, mypy and all tests"
	@echo "make clean   forget the venv and the caches; studies stay"

# A study's name is taken once: the second demo is called demo-2, the third demo-3.
demo: .venv/.installed
	@study=demo; n=1; \
	while [ -e "studies/$$study" ]; do n=$$((n + 1)); study="demo-$$n"; done; \
	[ "$$study" = demo ] || echo "studies/demo is there already: this study is called $$study"; \
	.venv/bin/archipelago search demo --set "study=$$study"

test: .venv/.installed-dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/pytest

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/pip
	.venv/bin/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: pyproject.toml constraints.txt | .venv/bin/pip
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ .venv/.installed

.venv/bin/pip:
	@for python in $(PYTHONS); do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "installing into .venv, with $$($$python --version): a few minutes the first time"; \
			exec $$python -m venv .venv; \
		fi; \
	done; \
	echo "make: none of $(PYTHONS) is Python 3.11 or later with venv and pip: install it" >&2; exit 1

constraints: .venv/.installed-dev
	@{ head -1 constraints.txt; .venv/bin/pip freeze --exclude-editable | sed -n 's/^\([A-Za-z0-9._-]*==[^+]*\).*/\1/p' \
		| grep -viE '^(pip|setuptools|wheel)==' | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
