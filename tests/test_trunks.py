"""Files of encoders: damaged or hostile ones are refused."""

import shutil

import h5py
import numpy as np
import pytest

from captioning import encoders
from captioning.errors import CaptioningError


def hostile(untrained, folder, change):
    """An encoder's file with something changed behind `trunks.save`'s back."""
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


@pytest.mark.parametrize(
    "change",
    [
        texts,
        many_records,
        link,
        lambda file: file.attrs.update({"encoder": "[]"}),
        lambda file: file.attrs.update({"encoder": '{"backbone": "tiny", "size": 1e9}'}),
        lambda file: file.create_dataset("more", (10**6, 10**6)),
        lambda file: file.create_dataset("more", data=np.zeros(3)),
        lambda file: file.move("conv1/kernel", "conv1/stranger"),
    ],
)
def test_a_hostile_encoder_is_refused(change, untrained, tmp_path):
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5"):
        encoders.load(hostile(untrained, tmp_path, change))


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
        encoders.load(path)


def test_half_a_file_is_refused(untrained, tmp_path):
    path = hostile(untrained, tmp_path, lambda file: None)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CaptioningError, match=r"encoder\.weights\.h5"):
        encoders.load(path)
