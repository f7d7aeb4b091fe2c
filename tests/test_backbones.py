"""Files of encoders: of all layouts the backbone is found; damaged or hostile ones are refused."""

import dataclasses
import json
import runpy
import shutil

import h5py
import numpy as np
import pytest
import toys
from hostile import torch_file
from toys import merge_captioner, merge_network

from captioning.data import images
from captioning.encoders import backbones, loading, sources
from captioning.encoders.registry import BACKBONES
from captioning.formats import checkpoints
from captioning.pipeline import artifacts
from captioning.runtime.errors import CaptioningError
from tests.conftest import REPOSITORY


def hostile(untrained, folder, change):
    """An encoder's file with something changed behind `backbones.save`'s back."""
    path = shutil.copy(untrained, folder / "encoder.weights.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def texts(file):
    del file["bn1/beta"]
    file["bn1/beta"] = np.array(["long" * 1000] * 64, dtype=h5py.string_dtype())


def many_records(file):
    file.attrs["encoder"] = np.array(["{}"] * 100, dtype=h5py.string_dtype())


def link(file):
    del file["bn1/beta"]
    file["bn1/beta"] = h5py.ExternalLink("/etc/passwd", "/")


def not_finite(file):
    file["layer1_0_conv2/kernel"][0, 0, 1, 1] = np.nan


@pytest.mark.parametrize(
    "change",
    [
        texts,
        not_finite,
        many_records,
        link,
        lambda file: file.attrs.update({"encoder": "[]"}),
        lambda file: file.attrs.update({"encoder": '{"backbone": "tiny", "size": 1e9}'}),
        lambda file: file.create_dataset("more", (10**6, 10**6)),
        lambda file: file.create_dataset("more", data=np.zeros(3)),
        lambda file: file.move("conv1/kernel", "conv1/unexpected"),
    ],
)
def test_a_hostile_encoder_is_refused(change, untrained, tmp_path):
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5"):
        loading.load(hostile(untrained, tmp_path, change))


def test_a_damaged_part_is_refused(untrained, tmp_path):
    def compress(file):
        zeros = file["bn1/beta"][:]
        del file["bn1/beta"]
        file.create_dataset("bn1/beta", data=zeros, compression="gzip")
        where.append(file["bn1/beta"].id.get_chunk_info(0).byte_offset)

    where = []
    path = hostile(untrained, tmp_path, compress)
    data = bytearray(path.read_bytes())
    data[where[0] : where[0] + 4] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5 is not a whole HDF5 file"):
        loading.load(path)


def test_half_a_file_is_refused(untrained, tmp_path):
    path = hostile(untrained, tmp_path, lambda file: None)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5"):
        loading.load(path)


def test_a_backbone_that_could_not_be_read_is_not_written(untrained, tmp_path):
    backbone, path = backbones.read(untrained), tmp_path / "encoder.weights.h5"
    for name, bad in (("conv1/kernel", 7e4), ("bn1/gamma", np.inf)):  # 16 bits reach to 65,504
        values = backbone.values | {name: np.full_like(backbone.values[name], bad)}
        with pytest.raises(CaptioningError, match=f"that are not .* in {name};"):
            backbones.save(path, dataclasses.replace(backbone, values=values), {})
        assert not path.exists()


# Self-supervised checkpoints: the backbone is behind a prefix, and other things are beside it


@pytest.fixture(scope="module")
def tiny_resnet50():
    with toys.tiny_resnet50():
        yield


@pytest.fixture(scope="module")
def values(tiny_resnet50) -> dict[str, np.ndarray]:
    """Random weights under our names."""
    random = np.random.default_rng(0)
    shapes = BACKBONES["resnet50"].shapes(224)
    return {name: random.random(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def state(values) -> dict[str, np.ndarray]:
    """The same as torchvision has them."""
    return toys.torchvision_state(values)


def under(prefix: str, tensors: dict) -> dict:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def head(*names: str) -> dict:
    tensors = {"weight": np.ones((2, 3), "f4"), "bias": np.zeros(2, "f4")}
    return {f"{name}.{kind}": tensor for name in names for kind, tensor in tensors.items()}


def averaged(tensors: dict) -> dict:
    """Of a moving average: the same names and shapes, other numbers."""
    return {name: tensor + tensor.dtype.type(1) for name, tensor in tensors.items()}


def numbered(tensors: dict) -> dict:
    """As `torch.nn.Sequential(*network.children())` names them."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5"}
    names = (name.split(".", 1) for name in tensors)
    return {f"{numbers[m]}.{r}": t for (m, r), t in zip(names, tensors.values(), strict=True)}


# What each repository saves, made of the backbone's tensors, and what is to be said about it
LAYOUTS = {
    "plain": (lambda backbone: backbone, ""),
    "supervised": (lambda backbone: backbone | head("fc"), ""),
    "SwAV": (
        lambda backbone: under("module.", backbone | head("projection_head.0", "prototypes")),
        "",
    ),
    "Lightning Bolts": (
        lambda backbone: {
            "state_dict": under("encoder.", backbone | head("fc"))
            | head("projection.model.0", "non_linear_evaluator.block_forward.1"),
            "optimizer_states": [{"state": {0: np.ones(1)}}],
        },
        "left aside: non_linear_evaluator, projection (4 tensors)",
    ),
    "Spijkervet's SimCLR": (
        lambda backbone: under("encoder.", backbone) | head("projector.0", "projector.2"),
        "left aside: projector (4 tensors)",
    ),
    "sthalles' SimCLR": (
        lambda backbone: {
            "epoch": 200,
            "state_dict": under("backbone.", backbone | head("fc.0", "fc.2")),
            "optimizer": {"state": {}},
        },
        "",
    ),
    "solo-learn's SimCLR": (
        lambda backbone: {
            "state_dict": under("backbone.", backbone) | head("classifier", "projector.0")
        },
        "left aside: classifier, projector (4 tensors)",
    ),
    "solo-learn's BYOL": (
        lambda backbone: {
            "state_dict": under("backbone.", backbone)
            | under("momentum_backbone.", averaged(backbone))
            | head("predictor.0", "momentum_projector.0")
        },
        "takes the encoder 'backbone.' and not 'momentum_backbone.'",
    ),
    "lightly's SimCLR": (
        lambda backbone: {
            "state_dict": under("backbone.", backbone)
            | head("projection_head.layers.0", "online_classifier.linear")
        },
        "left aside: online_classifier, projection_head (4 tensors)",
    ),
    "lightly's MoCo": (
        lambda backbone: {
            "state_dict": under("backbone_momentum.", averaged(backbone))
            | under("backbone.", backbone)
            | head("projection_head.layers.0")
        },
        "takes the encoder 'backbone.' and not 'backbone_momentum.'",
    ),
    "mmselfsup's SimCLR": (
        lambda backbone: {
            "meta": {"epoch": 1},
            "state_dict": under("backbone.", backbone) | head("neck.fc0"),
        },
        "left aside: neck (2 tensors)",
    ),
    "mmselfsup's BYOL": (
        lambda backbone: {
            "state_dict": under("target_net.0.", averaged(backbone))
            | under("online_net.0.", backbone)
            | head("head.predictor")
        },
        "takes the encoder 'online_net.0.' and not 'target_net.0.'",
    ),
    "SimSiam": (
        lambda backbone: {
            "state_dict": under("module.encoder.", backbone | head("fc.0"))
            | head("module.predictor.0")
        },
        "left aside: module.predictor (2 tensors)",
    ),
    "MoCo": (
        lambda backbone: {
            "state_dict": under("module.encoder_q.", backbone | head("fc.0"))
            | under("module.encoder_k.", averaged(backbone))
            | {"module.queue": np.ones((2, 3), "f4"), "module.queue_ptr": np.zeros(1, "i8")}
        },
        "left aside: module.encoder_k, module.queue, module.queue_ptr (38 tensors)",
    ),
    "MoCo on one GPU": (
        lambda backbone: {
            "state_dict": under("encoder_k.", averaged(backbone))
            | under("encoder_q.", backbone)
            | {"queue": np.ones((2, 3), "f4")}
        },
        "takes the encoder 'encoder_q.' and not 'encoder_k.'",
    ),
    "MoCo v3": (
        lambda backbone: {
            "state_dict": under("module.base_encoder.", backbone)
            | under("module.momentum_encoder.", averaged(backbone))
            | head("module.predictor.0")
        },
        "takes the encoder 'module.base_encoder.' and not 'module.momentum_encoder.'",
    ),
    "DINO": (
        lambda backbone: {
            "student": under("module.backbone.", backbone) | head("module.head.mlp.0"),
            "teacher": under("backbone.", averaged(backbone)) | head("head.mlp.0"),
            "optimizer": {"state": {0: {"step": np.ones(1)}}, "param_groups": []},
            "dino_loss": {"center": np.ones((1, 2), "f4")},
        },
        "left aside: dino_loss, student.module.head, teacher (41 tensors)",
    ),
    "Barlow Twins": (
        lambda backbone: {
            "model": under("module.backbone.", backbone) | head("module.projector.0")
        },
        "left aside: module.projector (2 tensors)",
    ),
    "a backbone with its average inside": (
        lambda backbone: backbone | under("ema.", averaged(backbone)),
        "takes the encoder '' and not 'ema.'",
    ),
    "lightly's BYOL": (
        lambda backbone: {
            "state_dict": under("backbone.", numbered(backbone))
            | under("backbone_momentum.", averaged(numbered(backbone)))
            | head("prediction_head.layers.0")
        },
        "left aside: backbone_momentum, prediction_head (38 tensors)",
    ),
    "a Sequential": (numbered, ""),
    "VISSL": (
        lambda backbone: {
            "classy_state_dict": {
                "base_model": {
                    "model": {
                        "trunk": under("_feature_blocks.", backbone),
                        "heads": head("0.clf.0"),
                    }
                }
            }
        },
        "left aside: classy_state_dict.base_model.model.heads (2 tensors)",
    ),
    "under a name of one's own": (
        lambda backbone: {"model_state_dict": under("net.", backbone), "step": 3},
        "",
    ),
}


@pytest.fixture
def write(tmp_path):
    """Writes a value as `torch.save` does, and returns the path."""

    def write(name: str, value):
        (tmp_path / name).write_bytes(torch_file(value))
        return tmp_path / name

    return write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_backbone_is_found_in_every_layout(layout, state, values, write, capsys):
    make, said = LAYOUTS[layout]
    backbone = backbones.read(write("a.pth", make(state)))
    assert backbone.values.keys() == values.keys()
    for name, array in values.items():
        np.testing.assert_array_equal(backbone.values[name], array)
    assert backbone.prefix is None
    lines = capsys.readouterr().err.splitlines()
    assert any(said in line for line in lines) if said else not lines


def test_the_backbone_is_found_in_files_of_pytorch(state, values, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch, the reference, is not installed")

    def tensors(value):
        if isinstance(value, dict):
            return {key: tensors(item) for key, item in value.items()}
        array = isinstance(value, np.ndarray | np.generic)
        return torch.from_numpy(np.array(value)) if array else value

    def write(name: str, value):
        torch.save(tensors(value), tmp_path / name)
        return tmp_path / name

    for layout in LAYOUTS:
        test_the_backbone_is_found_in_every_layout(layout, state, values, write, capsys)


def test_the_user_chooses_where_no_name_tells(state, values, write, capsys):
    views = under("view1.encoder.", state) | under("view2.encoder.", averaged(state))
    path = write("a.pth", {"state_dict": views})
    with pytest.raises(
        CaptioningError,
        match=r"--prefix of 1_data_preprocessor.py: 'view1\.encoder\.', 'view2\.encoder\.'$",
    ):
        backbones.read(path)
    for prefix in ("view1.encoder", "view1.encoder."):
        backbone = backbones.read(path, prefix)
        assert backbone.prefix == "view1.encoder."
        np.testing.assert_array_equal(backbone.values["bn1/beta"], values["bn1/beta"])
    backbone = backbones.read(path, "view2.encoder")
    np.testing.assert_array_equal(backbone.values["bn1/beta"], values["bn1/beta"] + 1)
    assert "takes the encoder 'view2.encoder.' and not 'view1" in capsys.readouterr().err
    for wrong in ("view2", "", "encoder"):
        with pytest.raises(CaptioningError, match=r"one of 'view1\.encoder\.', 'view2.* --prefix$"):
            backbones.read(path, wrong)


def test_a_prefix_that_is_taken_anyway_decides_nothing(state, write):
    path = write("a.pth", under("encoder_q.", state) | under("encoder_k.", averaged(state)))
    assert backbones.read(path, "encoder_q").prefix is None
    assert backbones.read(path, "encoder_k").prefix == "encoder_k."


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize(
    "unexpected", ["layer1.0.conv9.weight", "layer1.0.se.fc.weight", "layer3.0.conv1.weight", "cls"]
)
def test_what_is_behind_the_prefix_must_be_the_backbone(prefix, unexpected, state, write):
    tensors = under(prefix, state | {unexpected: np.ones(1, "f4")})
    path = write("a.pth", tensors | head("other.projector"))
    unknown = prefix + unexpected
    if prefix:
        with pytest.raises(CaptioningError, match=f"found unknown {unknown};"):
            backbones.read(path)
    else:  # everything is behind it
        with pytest.raises(CaptioningError, match=f"found unknown {unknown}, other.projector"):
            backbones.read(path)


def test_all_faults_of_a_backbone_are_listed(state, write):
    layers = under("module.encoder_q.", state) | under("module.encoder_k.", averaged(state))
    prefix = "module.encoder_q.layer2.0"
    layers[f"{prefix}.conv4.weight"] = layers.pop(f"{prefix}.conv2.weight")
    layers[f"{prefix}.bn2.running_var"] = np.zeros(3, "f4")
    faults = (
        f"found missing {prefix}.conv2.weight; unknown {prefix}.conv4.weight; misshapen "
        rf"{prefix}.bn2.running_var of shape \(3,\) instead of \(128,\);"
    )
    with pytest.raises(CaptioningError, match=faults):
        backbones.read(write("a.pth", {"state_dict": layers}))


def test_a_checkpoint_of_another_network_is_refused(tiny_resnet50, write):
    path = write("vit.pth", {"blocks.0.attn.qkv.weight": np.zeros(3, "f4")})
    expected = r"one backbone 'resnet50' .*blocks\.0\.attn\.qkv\.weight"
    with pytest.raises(CaptioningError, match=expected):
        backbones.read(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_backbone_that_is_not_finite_is_refused(bad, state, write):
    broken = {name: np.array(tensor) for name, tensor in state.items()}
    broken["layer2.0.conv1.weight"].flat[5] = bad
    aside = {"projector.bias": np.full(2, bad, "f4")}  # which is nobody's concern
    backbones.read(write("a.pth", under("backbone.", state) | aside))
    path = write("b.pth", under("backbone.", broken) | aside)
    with pytest.raises(
        CaptioningError, match=rf"numbers in {path}, .* in backbone\.layer2\.0\.conv1"
    ):
        backbones.read(path)


def test_other_files_of_encoders_that_are_not_finite_are_refused(
    tiny_resnet50, values, tmp_path, monkeypatch
):
    network = toys.tiny_network().build()
    network.get_layer("bn1").set_weights([np.full(64, np.nan)] * 4)
    network.save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(CaptioningError, match=r"own\.weights\.h5, .* in bn1/gamma;"):
        backbones.read(tmp_path / "own.weights.h5")

    names = [f"base_model/{name}" for name in ("conv2d/kernel", "batch_normalization/gamma")]
    monkeypatch.setattr(type(BACKBONES["resnet50"]), "shapes", lambda *_: {"a/kernel": (2,)})
    variables = {names[0]: np.float32([1, np.inf]), "head/kernel": np.float32([np.nan])}
    monkeypatch.setattr(checkpoints, "read", lambda path: ("tensorflow", variables))
    with pytest.raises(CaptioningError, match=f"ckpt, .* in {names[0]};"):
        backbones.read(tmp_path / "ckpt")


def test_the_script_takes_the_prefix_and_records_it(
    tiny_resnet50, state, write, tiny, tmp_path, monkeypatch
):
    path = write("a.pth", under("encoder_q.", state) | under("encoder_k.", averaged(state)))
    options = ["--dataset", tiny, "--workdir", tmp_path, "--encoder", path, "--limit", "2"]
    options += ["--only", "features", "--prefix", "encoder_k"]
    monkeypatch.setattr("sys.argv", ["1_data_preprocessor.py", *map(str, options)])
    assert runpy.run_path(REPOSITORY / "1_data_preprocessor.py")["main"]() == 0
    record = json.loads((tmp_path / "features.json").read_text())["encoder"]
    assert record == loading.load(path, prefix="encoder_k").record
    features = artifacts.load_features(tmp_path)[0]
    (batch,) = images.batches(images.list_files(tiny / "Flicker8k_Dataset")[:2], 224, 2)
    expected = loading.from_record(record).extract(batch.pixels)[:, 0]
    np.testing.assert_allclose(np.concatenate(list(features.values())), expected, rtol=1e-5)


def test_a_prefix_is_for_checkpoints_of_pytorch(tiny_resnet50, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "read", lambda path: ("tensorflow", {}))
    for name in ("a.h5", "a.weights.h5", "a.keras", "model.index", "random"):
        (tmp_path / name).touch()
        with pytest.raises(CaptioningError, match="leave --prefix out"):
            loading.load(name if name == "random" else tmp_path / name, prefix="encoder")


def test_encoders_of_two_prefixes_are_two_encoders(state, write, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    path = write("a.pth", under("encoder_q.", state) | under("encoder_k.", averaged(state)))
    usual, named, other = (loading.load(path, prefix=p) for p in (None, "encoder_q", "encoder_k"))
    assert named.record == usual.record
    assert usual.record.keys().isdisjoint({"prefix"})  # as in records of before there was a choice
    assert other.record == usual.record | {"prefix": "encoder_k."}
    again = loading.from_record(json.loads(json.dumps(other.record)))
    assert again.record == other.record
    np.testing.assert_array_equal(again.extract(pictures), other.extract(pictures))
    assert np.abs(again.extract(pictures) - usual.extract(pictures)).max() > 0
    network = merge_network(usual.dimension, 5, 4, units=2)
    trained = merge_captioner(network, {"encoder": usual.record})
    trained.check_features(usual.dimension, named.record)
    with pytest.raises(CaptioningError, match=r"these are of .*prefix encoder_k\."):
        trained.check_features(usual.dimension, other.record)
    for wrong in (3, ["encoder_k."]):
        with pytest.raises(ValueError, match=r"prefix \("):
            loading.from_record(other.record | {"prefix": wrong})


def test_published_weights_may_be_of_another_network(tiny_backbone, write, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    shapes = BACKBONES["tiny"].shapes()
    values = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    path = write("published.pth", toys.torchvision_state(values))
    source = sources.Source("ours", (path.as_uri(),), "imagenet", "MIT", None, "tiny", 128)
    monkeypatch.setitem(sources.SOURCES, "ours", source)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    encoder = loading.load("ours")
    assert encoder.dimension == sources.dimension("ours") == 128
    assert sources.dimension("random") == 2048
    assert loading.backbone("ours").network == "tiny"
    whole = np.zeros((1, 224, 224, 3), np.uint8)
    again = loading.from_record(encoder.record)
    np.testing.assert_array_equal(again.extract(whole), encoder.extract(whole))
