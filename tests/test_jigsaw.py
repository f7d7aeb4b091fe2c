"""The context-free network: its shape, its features, its training, and the scripts around it."""

import csv
import functools
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from captioning.data import hdf5
from captioning.encoders import context_free, loading
from captioning.encoders.registry import JIGSAW_BACKBONES
from captioning.formats import archives
from captioning.pretraining import jigsaw, permutation_sets
from captioning.pretraining.puzzle_batches import PuzzleBatches
from captioning.pretraining.tiles import Sizes
from captioning.runtime import files, training
from captioning.runtime.errors import CaptioningError
from tests.toys import one_convolution, replaced

REPOSITORY = Path(__file__).resolve().parent.parent
SIZE = 64  # of pictures: tiles of 16
SIZES = {key: getattr(Sizes(SIZE), key) for key in ("image", "crop", "cell", "tile")}
RECORD = {"backbone": "small", "permutations": 12, "sizes": SIZES}
SCRIPTS = [
    "main.py", "Jigsaw_feature_extraction.py", "jigsaw_captions.py", "Jigsaw_IC_model.py",
    "Jigsaw_tokenizer.py", "Jigsaw_test_bleu.py", "Jigsaw_test_images.py",
]  # fmt: skip


def run(network, inputs) -> np.ndarray:
    return keras.ops.convert_to_numpy(network(inputs, training=False))


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Smooth shades that differ from place to place, uint8 (count, SIZE, SIZE, 3)."""
    rough = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3)).astype(np.uint8)
    smooth = [Image.fromarray(image).resize((SIZE, SIZE), Image.BICUBIC) for image in rough]
    return np.stack([np.asarray(image) for image in smooth])


def centred_tiles(images: np.ndarray) -> np.ndarray:
    """Float32 (n, 9, tile, tile, 3): row by row, the middle of each cell of the middle crop."""
    tile, cell, crop = (SIZES[key] for key in ("tile", "cell", "crop"))
    first = (SIZE - crop) // 2 + (cell - tile) // 2
    corners = [
        (first + cell * row, first + cell * column) for row in range(3) for column in range(3)
    ]
    tiles = np.stack([images[:, y : y + tile, x : x + tile] for y, x in corners], axis=1)
    tiles = tiles - tiles.mean(axis=(2, 3, 4), keepdims=True)
    return (tiles / tiles.std(axis=(2, 3, 4), keepdims=True)).astype(np.float32)


def perturbed(network: keras.Model) -> keras.Model:
    """Move the normalisations away from the identity, so that a forgotten one shows."""
    random = np.random.default_rng(1)
    for variable in network.variables:
        if variable.name in ("moving_mean", "moving_variance", "gamma", "beta"):
            noise = random.uniform(0.7, 1.3, variable.shape)
            variable.assign(variable + noise * 0.3)
    return network


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return perturbed(context_free.build("small", SIZES["tile"], 12))


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory) -> Path:
    return context_free.save(tmp_path_factory.mktemp("model") / "model.keras", network, RECORD)


@pytest.fixture(scope="module")
def whole(saved) -> dict[str, loading.Encoder]:
    """The encoder of each mode."""
    return {mode: loading.of_jigsaw(saved, mode) for mode in context_free.MODES}


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return centred_tiles(pictures(3))


@functools.cache
def of_64_pixels(backbone: str) -> keras.Model:
    return context_free.build(backbone, 64, 100)


@pytest.mark.parametrize("backbone", JIGSAW_BACKBONES)
def test_heads_are_those_of_the_reference(backbone):
    """Dense layers and dropouts between the nine backbones and the softmax, in order."""
    network = of_64_pixels(backbone)
    found = [
        layer.units if isinstance(layer, keras.layers.Dense) else "dropout"
        for layer in network.layers
        if isinstance(layer, keras.layers.Dense | keras.layers.Dropout)
    ]
    assert (
        found
        == {
            "resnet50": [2048, "dropout", 1024, "dropout", 100],
            "alexnet": ["dropout", 4096, "dropout", 1024, 100],
            "small": [256, "dropout", 1024, "dropout", 100],
        }[backbone]
    )
    assert network.output_shape == (None, 100)
    assert network.get_layer("trunk").output_shape == {
        "resnet50": (None, 2048), "alexnet": (None, 3, 3, 256), "small": (None, 2, 2, 256),
    }[backbone]  # fmt: skip


def test_one_backbone_of_the_published_size_serves_all_tiles():
    network = of_64_pixels("resnet50")
    backbone = network.get_layer("trunk")
    count = sum(np.prod(variable.shape) for variable in network.trainable_variables)
    of_backbone = sum(np.prod(variable.shape) for variable in backbone.trainable_variables)
    assert of_backbone == 25_557_032 - (2048 * 1000 + 1000)  # torchvision's ResNet-50 without fc
    head = (9 * 2048 + 1) * 2048 + (2048 + 1) * 1024 + (1024 + 1) * 100
    assert count == of_backbone + head


def test_folding_the_tiles_into_the_batch_equals_nine_calls(network, tiles):
    backbone = network.get_layer("trunk")
    apart = np.stack([run(backbone, tiles[:, slot]) for slot in range(9)], axis=1)
    inside = keras.Model(network.input, network.get_layer("head").input)
    np.testing.assert_allclose(run(inside, tiles), apart.reshape(3, 9, -1), rtol=1e-4, atol=1e-5)


def test_output_is_a_distribution_that_depends_on_the_order(network, tiles):
    output = run(network, tiles)
    np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-5)
    assert np.abs(output - run(network, tiles[:, ::-1])).max() > 1e-4


def test_full_features_are_the_units_before_the_softmax_over_centred_tiles(network, whole):
    encoder = whole["full"]
    assert (encoder.size, encoder.dimension, encoder.record["mode"]) == (SIZE, 1024, "full")
    images = pictures(5)
    features = encoder.extract(images, batch_size=2)[:, 0]
    np.testing.assert_array_equal(features, encoder.extract(images, batch_size=2)[:, 0])
    # by the arithmetic of the head alone, from the features to the softmax
    kernel, bias = network.get_layer("permutation").get_weights()
    scores = np.exp(features @ kernel + bias)
    expected = run(network, centred_tiles(images))
    np.testing.assert_allclose(scores / scores.sum(axis=1, keepdims=True), expected, rtol=1e-3)
    direct = keras.Model(network.input, network.get_layer("feature").output)
    np.testing.assert_allclose(features, run(direct, centred_tiles(images)), rtol=1e-3, atol=1e-4)


def test_single_features_are_the_average_of_the_backbone_over_the_picture(network, whole):
    encoder = whole["single"]
    images = pictures(3)
    values = images.reshape(3, -1).astype(float)
    whole = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    backbone = JIGSAW_BACKBONES["small"].backbone(SIZE)
    backbone.set_weights(network.get_layer("trunk").get_weights())
    expected = run(backbone, whole.reshape(3, SIZE, SIZE, 3)).mean(axis=(1, 2))
    np.testing.assert_allclose(encoder.extract(images)[:, 0], expected, rtol=1e-3, atol=1e-4)
    assert encoder.dimension == 256


@pytest.mark.parametrize("mode", context_free.MODES)
def test_a_constant_picture_has_finite_features(whole, mode):
    white = np.full((1, SIZE, SIZE, 3), 255, np.uint8)
    assert np.isfinite(whole[mode].extract(white)).all()


@pytest.mark.parametrize("mode", context_free.MODES)
def test_a_record_makes_the_same_encoder_again(saved, whole, mode):
    encoder = whole[mode]
    record = json.loads(json.dumps(encoder.record))
    assert (record["file"], record["mode"]) == (str(saved.resolve()), mode)
    again = loading.from_record(record)
    assert again.record == encoder.record
    np.testing.assert_array_equal(again.extract(pictures(2)), encoder.extract(pictures(2)))


def test_a_record_refuses_another_file_under_the_same_name(network, saved, tmp_path):
    path = shutil.copy(saved, tmp_path / "model.keras")
    record = loading.load(path).record  # which of the two modes is the default
    assert record["mode"] == "full"
    context_free.save(path, network, RECORD | {"epoch": 7})
    with pytest.raises(CaptioningError, match="has changed"):
        loading.from_record(record)
    path.unlink()
    with pytest.raises(CaptioningError, match="is gone"):
        loading.from_record(record)


def test_a_network_that_is_not_finite_is_no_encoder(network, tmp_path):
    broken = keras.models.clone_model(network)
    broken.set_weights(network.get_weights())
    layer = broken.get_layer("feature")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias * np.nan])
    path = tmp_path / "model.keras"
    with pytest.raises(CaptioningError, match=r"model\.keras, found .* in feature/bias;"):
        context_free.save(path, broken, RECORD)
    archives.save(path, broken, "jigsaw.json", RECORD)
    with pytest.raises(CaptioningError, match=r"model\.keras, found .* in feature/bias;"):
        loading.of_jigsaw(path)


def test_bfloat16_features_are_near(saved, whole):
    exact = whole["full"].extract(pictures(4))
    near = loading.load(saved, precision="bfloat16").extract(pictures(4))
    assert near.dtype == np.float32
    assert np.linalg.norm(near - exact) < 0.03 * np.linalg.norm(exact)


def test_the_file_opens_in_plain_keras(network, saved, tiles):
    plain = keras.saving.load_model(saved)
    np.testing.assert_array_equal(run(plain, tiles), run(network, tiles))


def rewritten(source: Path, target: Path, **members: bytes) -> Path:
    """A copy of a .keras file with other contents for some members (dots as underscores)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.replace(".", "_"), old.read(name)))
    return target


def with_arrays(source: Path, target: Path, change) -> Path:
    with zipfile.ZipFile(source) as archive:
        target.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(target, "a") as file:
        change(file)
    return rewritten(source, target, model_weights_h5=target.read_bytes())


def test_nothing_in_a_file_is_run(saved, tmp_path, tiles):
    """The description of the network, where code can hide, is not even looked at."""
    hostile = {"module": "builtins", "class_name": "exec", "config": {}, "registered_name": "exec"}
    path = rewritten(saved, tmp_path / "m.keras", config_json=json.dumps(hostile).encode())
    np.testing.assert_array_equal(
        run(context_free.load(path)[0], tiles), run(context_free.load(saved)[0], tiles)
    )


def test_foreign_and_damaged_files_are_refused(saved, tmp_path):
    path = tmp_path / "model.keras"

    def refused(match):
        with pytest.raises(CaptioningError, match=match) as caught:
            loading.load(path)
        assert "\n" not in str(caught.value)

    refused("neither")
    path.write_bytes(saved.read_bytes()[:5000])
    refused("trained by jigsaw/main.py")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    refused("no record")
    for wrong in (
        {"backbone": "os.system"},
        {"permutations": 10**9},
        {"permutations": "12"},
        {"sizes": SIZES | {"tile": 10**6, "image": 10**9}},
        {"sizes": {}},
        {"sizes": [1, 2]},
    ):
        rewritten(saved, path, jigsaw_json=json.dumps(RECORD | wrong).encode())
        refused("trained by jigsaw/main.py")
    rewritten(saved, path, jigsaw_json=json.dumps(RECORD | {"permutations": 13}).encode())
    refused("arrays are not those of small")
    with_arrays(saved, path, lambda file: file.create_dataset("one_more", data=np.zeros(3)))
    refused("arrays are not those of small")
    with_arrays(saved, path, lambda file: file.update(stolen=h5py.ExternalLink("/etc/passwd", "/")))
    refused("points into other files")


def test_preprocessing_of_other_encoders_is_refused(saved):
    with pytest.raises(CaptioningError, match="leave --preprocessing out"):
        loading.load(saved, "imagenet")
    with pytest.raises(CaptioningError, match="leave --crops out"):
        loading.load(saved, crops=10)


@pytest.fixture
def toy():
    """A backbone so small that training takes no time; its head draws dropout masks."""

    def head(tiles, dtype):
        x = keras.layers.Dropout(0.5, dtype=dtype)(keras.layers.Flatten(dtype=dtype)(tiles))
        return keras.layers.Dense(8, "relu", dtype=dtype, name="feature")(x)

    with replaced(JIGSAW_BACKBONES, "small", context_free.Parts(one_convolution, head)):
        yield


class Interrupted(PuzzleBatches):
    """The power fails in the middle of an epoch."""

    fails = (None, None)

    def __getitem__(self, index):
        if (self.epoch, index) == self.fails:
            raise OSError("power failure")
        return super().__getitem__(index)


def train(folder, fails=None, resume=False, **changes):
    settings = {
        "epochs": 8,
        "learning_rate": 0.03,
        "schedule": "plateau",
        "precision": "float32",
        "seed": 3,
    } | changes
    folder.mkdir(exist_ok=True)
    permutations = permutation_sets.choose(12)
    data = {
        split: Interrupted(pictures(20), permutations, 8, seed=3, fixed=split != "train")
        for split in ("train", "val", "test")
    }
    data["train"].fails = fails
    return jigsaw.train(data, settings, RECORD, folder, resume)


def trained(folder: Path) -> list[np.ndarray]:
    """All that a run leaves: weights, optimiser, states of random generators, best network."""
    with np.load(folder / training.STATE) as state:
        arrays = [state[f"variable_{i}"] for i in range(len(state.files) - 1)]
    return arrays + context_free.load(folder / jigsaw.MODEL)[0].get_weights()


@pytest.mark.usefixtures("every_epoch_written")
@pytest.mark.parametrize(
    ("schedule", "epochs", "failures"),
    [("plateau", 8, [(2, 0), (6, 2)]), ("cosine", 4, [(3, 1)])],
)
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    toy, tmp_path, schedule, epochs, failures, request
):
    if schedule == "plateau":  # one of them compiled will do
        request.getfixturevalue("eagerly")
    how = {"schedule": schedule, "epochs": epochs}
    train(tmp_path / "whole", **how)
    for i, failure in enumerate(failures):  # epoch and batch; Keras counts up before the first
        with pytest.raises(Exception, match="power failure"):
            train(tmp_path / "parts", failure, resume=i > 0, **how)
    train(tmp_path / "parts", resume=True, **how)
    whole, parts = trained(tmp_path / "whole"), trained(tmp_path / "parts")
    for expected, found in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(found, expected)
    rates = history(tmp_path / "whole")["learning_rate"]
    assert history(tmp_path / "parts")["learning_rate"] == rates
    assert min(rates) < max(rates)  # else the callbacks' state did not matter
    if schedule == "cosine":
        expected = [0.015 * (1 + np.cos(np.pi * epoch / epochs)) for epoch in range(epochs)]
        np.testing.assert_allclose(rates, expected, rtol=1e-6)


def history(folder: Path) -> dict[str, list[float]]:
    with open(folder / jigsaw.HISTORY, "rb") as file:
        return pickle.load(file)


def test_the_learning_rate_rises_in_the_first_epoch(eagerly):
    rates = []

    class Spy(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.8), "mse")
    warm_up = jigsaw.WarmUp(0.8)
    model.fit(np.zeros((8, 1)), np.zeros(8), 2, epochs=2, callbacks=[warm_up, Spy()], verbose=0)
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8], rtol=1e-6)


def test_what_training_leaves_behind(toy, eagerly, tmp_path, capsys):
    written = train(tmp_path, epochs=5, learning_rate=1e-9, schedule="cosine")
    assert {path.name for path in written} == {
        "model.keras", "history.csv", "history.pkl", "curves.png", "test_accuracy.pkl",
    }  # fmt: skip
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = history(tmp_path)
    assert [float(row["val_accuracy"]) for row in rows] == columns["val_accuracy"]
    network, record = context_free.load(tmp_path / "model.keras")
    assert record["val_loss"] == min(columns["val_loss"])
    assert record["epoch"] == 1 + int(np.argmin(columns["val_loss"]))
    with open(tmp_path / "test_accuracy.pkl", "rb") as file:
        accuracy = pickle.load(file)
    puzzles = PuzzleBatches(pictures(20), permutation_sets.choose(12), 8, seed=3, fixed=True)
    solved = [np.argmax(run(network, tiles), axis=1) == labels for tiles, labels in puzzles]
    assert accuracy == pytest.approx(np.concatenate(solved).mean())
    told = capsys.readouterr().err
    assert "times chance (8.3%)" in told
    assert "warning: the loss has not fallen below ln(12) = 2.48" in told  # so slow a rate


def test_no_epochs_save_the_network_as_it_starts(toy, eagerly, tmp_path):
    written = train(tmp_path, epochs=0)
    assert {path.name for path in written} == {"model.keras", "test_accuracy.pkl"}
    assert context_free.load(tmp_path / "model.keras")[1]["epoch"] == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_shows_a_command_to_run_and_loads_no_framework(script, tmp_path, name):
    done = script(f"jigsaw/{name}", "--help", cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert f"python jigsaw/{name}" in done.stdout
    assert "tensorflow" not in done.stderr
    assert "keras" not in done.stderr


@pytest.fixture
def puzzles(tmp_path) -> list:
    """Arguments of main.py: a small file of pictures, twelve permutations."""
    with h5py.File(tmp_path / "pictures.hdf5", "w") as file:
        for i, split in enumerate(hdf5.SPLITS):
            file.create_dataset(split, data=pictures(20, seed=i))
    permutations = tmp_path / "maxHammingSet_of_12.txt"
    np.savetxt(permutations, permutation_sets.choose(12), fmt="%d")
    return [
        "--hdf5", tmp_path / "pictures.hdf5", "--permutations", permutations,
        "--max-hamming-set", "10", "--backbone", "small", "--batch-size", "8", "--epochs", "3",
    ]  # fmt: skip


def test_the_whole_branch_from_puzzles_to_a_caption(
    here, puzzles, tiny, tmp_path, monkeypatch, toy, eagerly
):
    monkeypatch.chdir(tmp_path)
    for image, path in zip(
        pictures(24), sorted((tiny / "Flicker8k_Dataset").iterdir()), strict=True
    ):
        Image.fromarray(image).save(path)
    dataset = ["--dataset", tiny]
    told = here("jigsaw/main.py", *puzzles, "--epochs", "0")
    assert "test puzzles solved: " in told
    assert "times chance (10.0%)" in told
    here("jigsaw/jigsaw_captions.py", *dataset)  # jigsaw_work/ is the default everywhere
    extraction = [
        "jigsaw/Jigsaw_feature_extraction.py", "--model", "jigsaw_work/pretraining/model.keras",
        "--images", tiny / "Flicker8k_Dataset",
    ]  # fmt: skip
    here(*extraction)
    record = json.loads(Path("jigsaw_work/features.json").read_text())
    assert (record["images"], record["dimension"]) == (24, 8)
    assert record["encoder"]["mode"] == "full"
    fake = tiny / "Flicker8k_Dataset" / "fake.jpg"
    fake.write_text("no picture")
    assert "fake.jpg: not an image; --strict" in here(*extraction, "--strict", code=1)
    assert "skipped fake.jpg: not an image" in here(*extraction, code=3)
    fake.unlink()
    told = here("jigsaw/Jigsaw_IC_model.py", *dataset, "--epochs", "2")
    assert "epoch 2/2" in told
    with files.locked("jigsaw_work"):  # what only reads, or writes at once, does not mind
        for command in (extraction, ["jigsaw/Jigsaw_IC_model.py", *dataset]):
            told = here(*command, code=1)
            assert "error: expected jigsaw_work for this run alone" in told
        here("jigsaw/Jigsaw_tokenizer.py", *dataset)
        told = here("jigsaw/Jigsaw_test_bleu.py", *dataset)
    assert told.count("BLEU-4") == 3
    captions = json.loads(Path("jigsaw_work/captions-test.json").read_text())
    assert len(captions) == 4
    for name in (["jigsaw/Jigsaw_test_images.py"], ["5_test.py", "--workdir", "jigsaw_work"]):
        told = here(*name, tiny / "Flicker8k_Dataset")
        said = dict(line.split("\t") for line in told.splitlines() if "\t" in line)
        assert len(said) == 24
        for key, caption in captions.items():
            assert said[str(tiny / "Flicker8k_Dataset" / f"{key}.jpg")] == caption
    Path("jigsaw_work/pretraining/model.keras").rename("shipped.keras")
    shutil.move("jigsaw_work", "shipped")  # to another machine, as it were
    command = "5_test.py", "--workdir", "shipped", tiny / "Flicker8k_Dataset"
    told = here(*command, code=1)
    for place in ("jigsaw_work/pretraining", "shipped"):
        assert str(tmp_path / place / "model.keras") in told
    shutil.move("shipped.keras", "shipped/model.keras")
    assert [line for line in here(*command).splitlines() if "\t" in line] == [
        f"{path}\t{caption}" for path, caption in said.items()
    ]


def test_two_runs_do_not_mix(here, puzzles, tmp_path):
    with files.locked(tmp_path / "output"):
        told = here("jigsaw/main.py", *puzzles, "--output", tmp_path / "output", code=1)
    assert f"expected {tmp_path / 'output'} for this run alone" in told


def test_mistakes_get_one_sentence(here, puzzles, tmp_path):
    (tmp_path / "permutations.txt").write_text("0 1 2 3 4 5 6 7 7\n")
    told = here("jigsaw/main.py", *puzzles, "--permutations", tmp_path / "permutations.txt", code=1)
    assert "expected a permutation" in told
    told = here("jigsaw/main.py", *puzzles, "--hdf5", tmp_path / "none.hdf5", code=1)
    assert "jigsaw/to_hdf5.py" in told
    told = here("jigsaw/main.py", *puzzles, "--output", tmp_path / "new", "--resume", code=1)
    assert "leave --resume out" in told
