# Every target makes .venv on first use; nothing else to set up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell command -v uv 2>/dev/null)

# For `make demo`: one's own COCO folder and model.
DATA ?=
MODEL ?= efficientdet-digits

.PHONY: demo test test-all lint format bench zoo-table train-digits clean

demo: $(READY)
	$(BIN)/python -m export.demo --model $(MODEL) $(if $(DATA),--data $(DATA)) --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Figures that README and models/ quote; appended to models/results.jsonl.
bench: $(READY)
	$(BIN)/python -m export.convert_bench --model efficientdet-lite0 --out models/results.jsonl
	$(BIN)/python -m export.digits_bench --out models/results.jsonl
	$(BIN)/python -m export.build_bench --out models/results.jsonl

# models/README.md: what the tests prove of each model.
zoo-table: $(READY)
	$(BIN)/python tests/zoo_table.py

# The recipe behind the weights that ship; about an hour on 2 cores.
train-digits: $(READY)
	$(BIN)/effkeras data digits data/digits-train --train 12000
	$(BIN)/effkeras train efficientdet-digits --data data/digits-train --out runs/digits \
	    --config models/efficientdet/digits.train.toml
	$(BIN)/effkeras eval runs/digits --data data/digits-train
	cp runs/digits/model.keras models/efficientdet/digits.keras
	$(BIN)/effkeras data digits data/digits-classes --classify --train 8000
	$(BIN)/effkeras train efficientnet-digits --data data/digits-classes --out runs/digits-classes \
	    --config models/efficientnet/digits.train.toml
	$(BIN)/effkeras eval runs/digits-classes --data data/digits-classes
	cp runs/digits-classes/model.keras models/efficientnet/digits.keras

$(READY): pyproject.toml
ifdef UV
	uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --editable ".[test,lint]"
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[test,lint]"
endif
	touch $@

clean:
	rm -rf $(VENV) runs data
