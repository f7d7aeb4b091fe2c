"""Keras's files as data: arrays and records are read, traps are refused."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from captioning.formats import archives
from captioning.runtime.errors import CaptioningError

RECORD = "ours.json"


@pytest.fixture
def network():
    pixels = keras.Input((3,))
    x = keras.layers.Dropout(0.5)(pixels)  # whose state is no weight
    return keras.Model(pixels, keras.layers.Dense(2)(x))


@pytest.fixture
def path(network, tmp_path):
    return archives.save(tmp_path / "model.keras", network, RECORD, {"a": 1})


def test_weights_come_back(network, path):
    other = keras.models.clone_model(network)
    with archives.opened(path, RECORD) as (_, record, file):
        assert record == {"a": 1} == archives.record(path, RECORD)
        assert sorted(array.shape for array in archives.arrays(file).values()) == [(2,), (3, 2)]
        archives.fill(path, file, other, "ours", "")
    for found, expected in zip(other.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("units", [1, 3])
def test_weights_of_another_shape_are_refused(path, units):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    refused = pytest.raises(ValueError, match="its 2 arrays are not those of ours")
    with archives.opened(path, RECORD) as (_, _, file), refused:
        archives.fill(path, file, other, "ours", "")


def test_weights_that_are_not_finite_are_refused(network, tmp_path):
    network.layers[-1].set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    path = archives.save(tmp_path / "nan.keras", network, RECORD, {})
    refused = pytest.raises(CaptioningError, match=r"found 6 of 6 .*/kernel; train again")
    with archives.opened(path, RECORD) as (_, _, file), refused:
        archives.fill(path, file, network, "ours", "train again")


@pytest.mark.parametrize("name", [RECORD, "another.json"])
def test_what_unpacks_to_far_more_than_its_size_is_refused(network, tmp_path, name):
    path = tmp_path / "bomb.keras"
    network.save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, json.dumps({"a": " " * 10_000_000}))
    refused = pytest.raises(CaptioningError, match="unpacks to far more than its size")
    with refused, archives.opened(path, RECORD):
        pass
    assert archives.record(path, RECORD) == {}


def test_texts_among_the_arrays_are_refused(tmp_path):
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        file["a"] = ["text"] * 5
        with pytest.raises(CaptioningError, match="holds texts where a model has numbers, at a;"):
            archives.refuse_traps(tmp_path / "texts.h5", file)
