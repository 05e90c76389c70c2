# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
MARKERS := not slow
BIN := $(VENV)/bin
INSTALLED := --constraint constraints.txt --editable ".[dev]"

# Compiled modules are kept, whatever the environment says: without them each process compiles torch and Lightning again (10 s).
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.PHONY: demo test lint clean

# uv downloads several packages at once (1 minute, pip 3). pip is the fallback where uv cannot reach the packages, since it reads pip's settings.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	( $(BIN)/python -m pip install --quiet --constraint constraints.txt uv && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python $(INSTALLED) ) \
	  || $(BIN)/python -m pip install --quiet --no-compile $(INSTALLED)
	touch $@

# A GAN and a diffusion model of 8x8 digits, trained in 3 minutes on two cores; their scores stand side by side, the samples in
# runs/demo.png. `genai compare` prints what `genai test` measures; runs/demo.html shows both runs in a browser.
demo: $(VENV)/ready
	$(BIN)/genai fit -c configs/digits/gan.yaml --experiment demo-gan --tracker csv --trainer.max_epochs 100
	$(BIN)/genai fit -c configs/digits/diffusion.yaml --experiment demo-diffusion --tracker csv --trainer.max_epochs 60 --trainer.precision 32 --evaluation.every_n_epochs 60
	$(BIN)/genai test demo-gan --tracker csv > /dev/null
	$(BIN)/genai test demo-diffusion --tracker csv > /dev/null
	$(BIN)/genai compare demo-gan demo-diffusion --out runs/demo.png --force
	$(BIN)/genai report demo-gan demo-diffusion --out runs/demo.html --force

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "$(MARKERS)" tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
