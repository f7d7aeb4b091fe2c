"""A network and a method of one's own: one file, one line, and all public functions take them."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from captioning.data.ids import ImageIds
from captioning.encoders import backbones, extraction, loading
from captioning.encoders.registry import BACKBONES
from captioning.pretraining import run
from captioning.pretraining.registry import METHODS
from captioning.runtime.errors import CaptioningError
from docs.examples.toy_method import Rotation

SETTINGS = {
    "method": "rotation", "size": 32, "epochs": 2, "batch_size": 8, "learning_rate": 1e-2,
    "weight_decay": 1e-4, "colour": 0.5, "gray": 0.2, "least_area": 0.5, "precision": "float32",
    "probe_every": 1, "seed": 0, "method_settings": {"turns": 2},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _listed():
    BACKBONES.add("toy", "docs.examples.toy_backbone:TOY", "one convolution, four tokens")
    METHODS.add("rotation", "docs.examples.toy_method:Rotation", "how far a picture is turned")
    yield
    BACKBONES.remove("toy")
    METHODS.remove("rotation")


def test_a_grid_of_tokens_is_saved_loaded_and_extracted(tmp_path, pictures):
    drawn = backbones.untrained("toy", 48)
    path = backbones.save(tmp_path / "toy.weights.h5", drawn, {})
    encoder = loading.load(path)
    assert (encoder.size, encoder.tokens, encoder.dimension) == (48, 4, 8)
    features = encoder.extract(pictures, batch_size=7)
    assert (features.shape, features.dtype) == ((len(pictures), 4, 8), np.float32)
    network = drawn.trainable(48)  # by another way; kernels are 16-bit numbers in the file
    how = loading.sources.PREPROCESSINGS["imagenet"]
    expected = network(pictures * np.float32(how.scale) + np.float32(how.shift))
    np.testing.assert_allclose(features, expected, atol=0.01 * features.std())
    record = json.loads(json.dumps(encoder.record))
    assert record["tokens"] == 4
    again = loading.from_record(record)
    np.testing.assert_array_equal(again.extract(pictures, batch_size=7), features)
    with pytest.raises(CaptioningError, match="leave --crops out"):
        loading.load(path, crops=2)


def test_features_of_a_grid_are_a_row_a_token_and_resume(tmp_path, pictures):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(pictures[i]).save(folder / f"{i}.png")
    encoder, paths = loading.of_backbone(backbones.untrained("toy", 48)), sorted(folder.iterdir())
    how = (2, tmp_path, False, ImageIds(paths))
    features, *_ = extraction.extract(encoder, paths, *how)
    assert [features[key].shape for key in "012"] == [(4, 8)] * 3
    encoder.extract = None  # all is known
    again, *_ = extraction.extract(encoder, paths, *how)
    np.testing.assert_array_equal(again["2"], features["2"])


def test_a_file_that_claims_another_form_of_the_network_is_refused(tmp_path):
    claimed = backbones.Backbone({"conv/kernel": np.zeros((4, 4, 3, 8), np.float32)}, "toy", 48,
                                 pool_padding="same")  # fmt: skip
    path = backbones.save(tmp_path / "toy.weights.h5", claimed, {})
    with pytest.raises(CaptioningError, match="weights of an encoder"):
        loading.load(path)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_method_trains_a_backbone_and_is_called_after_each_step(
    resumed, tmp_path, pictures, monkeypatch, request
):
    steps, original = [], Rotation.after_step
    if resumed:  # as if killed within the second epoch
        request.getfixturevalue("eagerly")  # one training compiled will do

        def fail(self, step, total):
            original(self, step, total)
            if step == 5:
                raise KeyboardInterrupt

        monkeypatch.setattr("captioning.runtime.training.WRITING_SHARE", 1)
        monkeypatch.setattr(Rotation, "after_step", fail)
        with pytest.raises(KeyboardInterrupt):
            train(pictures, tmp_path)

    def note(self, step, total):
        steps.append((step, total))
        original(self, step, total)

    monkeypatch.setattr(Rotation, "after_step", note)
    prepared = train(pictures, tmp_path, resume=resumed)
    assert steps == [(step, 6) for step in range(4 if resumed else 1, 7)]
    assert not np.any(prepared.model.head.bias)  # of the last step: times 0
    kept = loading.load(tmp_path / run.ENCODER)
    assert kept.extract(pictures).shape == (len(pictures), 4, 8)
    before = run.start(None, "toy", 48, 0).values
    assert (backbones.read(tmp_path / run.ENCODER).values["conv/kernel"]
            != before["conv/kernel"]).any()  # fmt: skip


def train(pictures, folder, resume=False) -> run.Run:
    prepared = run.prepare(run.start(None, "toy", 48, 0), pictures, None, None, SETTINGS)
    run.train(prepared, SETTINGS, folder, resume)
    return prepared


class Averaged(Rotation):
    """Keeps a momentum encoder: the average of the backbone over the steps."""

    def __init__(self, backbone, *arguments):
        super().__init__(backbone, *arguments)
        self.average = keras.models.clone_model(backbone)
        self.average.trainable = False
        self.average.set_weights(backbone.get_weights())

    @property
    def kept(self):
        return self.average

    def after_step(self, step, steps):
        pairs = zip(self.average.variables, self.backbone.variables, strict=True)
        for average, variable in pairs:
            average.assign(0.9 * average + 0.1 * variable)


def test_a_momentum_encoder_can_be_what_is_kept(tmp_path, pictures, monkeypatch, eagerly):
    monkeypatch.setitem(METHODS._entries, "rotation", (Averaged, "averaged"))
    prepared = train(pictures, tmp_path)
    kept = backbones.read(tmp_path / run.ENCODER).values["conv/bias"]
    np.testing.assert_array_equal(kept, prepared.model.average.get_layer("conv").bias)
    assert (
        kept != keras.ops.convert_to_numpy(prepared.model.backbone.get_layer("conv").bias)
    ).any()
    assert kept.any()  # it began at 0


def test_a_method_without_a_hook_costs_nothing():
    assert run.hooks(METHODS["simclr"], 6) == []
    assert len(run.hooks(Rotation, 6)) == 1


def test_names_and_descriptions_are_listed_without_keras():
    program = (
        "import sys\n"
        "from captioning.encoders.registry import BACKBONES, JIGSAW_BACKBONES\n"
        "from captioning.pretraining.registry import METHODS\n"
        "for names in (BACKBONES, JIGSAW_BACKBONES, METHODS):\n"
        "    assert all(names.description(name) for name in names)\n"
        "assert not {'keras', 'tensorflow', 'numpy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
