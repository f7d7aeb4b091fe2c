"""`runtime.registry`: names are cheap, what they stand for is imported when it is used."""

import json
import subprocess
import sys

import pytest

from captioning.runtime.errors import CaptioningError
from captioning.runtime.registry import Registry


def letters():
    return Registry(
        "letter",
        {
            "b": ("json:loads", "reads"),
            "a": ("json:dumps", "writes"),
            "gone": ("captioning.no_such_module:Thing", "breaks where it is used"),
        },
    )


def test_names_and_descriptions_stand_in_the_order_given_and_import_nothing():
    registry = letters()
    assert list(registry) == ["b", "a", "gone"]
    assert len(registry) == 3
    assert "gone" in registry
    assert "c" not in registry
    assert registry.description("gone") == "breaks where it is used"


def test_an_entry_is_imported_when_it_is_used():
    assert letters()["b"] is json.loads
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        letters()["gone"]


def test_an_unknown_name_is_one_sentence_with_the_known_names():
    registry = letters()
    for use in (registry.__getitem__, registry.description, registry.remove):
        with pytest.raises(CaptioningError) as error:
            use("c")
        assert str(error.value) == "'c' is no letter; known are: b, a, gone"
    assert registry.get("c") is None  # a Mapping like any other


def test_entries_are_added_and_removed():
    registry = letters()
    registry.add("c", "json:JSONDecoder", "by name")
    registry.add("d", len, "the thing itself")
    assert registry["c"] is json.JSONDecoder
    assert registry["d"] is len
    assert list(registry) == ["b", "a", "gone", "c", "d"]
    with pytest.raises(ValueError, match="letter d is registered already"):
        registry.add("d", min, "another")
    registry.remove("d")
    assert "d" not in registry


def test_registries_are_cheap_to_import():
    """So that an option's choices and help cost nothing."""
    modules = "captioning.data.layouts.registry, captioning.scores.registry"
    heavy = "{'numpy', 'keras', 'tensorflow', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert not {heavy}"], check=True)
