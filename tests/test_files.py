"""Atomic writing."""

import pytest

from captioning import files
from captioning.errors import CaptioningError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "value.json"
    files.write_json(path, {"a": "é"})
    with pytest.raises(KeyboardInterrupt), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert files.read_json(path) == {"a": "é"}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_folders_are_made_and_the_suffix_kept(tmp_path):
    path = tmp_path / "a" / "b" / "picture.png"
    with files.atomic(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert path.read_bytes() == b"x"


def test_broken_json_is_one_sentence(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CaptioningError, match=r"a\.json is not a JSON file"):
        files.read_json(tmp_path / "a.json")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")  # FIPS 180-2, example 1
