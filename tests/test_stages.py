"""Which run a score belongs to, and which images may judge a captioner."""

import json
import os
import shutil

import numpy as np
import pytest
from toys import merge_captioner, merge_network

from captioning.data import dataset, text
from captioning.data.captions import fit_tokenizer
from captioning.data.splits import find_splits, split_file_name
from captioning.decoders import captioner
from captioning.pipeline import artifacts, checkpoints, score
from captioning.pipeline import train as training
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

WORDS = {"red": "red square", "green": "green grass", "blue": "blue sky"}
IDS = [f"{i:02d}_{list(WORDS)[i % 3]}" for i in range(12)]
SPLITS = {"train": IDS[:6], "dev": IDS[6:9], "test": IDS[9:]}
SETTINGS = {"recipe": "fast", "epochs": 12, "seed": 0, "data": "digest"}


def save_captioner(folder, val_loss, epoch=1, record=None, seed=0):
    """A captioner of random weights, as a training leaves it."""
    descriptions = artifacts.load_descriptions(folder)
    tokenizer = fit_tokenizer(descriptions, SPLITS["train"])
    network = merge_network(4, tokenizer.vocabulary_size, 5, units=8)
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    name = checkpoints.captioner_name({"epoch": epoch, "loss": 1, "val_loss": val_loss})
    record = {"vocabulary_hash": tokenizer.vocabulary_hash, "encoder": None} | (record or {})
    return captioner.save(folder / name, merge_captioner(network, record))


@pytest.fixture
def folder(tmp_path):
    """A work folder, and a dataset of split lists alone."""
    descriptions = {key: [WORDS[key[3:]]] for key in IDS}
    artifacts.save_descriptions(tmp_path, descriptions)
    rng = np.random.default_rng(0)
    features = {key: rng.normal(size=(1, 4)).astype("float32") for key in IDS}
    artifacts.save_features(tmp_path, features, {"encoder": {"name": "other"}})
    for split, ids in SPLITS.items():
        (tmp_path / split_file_name(split)).write_text("\n".join(ids))
    return tmp_path


def scores(folder, **options):
    score.score(folder, folder, 0, "dev", None, **options)
    return json.loads((folder / "bleu-dev.json").read_text())


def test_scores_tell_the_settings_of_the_captioner_that_was_scored(folder, capsys):
    first = save_captioner(folder, 3.4, record={"settings": SETTINGS})
    second = save_captioner(folder, 3.9, 2, {"settings": SETTINGS | {"epochs": 2, "seed": 5}})
    save_captioner(folder, 3.6, 3, {"settings": SETTINGS | {"versions": "newer"}})
    os.utime(first, (1, 1))
    result = scores(folder)
    assert result["model"] == str(first)
    assert result["training"] == SETTINGS
    said = capsys.readouterr().err
    assert f"captioner: {first}, of 3 the one with the lowest val_loss in its name" in said
    assert f"of other runs lie beside it: 1, of which 1 are newer ({second.name})" in said


def test_the_report_of_a_split_is_written_when_asked(folder, capsys):
    save_captioner(folder, 3.4)
    with pytest.raises(CaptioningError, match=r"expected --report to end in \.html"):
        scores(folder, report_file=folder / "report.png")
    assert not (folder / "bleu-dev.json").exists()
    result = scores(folder, report_file=folder / "report.html")
    html = (folder / "report.html").read_text()
    assert result["model_sha256"] in html
    assert all(json.dumps(WORDS[key[3:]]) in html for key in SPLITS["dev"])
    said = capsys.readouterr().err
    assert "holds no captions; the cleaned ones are shown" in said
    assert "3 of 3 images are shown without a picture" in said


def test_candidates_of_an_earlier_run_are_not_taken_for_those_of_the_last(folder, capsys):
    save_captioner(folder, 3.4)
    scores(folder, how={"search": "beam", "beam": 2, "candidates": 2})
    path = folder / "candidates-dev.json"
    best = {key: row[0]["caption"] for key, row in json.loads(path.read_text()).items()}
    assert best == json.loads((folder / "captions-dev.json").read_text())
    told = f"{path} is of an earlier run and stays as it is"
    assert told not in capsys.readouterr().err
    scores(folder)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("fixed", [True, False])
def test_a_run_that_was_made_longer_is_the_same_and_another_schedule_is_another(folder, fixed):
    settings = SETTINGS | {"epochs_are_fixed": fixed}
    first = save_captioner(folder, 3.4, record={"settings": settings})
    other = save_captioner(folder, 3.6, 3, {"settings": settings | {"epochs": 20}})
    assert checkpoints.competitors(first) == ([other] if fixed else [])


def test_what_an_encoder_has_seen_is_unknown_without_its_record(folder):
    save_captioner(folder, 3.4)
    assert scores(folder)[artifacts.SEEN] is None  # features.json does not tell
    (folder / "features.json").unlink()
    assert scores(folder)[artifacts.SEEN] is None


def test_a_new_training_names_the_captioners_of_earlier_ones(folder, capsys):
    name = save_captioner(folder, 3.4).name
    checkpoints.warn_of_former(folder)
    assert f"holds 1 captioners of earlier runs ({name})" in capsys.readouterr().err


def test_a_captioner_is_scored_by_the_word_ids_it_was_trained_with(folder, capsys):
    """As those that were trained when equally frequent words were ordered otherwise."""
    path = save_captioner(folder, 3.4)
    tokenizer = fit_tokenizer(artifacts.load_descriptions(folder), SPLITS["train"])
    expected = scores(folder)
    reversed_ids = {
        word: len(tokenizer.word_index) + 1 - i for word, i in tokenizer.word_index.items()
    }
    other = type(tokenizer).from_state({"word_index": reversed_ids})
    trained = captioner.load(path)
    order = [0, *(tokenizer.word_index[other.index_word[i]] for i in sorted(other.index_word))]
    for role, axis in (("embedding", 0), ("scores", -1)):
        layer = trained.network.get_layer(role)
        layer.set_weights(
            [np.take(w, order, axis if w.ndim > 1 else 0) for w in layer.get_weights()]
        )
    record = trained.record | {"vocabulary_hash": other.vocabulary_hash}
    captioner.save(path, merge_captioner(trained.network, record))
    with pytest.raises(CaptioningError, match="another vocabulary"):
        scores(folder)
    artifacts.save_tokenizer(folder / artifacts.TOKENIZER, other)
    assert scores(folder)["reference"] == expected["reference"]
    assert "word ids: from" in capsys.readouterr().err


def train(folder, **options):
    how = {"recipe": "fast", "epochs": 1, "batch_size": None, "precision": "float32"}
    training.train(folder, folder, **how, resume=True, **options)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_images_that_the_encoder_was_trained_on_do_not_judge(folder, split, capsys):
    record = json.loads((folder / "features.json").read_text())
    files.write_json(folder / "features.json", record | {artifacts.SEEN: SPLITS[split][:2]})
    sentence = f"trained on 2 of the 3 images of the {split} split"
    with pytest.raises(CaptioningError, match=sentence):
        train(folder)
    with pytest.raises(CaptioningError, match="to resume from"):  # past the check
        train(folder, allow_seen=True)
    assert f"warning: the encoder was {sentence}" in capsys.readouterr().err
    save_captioner(folder, 3.4)
    if split == "dev":
        with pytest.raises(CaptioningError, match=sentence):
            scores(folder)
        assert scores(folder, allow_seen=True)[artifacts.SEEN] == 2
    else:  # dev has not been seen
        assert scores(folder)[artifacts.SEEN] == 0


def test_the_seed_of_training_does_not_move_the_split(tmp_path):
    (tmp_path / "Images").mkdir()
    rows = [f"{i}.jpg,A picture" for i in range(40)]
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    source, known = dataset.Dataset(tmp_path), text.clean_all(dataset.Dataset(tmp_path).captions)[0]
    drawn = find_splits(source, tmp_path / "a", 0, known).ids
    assert find_splits(source, tmp_path / "b", 0, known).ids == drawn
    assert find_splits(source, tmp_path / "c", 1, known).ids != drawn


def test_a_feature_that_is_no_number_is_named_before_anything_is_trained(folder):
    shutil.copy(folder / "features.pkl", folder / "whole.pkl")
    for split, value in (("train", np.nan), ("dev", np.inf), ("test", -np.inf)):
        features = artifacts.read_features(folder / "whole.pkl")
        features[SPLITS[split][0]][0, 2] = value
        artifacts.save_features(folder, features, {})
        for run in (train, scores):
            with pytest.raises(CaptioningError, match=f"feature of {SPLITS[split][0]}"):
                run(folder)


def test_a_captioner_of_one_text_is_not_scored_on_captions_of_another(folder):
    """Though the words, and so the vocabulary, are the same in both."""
    path = save_captioner(folder, 3.4)
    descriptions = artifacts.load_descriptions(folder)
    artifacts.save_descriptions(folder, descriptions, "full")
    tokenizer = fit_tokenizer(descriptions, SPLITS["train"])
    artifacts.save_tokenizer(folder / artifacts.TOKENIZER, tokenizer)  # as trained with
    with pytest.raises(CaptioningError, match=r"of the text reference, .* found full; make them"):
        scores(folder)
    trained = captioner.load(path)
    captioner.save(path, merge_captioner(trained.network, trained.record | {"text": "full"}))
    assert scores(folder)["text"] == "full"
    artifacts.save_descriptions(folder, descriptions)
    with pytest.raises(CaptioningError, match=r"of the text full, .* found reference"):
        scores(folder)


def test_the_coco_protocol_takes_the_raw_captions_of_the_dataset(folder, capsys):
    save_captioner(folder, 3.4)
    assert "coco" not in scores(folder)
    assert "coco protocol left out" in capsys.readouterr().err
    lines = [f"{key}.jpg#0\t{WORDS[key[3:]].capitalize()} , isn't it ?" for key in IDS]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines))
    said = scores(folder)
    assert len(said["coco"]["bleu"]) == 4
    assert said["language"].keys() == {"words", "distinct", "mean_length", "in_train", "recall"}
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines[:6]))
    assert "coco" not in scores(folder)
    assert f"found none of 3 ({', '.join(SPLITS['dev'])}); coco" in capsys.readouterr().err


def test_scores_of_full_captions_are_of_cleaned_words_under_the_references_protocols():
    words = ["a", "man", "'s", "t-shirt", "endseq"]
    assert score._cleaned(words) == ["man", "tshirt", "endseq"]
    assert score._cleaned(words[:-1]) == ["man", "tshirt"]


def test_scores_tell_how_captions_were_found(folder):
    save_captioner(folder, 3.4)
    assert scores(folder)["search"] == {"search": "greedy"}
    assert not (folder / "candidates-dev.json").exists()
    how = {"search": "beam", "beam": 3, "length_penalty": 0.5, "candidates": 2}
    assert scores(folder, how=how)["search"] == how
    best = json.loads((folder / "captions-dev.json").read_text())
    candidates = json.loads((folder / "candidates-dev.json").read_text())
    assert {key: row[0]["caption"] for key, row in candidates.items()} == best
    for row in candidates.values():
        assert [set(c) for c in row] == [{"caption", "score", "per_word", "finished"}] * 2
