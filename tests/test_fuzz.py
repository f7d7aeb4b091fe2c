"""Any bytes whatever: captions or a sentence, a picture or a reason, a captioner or a sentence."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_captioner import ENCODER, write_keras_2
from test_pickles import EXAMPLES, assert_one_sentence, mutated, nothing_runs, write
from toys import merge_captioner, merge_network

from captioning.data import images, splits, text
from captioning.data.layouts import tables
from captioning.decoders import captioner
from captioning.runtime.errors import CaptioningError

pytestmark = pytest.mark.fuzz

CAPTION_FILES = [
    b"a.jpg#0\tA dog , running .\na.jpg#1\tTwo dogs\nb.png#0\tThe sea\n",
    b'image,caption\na.jpg,A dog\nb.jpg,"A ""big"" dog, running"\n\n',
    b"a.jpg#0\tA dog\na.#0\tThe sea\na.#0\tThe sea\n",
    "\ufeffé.jpg#0\tÉtoile 犬\r\nno tab\r\r\n#1\t\n.jpg\tx".encode(),
]
texts = st.text(st.sampled_from('ab.#01,"\t\n\r \ufeff\u2028é犬\0')).map(str.encode)


def complaint_or(function, path):
    """What a reader returns, or None for one sentence."""
    try:
        return function(path)
    except CaptioningError as error:
        assert_one_sentence(str(error), path)


@given(data=st.one_of(mutated(CAPTION_FILES), texts, texts.map(b"image,caption\n".__add__)))
@settings(max_examples=2 * EXAMPLES, deadline=None)
def test_any_bytes_are_captions_or_a_sentence(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "captions.txt", data)
    if found := complaint_or(tables.parse_captions, path):
        captions, complaints, _ = found
        for complaint in complaints:
            assert_one_sentence(complaint, path)
        for kind in text.TEXTS:
            cleaned, _ = text.clean_all(captions, kind)
            assert text.parse_descriptions(text.format_descriptions(cleaned)) == cleaned


@given(data=st.one_of(mutated(CAPTION_FILES), texts))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes_are_image_ids_or_a_sentence(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "split.txt", data)
    ids = complaint_or(splits.read_split, path)
    assert ids is None or (ids and len(ids) == len(set(ids)) and all(ids))


def pictures() -> list[bytes]:
    """One small picture of each kind."""
    x, y = np.meshgrid(np.arange(12), np.arange(9))
    colour = Image.fromarray(np.stack([20 * x, 25 * y, 9 * x + y], axis=-1).astype(np.uint8))
    sixteen = Image.fromarray((5000 * x).astype(np.uint16))
    kinds = {
        "PNG": (colour, colour.convert("RGBA"), colour.quantize(8), sixteen, colour.convert("1")),
        "JPEG": (colour, colour.convert("CMYK"), colour.convert("L")),
        "TIFF": (colour, sixteen, colour.convert("F"), colour.convert("LAB")),
    }
    kinds |= dict.fromkeys(
        ("GIF", "WEBP", "BMP", "PPM", "ICO", "TGA", "PCX", "JPEG2000"), (colour,)
    )
    files = []
    for kind, group in kinds.items():
        for image in group:
            file = io.BytesIO()
            image.save(file, kind)
            files.append(file.getvalue())
    return files


@given(data=mutated(pictures()))
@settings(max_examples=2 * EXAMPLES, deadline=None)
def test_any_bytes_are_a_picture_or_a_reason(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "picture.jpg", data)
    try:
        array = images.load_array(path, 8)
        assert (array.shape, array.dtype) == ((8, 8, 3), np.uint8)
    except images.UnreadableImage as error:
        assert_one_sentence(f"skipped the file {path}, which is a picture no more: {error}", path)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A captioner's `.keras` as its members, and as a Keras 2 `.h5`."""
    folder = tmp_path_factory.mktemp("honest")
    network = merge_network(6, 9, 5, units=4)
    record = {"encoder": ENCODER, "vocabulary_hash": "abc", "settings": {}}
    path = captioner.save(folder / "model.keras", merge_captioner(network, record))
    write_keras_2(folder / "model.h5", network)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return members, (folder / "model.h5").read_bytes()


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


def check_captioner(path):
    with nothing_runs():
        found = complaint_or(captioner.load, path)
    if found:
        assert found.max_length <= 1000
        assert isinstance(found.record, dict)
        found.check_features(found.dimension, None)


@given(
    data=st.data(), member=st.sampled_from(["config.json", "captioner.json", "model.weights.h5"])
)
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_any_member_of_an_archive_is_a_captioner_or_a_sentence(
    tmp_path_factory, honest, data, member
):
    members, _ = honest
    changed = members | {member: data.draw(mutated([members[member]]))}
    check_captioner(write(tmp_path_factory.getbasetemp() / "m.keras", archive(changed)))


@given(data=st.data())
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_any_archive_is_a_captioner_or_a_sentence(tmp_path_factory, honest, data):
    whole = archive(honest[0])
    check_captioner(write(tmp_path_factory.getbasetemp() / "m.keras", data.draw(mutated([whole]))))


@given(data=st.data())
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_any_h5_is_a_captioner_or_a_sentence(tmp_path_factory, honest, data):
    path = write(tmp_path_factory.getbasetemp() / "m.h5", data.draw(mutated([honest[1]])))
    check_captioner(path)


json_values = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**70, 1.5, "", "Dense", "lstm", "relu"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


def parts(node, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from parts(child, (*path, key))


@given(data=st.data(), legacy=st.booleans())
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_any_description_of_a_network_is_a_captioner_or_a_sentence(
    tmp_path_factory, honest, data, legacy
):
    """One value of the configuration or the record becomes another."""
    members, h5 = honest
    folder = tmp_path_factory.getbasetemp()
    path = write(folder / "m.h5", h5)
    member = data.draw(st.sampled_from(["config.json", "captioner.json"]))
    if legacy:
        with h5py.File(path) as file:
            value = json.loads(file.attrs["model_config"])
    else:
        value = json.loads(members[member])
    *above, last = data.draw(st.sampled_from(list(parts(value))[1:]))
    node = value
    for key in above:
        node = node[key]
    if data.draw(st.booleans()):
        node[last] = data.draw(json_values)
    else:
        del node[last]
    if legacy:
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = json.dumps(value)
    else:
        path = write(folder / "m.keras", archive(members | {member: json.dumps(value).encode()}))
    check_captioner(path)


def test_the_honest_ones_load(honest, tmp_path):
    assert captioner.load(write(tmp_path / "m.keras", archive(honest[0]))).dimension == 6
    assert captioner.load(write(tmp_path / "m.h5", honest[1])).dimension == 6
    keras.backend.clear_session()
