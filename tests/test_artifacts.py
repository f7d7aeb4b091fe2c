"""Files that pass between scripts."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from captioning.data.captions import stack_features, usable_ids
from captioning.data.tokenizer import Tokenizer
from captioning.formats import pickles
from captioning.pipeline import artifacts, checkpoints
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

FEATURES = {f"image{i}": np.full((1, 5), i, "float32") for i in range(3)}


def test_features_are_the_references_and_load_by_plain_pickle(tmp_path):
    record = {"encoder": {"name": "random"}}
    paths = artifacts.save_features(tmp_path, FEATURES, record)
    assert [path.name for path in paths] == ["features.pkl", "features.json"]
    with open(paths[0], "rb") as file:
        plain = pickle.load(file)
    assert list(plain) == list(FEATURES)
    assert all((plain[key] == FEATURES[key]).all() for key in FEATURES)
    features, encoder, _ = artifacts.load_features(tmp_path)
    assert encoder == {"name": "random"}
    np.testing.assert_array_equal(stack_features(features, ["image2", "image0"])[:, 0], [2, 0])


def test_features_of_other_programs_need_no_record(tmp_path):
    flat = {"a": np.arange(4.0), "b": np.ones(4)}  # one-dimensional, float64
    (tmp_path / "features.pkl").write_bytes(pickle.dumps(flat))
    features, encoder, _ = artifacts.load_features(tmp_path)
    assert encoder is None
    assert {(f.shape, f.dtype.str) for f in features.values()} == {((1, 4), "<f4")}


def test_a_record_of_other_features_is_ignored(tmp_path, capsys):
    """As when script 1 is killed between its two files, or features.pkl is copied over ours."""
    artifacts.save_features(tmp_path, FEATURES, {"encoder": {"name": "random"}})
    record = (tmp_path / "features.json").read_bytes()
    artifacts.save_features(tmp_path, {"a": np.ones((1, 5), "f4")}, {"encoder": {"name": "dino"}})
    assert artifacts.load_features(tmp_path)[1] == {"name": "dino"}
    (tmp_path / "features.json").write_bytes(record)
    assert artifacts.load_features(tmp_path)[1] is None
    assert "tells of other features" in capsys.readouterr().err
    for damaged in ([], {"encoder": "random"}):
        files.write_json(tmp_path / "features.json", damaged)
        with pytest.raises(CaptioningError, match="is no record of features"):
            artifacts.load_features(tmp_path)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"a": np.ones((1, 0), "f4")}, "'a' → ndarray"),
        ({}, "found none"),
        ([1], "expected a dictionary"),
        ({"a": "text"}, "'a' → str"),
        ({"a": np.ones(3), "b": np.ones(4)}, r"expected 3 numbers .* shape \(4,\) for b"),
        ({"a": np.ones((64, 2048))}, r"shape \(64, 2048\) for a, a grid of features"),
        ({"a": np.ones((1, 64, 256))}, r"shape \(1, 64, 256\) for a, a grid of features"),
        ({"a": np.ones(3), "b": np.array([1, np.nan, 1])}, "NaN or infinity in the feature of b"),
        ({"a": np.array([1, -np.inf])}, "NaN or infinity in the feature of a"),
        ({"a": np.array([1, 1e300])}, "NaN or infinity in the feature of a"),  # in float32
        ({"a.jpg": np.ones(3), "a.png": np.ones(3)}, "two of a;"),
    ],
)
def test_other_contents_are_refused(tmp_path, value, match):
    pickles.dump(tmp_path / "features.pkl", value)
    with pytest.raises(CaptioningError, match=match):
        artifacts.load_features(tmp_path)


def test_keys_may_be_file_names(tmp_path):
    keys = ["a.jpg", "walk.1.jpg", "walk.2.jpg", "plain", "with.dot"]
    pickles.dump(tmp_path / "features.pkl", {k: np.full(3, i) * 1.0 for i, k in enumerate(keys)})
    features = artifacts.read_features(tmp_path / "features.pkl")
    assert list(features) == ["a", "walk.1", "walk.2", "plain", "with.dot"]
    assert [value[0, 0] for value in features.values()] == [0, 1, 2, 3, 4]


def test_features_that_are_all_the_same_get_a_warning(tmp_path, capsys):
    pickles.dump(tmp_path / "features.pkl", dict.fromkeys("abc", np.ones(3)))
    artifacts.read_features(tmp_path / "features.pkl")
    assert "warning: the features of all 3 images" in capsys.readouterr().err
    pickles.dump(tmp_path / "features.pkl", FEATURES)
    artifacts.read_features(tmp_path / "features.pkl")
    assert "warning" not in capsys.readouterr().err


def test_tokenizer_survives_the_file_and_opens_by_plain_pickle(tmp_path):
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["startseq two dogs endseq", "dogs"])
    path = artifacts.save_tokenizer(tmp_path / "tokenizer.pkl", tokenizer)
    for loaded in (artifacts.load_tokenizer(path), pickle.loads(path.read_bytes())):
        assert type(loaded) is Tokenizer
        assert vars(loaded) == vars(tokenizer)
    pickles.dump(path, {"word_index": {}})
    with pytest.raises(CaptioningError, match="expected a Keras tokenizer, found dict"):
        artifacts.load_tokenizer(path)


def test_the_captioner_with_the_best_figures_is_chosen(tmp_path):
    for name in (
        "model-ep001-loss4.000-val_loss3.900.keras",
        "model-ep002-loss3.000-val_loss3.415.h5",
        "model-ep003-loss2.000-val_loss10.2.keras",
        "other.keras",
        "encoder.weights.h5",
        "model-val_loss1.0.txt",
    ):
        (tmp_path / name).touch()
    assert checkpoints.find_captioner(tmp_path).name == "model-ep002-loss3.000-val_loss3.415.h5"
    (tmp_path / "model-ep010-loss2.900-val_loss3.415.keras").touch()  # 3.4154, then 3.4146
    assert checkpoints.find_captioner(tmp_path).name == "model-ep010-loss2.900-val_loss3.415.keras"
    for figures in ("val_loss4.000-val_cider0.500", "val_loss3.000-val_cider0.400"):
        (tmp_path / f"model-ep001-loss3.000-{figures}.keras").touch()  # captions come first
    assert "val_cider0.500" in checkpoints.find_captioner(tmp_path).name
    with pytest.raises(CaptioningError, match=r"2_train_IC_model\.py"):
        checkpoints.find_captioner(tmp_path / "empty")


def test_a_captioner_in_the_current_folder_comes_before_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "PRETRAINED", tmp_path / "shipped")
    assert checkpoints.default_workdir() == Path()  # neither: the message will name this folder
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "captioner.keras").touch()
    assert checkpoints.default_workdir() == tmp_path / "shipped"
    assert checkpoints.default_workdir("features.pkl") == Path()
    (tmp_path / "shipped" / "features.pkl").touch()
    assert checkpoints.default_workdir("features.pkl") == tmp_path / "shipped"
    Path("features.pkl").touch()
    assert checkpoints.default_workdir("features.pkl") == Path()
    (tmp_path / "mine.h5").touch()
    assert checkpoints.default_workdir() == Path()


def test_usable_ids_names_what_is_missing(capsys):
    descriptions = {"image0": ["a"], "image1": ["b"], "lost": ["c"]}
    ids = ["image0", "image1", "image2", "lost"]
    assert usable_ids("dev", ids, descriptions, FEATURES) == ["image0", "image1"]
    said = capsys.readouterr().err
    assert "1 of 4 images have no captions (image2) and are left out; 1_data" in said
    assert "1 of 4 images have no features (lost) and are left out; 1_data" in said
    with pytest.raises(CaptioningError, match="none of the 1 images of the test split"):
        usable_ids("test", ["lost"], descriptions, FEATURES)


def shipped_set(folder):
    """A captioner and a tokenizer with the manifest that tells their hashes."""
    names = ("model-ep001-loss4.000-val_loss4.000.keras", "tokenizer.pkl")
    for name in names:
        files.write_text(folder / name, f"shipped {name}")
    files.write_json(
        folder / checkpoints.MANIFEST, {name: files.sha256(folder / name) for name in names}
    )
    return [folder / name for name in names]


def test_a_shipped_set_is_used_unchanged_or_not_at_all(tmp_path):
    captioner, tokenizer = shipped_set(tmp_path)
    assert checkpoints.find_captioner(tmp_path) == captioner
    checkpoints.check_shipped(captioner, tokenizer)
    tokenizer.write_text("changed")
    with pytest.raises(CaptioningError, match=r"tokenizer\.pkl as it was shipped"):
        checkpoints.check_shipped(captioner, tokenizer)
    checkpoints.check_shipped(captioner, tmp_path / "elsewhere" / "tokenizer.pkl")
    captioner.write_text("changed")
    with pytest.raises(CaptioningError, match=r"val_loss4\.000\.keras as it was shipped"):
        checkpoints.check_shipped(captioner)


def test_a_captioner_put_beside_a_shipped_set_is_used_as_it_is(tmp_path):
    _, tokenizer = shipped_set(tmp_path)
    own = tmp_path / "model-ep001-loss9.000-val_loss9.000.keras"
    own.write_text("worse, but the user's")
    tokenizer.write_text("the user's")
    assert checkpoints.find_captioner(tmp_path) == own
    checkpoints.check_shipped(own, tokenizer)


def test_descriptions_are_written_image_by_image(tmp_path):
    captions = {f"{i:05d}": ["a picture of two dogs on a brown table"] * 5 for i in range(4000)}
    tracemalloc.start()
    try:
        path, _ = artifacts.save_descriptions(tmp_path, captions, "full")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 800_000
    assert peak < 400_000


def test_which_text_descriptions_are_is_recorded_beside_them(tmp_path, capsys):
    captions = {"a": ["a dog 's t-shirt"]}
    path, record = artifacts.save_descriptions(tmp_path, captions, "full")
    assert (artifacts.load_descriptions(tmp_path), artifacts.text_of(tmp_path)) == (
        captions,
        "full",
    )
    path.write_text("a dog shirt")
    assert artifacts.text_of(tmp_path) == "reference"
    assert "tells of other captions than descriptions.txt holds: ignored" in capsys.readouterr().err
    assert artifacts.save_descriptions(tmp_path, captions) == [path]
    assert artifacts.text_of(tmp_path) == "reference"
    assert not record.exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ["[]", "{}", '{"text": "fuller"}', '{"text": ["full"]}', "{"])
def test_a_damaged_record_of_descriptions_is_refused(tmp_path, content):
    _, record = artifacts.save_descriptions(tmp_path, {"a": ["dog"]}, "full")
    record.write_text(content)
    with pytest.raises(CaptioningError, match=r"descriptions\.json"):
        artifacts.text_of(tmp_path)
