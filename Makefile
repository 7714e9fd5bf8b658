# make demo: install into .venv and adapt the embedded model through fog, night, rain and snow.
# make test: install, lint and run the tests, in minutes.
# make test-all: the same with the slow tests.
# make coverage: run the tests and report the lines that they reach.
# make docs: build the manual into site/.
# make test-openmmlab: run the tests on the original OpenMMLab packages, in a venv of their own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Both opencv builds share one cv2 folder: one version, and the headless one last, because it
# needs no libGL.
TORCH := torch==2.13.0
OPENCV := opencv-python-headless==5.0.0.93

# One process per core of two; a file's tests stay together, because they share its fixtures.
WORKERS ?= --numprocesses 2 --dist loadfile

# torch 2.1 needs Python 3.11 or older. PyPI has only the source of mmcv, which takes half an hour to
# compile: MMCV_WHEEL=/path/to/mmcv-2.1.0-....whl installs a compiled one.
OPENMMLAB_VENV := .venv-openmmlab
OPENMMLAB_BIN := $(OPENMMLAB_VENV)/bin
OPENMMLAB_TORCH := torch==2.1.2 'numpy<2'
OPENMMLAB_OPENCV := 'opencv-python<4.12' 'opencv-python-headless<4.12'
MMCV_WHEEL ?=

# torch 2.13's bfloat16 convolutions are wrong with AMX (README, Limits): without it.
TEST_ENVIRONMENT := ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test test-all coverage lint docs install test-openmmlab install-openmmlab clean

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

docs: install
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs site

test: lint
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest $(WORKERS) -m 'not slow'

test-all: lint
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest $(WORKERS)

# Counting lines makes the tests take nearly twice the time.
coverage: install
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term

install-openmmlab: $(OPENMMLAB_VENV)/.installed

# pip may not choose other versions of what is there already: each command names them again.
$(OPENMMLAB_VENV)/.installed: setup.py Makefile
	$(PYTHON) -m venv $(OPENMMLAB_VENV)
	$(OPENMMLAB_BIN)/python -m pip install --quiet --upgrade pip wheel 'setuptools<70'
	$(OPENMMLAB_BIN)/python -m pip install --quiet $(OPENMMLAB_TORCH)
	MMCV_WITH_OPS=1 $(OPENMMLAB_BIN)/python -m pip install --quiet --no-build-isolation \
		$(or $(MMCV_WHEEL),mmcv==2.1.0) mmengine==0.10.4 $(OPENMMLAB_TORCH) $(OPENMMLAB_OPENCV)
	$(OPENMMLAB_BIN)/python -m pip install --quiet --editable '.[openmmlab,test]' \
		mmsegmentation==1.2.2 mmengine==0.10.4 $(OPENMMLAB_TORCH) $(OPENMMLAB_OPENCV)
	touch $@

test-openmmlab: install-openmmlab
	$(TEST_ENVIRONMENT) $(OPENMMLAB_BIN)/python -m pytest $(WORKERS)

clean:
	rm -rf $(VENV) $(OPENMMLAB_VENV) build dist site *.egg-info
