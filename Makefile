# make demo: install into .venv and adapt the embedded model through fog, night, rain and snow.
# make test: install, lint and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Both opencv builds share one cv2 folder: one version, and the headless one last, because it
# needs no libGL.
TORCH := torch==2.13.0
OPENCV := opencv-python-headless==5.0.0.93

# One process per core of two; a file's tests stay together, because they share its fixtures.
WORKERS ?= --numprocesses 2 --dist loadfile

.PHONY: demo test lint install clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.py Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip wheel setuptools
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[onedl,test]' opencv-python==5.0.0.93
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $(OPENCV)
	touch $@

demo: install
	$(BIN)/python tools/test_tta.py configs/demo.py data/checkpoints/demo_source.pth \
		--adapters data/checkpoints/demo_adapters.pth \
		--work-dir work_dirs/demo --show-dir work_dirs/demo/pictures

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# torch 2.13's bfloat16 convolutions are wrong with AMX (README, Limits): without it.
test: lint
	ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term

clean:
	rm -rf $(VENV) build dist *.egg-info
