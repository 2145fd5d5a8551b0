# Everything runs in .venv, which `make setup` makes and keeps up to date; the other targets call it.
# PYTHON=/path/to/python picks the interpreter (3.12 or newer).

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

# Made when the installation is done, so that an interrupted one is taken up again.
STAMP := .venv/setup-done
BENCH_STAMP := .venv/bench-done

# A screen for the viewer tests where there is none; Mesa then draws in software. -noreset: else the
# screen starts anew whenever its last window closes, and a process that connects then is aborted.
SCREEN := $(shell command -v xvfb-run >/dev/null 2>&1 && echo "xvfb-run -a -s '-screen 0 1280x1024x24 -noreset'")
# The suite is made for machines with 2 cores; WORKERS=0 runs in one process, to debug.
WORKERS ?= 2
PYTEST_ARGS ?=

.PHONY: setup demo test pytest bench lint format constraints clean

setup: $(STAMP)

# uv where it is installed, else the first Python that is new enough and can make environments. A
# name on the path proves nothing (version switchers leave names that do not run), so each is asked.
$(BIN)/python:
	@set -e; \
	if [ -z "$(PYTHON)" ] && command -v uv >/dev/null 2>&1; then \
		uv venv --quiet .venv && exit 0; \
		echo "uv could not make an environment; trying python itself" >&2; \
	fi; \
	for python in "$(PYTHON)" python3.13 python3.12 python3.14 python3 python py; do \
		if [ -n "$$python" ] && "$$python" -c \
			'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then \
			echo "making .venv with $$("$$python" --version)"; \
			"$$python" -m venv --clear .venv; \
			exit 0; \
		fi; \
	done; \
	echo "no Python 3.12 or newer with venv was found; install one (Debian: python3-venv)," >&2; \
	echo "or say where it is: make PYTHON=/path/to/python" >&2; \
	exit 1

# $(call install,EXTRAS): the package from this folder, editable, at the versions of constraints.txt.
define install
	@echo "installing lazystore[$(1)] into .venv (the first time downloads about 1 GB)"
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[$(1)]"; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			-c constraints.txt -e ".[$(1)]"; \
	fi
endef

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,all$(comma)test)
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(call install,all$(comma)test$(comma)bench)
	@touch $@

comma := ,

demo: $(STAMP)
	@$(BIN)/lazystore demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict lazystore tests/typing

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint pytest

pytest: $(STAMP)
	LIBGL_ALWAYS_SOFTWARE=1 $(SCREEN) $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

bench: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks

# After updating packages in .venv: names and versions only, no addresses, nothing of this package.
constraints: $(BENCH_STAMP)
	@echo '# Versions that the tests passed with; `make setup` installs these. Made by `make constraints`.' \
		> constraints.txt
	@$(BIN)/python -m pip freeze --exclude-editable \
		| grep -E '^[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+$$' >> constraints.txt

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
