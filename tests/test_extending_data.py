"""The examples of docs/examples: a layout and a score of one's own, by the public functions."""

import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

from captioning.data import dataset
from captioning.data.layouts.registry import LAYOUTS
from captioning.data.splits import find_splits
from captioning.evaluation import results
from captioning.pipeline import artifacts
from captioning.pipeline.describe import describe
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError
from captioning.scores.registry import SCORES
from captioning.scores.report import report

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
ENTRIES = {
    "dog.jpg": {"split": "train", "captions": ["A dog runs .", "A brown dog ."]},
    "walk.1.jpg": {"split": "train", "captions": ["People walk ."]},
    "walk.2.jpg": {"split": "dev", "captions": ["A man walks ."]},
    "cat.jpg": {"split": "test", "captions": ["A cat sits ."]},
}


@pytest.fixture
def toy_folder(tmp_path):
    """A dataset in the toy layout, which is registered for the test."""
    LAYOUTS.add("toy", runpy.run_path(EXAMPLES / "toy_layout.py")["Toy"], "captions.json")
    folder = tmp_path / "toy"
    (folder / "pictures").mkdir(parents=True)
    for name in ENTRIES:
        Image.new("RGB", (8, 8)).save(folder / "pictures" / name)
    (folder / "captions.json").write_text(json.dumps(ENTRIES))
    yield folder
    LAYOUTS.remove("toy")


@pytest.fixture
def words_found():
    """The toy score, registered for the test."""
    score = runpy.run_path(EXAMPLES / "toy_score.py")["WORDS_FOUND"]
    SCORES.add("words_found", score, "share of words found in a reference")
    yield score
    SCORES.remove("words_found")


def test_a_layout_is_a_file_and_a_line(toy_folder, tmp_path, capsys):
    source = dataset.Dataset(toy_folder)
    assert source.image_folder == toy_folder / "pictures"
    assert list(source.captions) == ["dog", "walk.1", "walk.2", "cat"]
    assert set(map(source.image_ids, source.pictures)) == source.captions.keys()
    (written,) = describe(source, tmp_path)  # no lists: the splits stand in captions.json
    assert written == tmp_path / artifacts.DESCRIPTIONS
    assert artifacts.load_descriptions(tmp_path)["dog"] == ["dog runs", "brown dog"]
    said = capsys.readouterr().err
    assert f"splits: 2/1/1 images (train/dev/test), from {source.caption_file}" in said
    splits = find_splits(source, tmp_path, known=source.captions)
    assert splits.ids == {"train": ["dog", "walk.1"], "dev": ["walk.2"], "test": ["cat"]}


def test_what_is_wrong_in_the_toy_layout_is_a_sentence(toy_folder, tmp_path):
    path = toy_folder / "captions.json"
    path.write_text(json.dumps(ENTRIES | {"cat.jpg": {"split": "test", "captions": []}}))
    assert list(dataset.Dataset(toy_folder).captions) == ["dog", "walk.1", "walk.2"]
    path.write_text(json.dumps({"cat.jpg": {"split": "test", "captions": ["A cat ."]}}))
    with pytest.raises(CaptioningError, match="found none of train, dev"):
        find_splits(dataset.Dataset(toy_folder), tmp_path)
    path.write_text("[]")
    with pytest.raises(CaptioningError, match="expected picture names with their captions at"):
        _ = dataset.Dataset(toy_folder).captions


def test_a_score_is_a_file_and_a_line(words_found, tmp_path, capsys):
    captions = {"a": ["black", "dog", "endseq"], "b": ["two", "cats"]}
    references = {"a": ["black dog runs"], "b": ["two children", "children play"]}
    figures = report(captions, references)
    assert figures["words_found"] == words_found.compute(captions, references) == 0.75
    assert capsys.readouterr().out.splitlines()[-1] == "words found: 0.750000"
    files.write_json(tmp_path / "run" / "bleu-dev.json", figures)
    files.write_json(
        tmp_path / "older" / "bleu-dev.json", {k: figures[k] for k in list(SCORES)[:-1]}
    )
    rows = [(name, [tmp_path / name]) for name in ("run", "older")]
    heading, _, run, older = results.table(rows, "dev").splitlines()
    assert heading.endswith("| CIDEr | ROUGE-L | words found |")
    assert run.endswith("| 0.750 |")
    assert older.endswith("| – |")
