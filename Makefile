# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# A GAN and a diffusion model of 8x8 digits, trained in 3 minutes on two cores, scored side by side and shown in demo.png.
demo: $(VENV)/ready
	$(BIN)/genai fit -c configs/digits/gan.yaml --experiment demo-gan --trainer.max_epochs 100
	$(BIN)/genai test demo-gan
	$(BIN)/genai fit -c configs/digits/diffusion.yaml --experiment demo-diffusion --trainer.max_epochs 70
	$(BIN)/genai test demo-diffusion
	$(BIN)/genai runs demo-gan demo-diffusion
	$(BIN)/genai compare demo-gan demo-diffusion --out demo.png --force

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
