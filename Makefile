# make demo: set up, caption two photographs, run the whole pipeline on drawn scenes.
# make test: set up, run the tests.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
EXAMPLES ?= 20000
DEMO := demo_work
SCENES := 1200
DEMO_ARGS := --dataset $(DEMO)/scenes --workdir $(DEMO)
LOOKING := --dataset $(DEMO)/scenes --workdir $(DEMO)/attention

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
	rm -rf $(DEMO) && mkdir $(DEMO)
	@echo; echo "Two photographs that scikit-learn ships, by the captioner in Pre-trained/"
	$(PY) 5_test.py $$($(PY) -c "import pathlib, sklearn.datasets as d; print(*sorted((pathlib.Path(d.__file__).parent / 'images').glob('*.jpg')))") --workdir Pre-trained --output $(DEMO)/photographs.png
	@echo; echo "A captioner trained here, on drawn scenes"
	$(PY) -m captioning.demo.scenes $(DEMO)/scenes --images $(SCENES)
	$(PY) 1_data_preprocessor.py $(DEMO_ARGS) --encoder random --grid
	$(PY) 2_train_IC_model.py $(DEMO_ARGS) --epochs 10 --batch-size 64
	$(PY) 3_BLEU.py $(DEMO_ARGS) --split test --report $(DEMO)/report.html
	$(PY) 4_tokenizer.py $(DEMO_ARGS)
	@echo; echo "Captions of scenes it has not seen"
	$(PY) 5_test.py $$(head -12 $(DEMO)/scenes/Flickr8k_text/Flickr_8k.testImages.txt | sed 's|^|$(DEMO)/scenes/Flicker8k_Dataset/|') --workdir $(DEMO) --output $(DEMO)/scenes.png
	$(PY) -m captioning.report.contact_sheet $(DEMO)/scenes.png $(DEMO)/photographs.png --output $(DEMO)/captions.png
	@echo; echo "A decoder that looks at places of the picture, and where it looked for each word"
	mkdir $(DEMO)/attention && ln $(DEMO)/features* $(DEMO)/descriptions.txt $(DEMO)/attention/
	$(PY) 2_train_IC_model.py $(LOOKING) --decoder attention --epochs 6 --batch-size 64 --set units=128 width=128 looking_width=64 dropout=.2 feature_dropout=.2 learning_rate=3e-3 label_smoothing=0
	$(PY) 4_tokenizer.py $(LOOKING)
	$(PY) 5_test.py $(DEMO)/scenes/Flicker8k_Dataset/$$(sed -n 1p $(DEMO)/scenes/Flickr8k_text/Flickr_8k.testImages.txt) --workdir $(DEMO)/attention --attention $(DEMO)/attention.png
	@echo; echo "The same on shuffled features, where each picture has those of another; 6 epochs will do"
	$(PY) -m captioning.evaluation.baselines shuffled $(DEMO_ARGS)
	$(PY) 2_train_IC_model.py --dataset $(DEMO)/scenes --workdir $(DEMO)/shuffled --epochs 6 --batch-size 64
	$(PY) 3_BLEU.py --dataset $(DEMO)/scenes --workdir $(DEMO)/shuffled --split test
	@echo; echo "With the right features ($(DEMO)) and with those of other pictures (shuffled):"
	@$(PY) -m captioning.evaluation.results $(DEMO) $(DEMO)/shuffled --split test
	@echo; echo "The captions are drawn in $(DEMO)/captions.png, where a decoder looked in $(DEMO)/attention.png"
	@echo "Look at every test scene, its captions and scores in a browser: $(abspath $(DEMO)/report.html)"

# A process for each core, each with one thread; the tests of a file stay together and share what
# they made, and files begin in their own order, since xdist would leave the longest to the end.
test: setup
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-long: setup  # every moment at which a stage can be stopped, many of the jigsaw scripts, a benchmark
	$(PY) -m pytest -m long

bench: setup  # every speed of docs/speed.md beside the plain way, in one run each
	$(PY) -m benchmarks

fuzz: setup  # hypothesis with a hundred times the examples; atheris too, where it is installed
	FUZZ_EXAMPLES=$(EXAMPLES) $(PY) -m pytest -m fuzz
	if $(PY) -c "import atheris" 2> /dev/null; then $(PY) tests/fuzz_atheris.py all 60; fi

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-logo --no-cache

clean:
	rm -rf $(VENV) $(DEMO)
