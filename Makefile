# make demo: set up, run the whole pipeline on a rendered dataset.   make test: set up, run the tests.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
EXAMPLES ?= 20000
DEMO := demo_work
DEMO_ARGS := --dataset $(DEMO)/scenes --workdir $(DEMO)

.PHONY: setup setup-backends demo test test-long bench fuzz lint clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and 'Python 3.11 to 3.13 is needed, this is ' + sys.version.split()[0] + '; name one with make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt -c constraints.txt
	touch $@

setup-backends: setup  # the tests that compare with PyTorch skip without it
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-backends.txt -c constraints.txt

demo: setup
	rm -rf $(DEMO)
	$(PY) -m captioning.scenes $(DEMO)/scenes
	$(PY) 1_data_preprocessor.py $(DEMO_ARGS) --encoder random
	$(PY) 2_train_IC_model.py $(DEMO_ARGS) --epochs 15 --batch-size 64
	$(PY) 3_BLEU.py $(DEMO_ARGS) --split test
	$(PY) 4_tokenizer.py $(DEMO_ARGS)
	@echo; echo "The same captioner on shuffled features: images and captions mismatched"
	$(PY) -m captioning.baselines shuffled $(DEMO_ARGS)
	$(PY) 2_train_IC_model.py --dataset $(DEMO)/scenes --workdir $(DEMO)/shuffled --epochs 15 --batch-size 64
	$(PY) 3_BLEU.py --dataset $(DEMO)/scenes --workdir $(DEMO)/shuffled --split test
	@echo; echo "Captions of held-out scenes"
	$(PY) 5_test.py $$(head -12 $(DEMO)/scenes/Flickr8k_text/Flickr_8k.testImages.txt | sed 's|^|$(DEMO)/scenes/Flicker8k_Dataset/|') --workdir $(DEMO) --output $(DEMO)/scenes.png
	@echo; echo "Captions of two photographs that scikit-learn ships, by the captioner in Pre-trained/"
	$(PY) 5_test.py $$($(PY) -c "import pathlib, sklearn.datasets as d; print(*sorted((pathlib.Path(d.__file__).parent / 'images').glob('*.jpg')))") --workdir Pre-trained --output $(DEMO)/photographs.png
	$(PY) -m captioning.contact_sheet $(DEMO)/scenes.png $(DEMO)/photographs.png --output $(DEMO)/captions.png
	@echo; echo "With the right features ($(DEMO)) and with those of other pictures (shuffled):"
	@$(PY) -m captioning.results $(DEMO) $(DEMO)/shuffled --split test

# A process for each core, each with one thread; the tests of a file stay together and share what
# they made, and files begin in their own order, since xdist would leave the longest to the end.
test: setup
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-long: setup  # every moment at which a stage can be stopped, many of the jigsaw scripts
	$(PY) -m pytest -m long

bench: setup  # every speed of the README beside the plain way, in one run each
	$(PY) -m benchmarks

fuzz: setup  # hypothesis with a hundred times the examples; atheris too, where it is installed
	FUZZ_EXAMPLES=$(EXAMPLES) $(PY) -m pytest -m fuzz
	if $(PY) -c "import atheris" 2> /dev/null; then $(PY) tests/fuzz_atheris.py all 60; fi

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

clean:
	rm -rf $(VENV) $(DEMO)
