"""Settings by name: what a text becomes, what is refused, and how they are listed."""

import dataclasses
import json
from typing import Literal

import pytest

from captioning.runtime import settings
from captioning.runtime.errors import CaptioningError
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Example:
    units: int = setting(128, "width of the layer", least=1)
    dropout: float = setting(0.5, "share dropped", least=0, below=1)
    rate: float = setting(1e-3, "of learning", above=0)
    tied: bool = setting(False, "one matrix for both")
    shape: Literal["cosine", "constant"] = setting("cosine", "of the schedule")
    clip: float | None = setting(None, "largest norm of a gradient", above=0)
    widths: tuple[int, ...] = setting((64, 128), "of the blocks", least=1)
    title: str = "plain"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("units=512", "units", 512),
        ("dropout = 0", "dropout", 0.0),
        ("rate=3e-4", "rate", 3e-4),
        ("tied=yes", "tied", True),
        ("tied=False", "tied", False),
        ("shape=constant", "shape", "constant"),
        ("clip=5", "clip", 5.0),
        ("clip=none", "clip", None),
        ("widths=32, 64,96", "widths", (32, 64, 96)),
        ("title=a = b", "title", "a = b"),
    ],
)
def test_a_text_becomes_a_value_of_the_field_s_type(text, name, value):
    found = settings.parse(Example, [text])
    assert getattr(found, name) == value
    assert type(getattr(found, name)) is type(value)
    assert found == dataclasses.replace(Example(), **{name: value})  # the others are untouched


def test_the_last_of_two_counts_and_defaults_give_way():
    assert settings.parse(Example) == Example()
    assert settings.parse(Example, ["units=3", "units=4"]).units == 4
    assert settings.parse(Example, [], units=7).units == 7
    assert settings.parse(Example, ["units=4"], units=7, rate=1.0) == Example(4, rate=1.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("unit=4", r"one of the settings units, dropout, .*title, found 'unit'"),
        ("units", r"as name=value, found 'units'; known names: units, dropout"),
        ("units=many", "expected a whole number, at least 1 for units, found 'many'"),
        ("units=2.5", "whole number"),
        ("units=0", "at least 1 for units, found '0'"),
        ("dropout=1", "a number, at least 0, below 1 for dropout, found '1'"),
        ("dropout=nan", "found 'nan'"),
        ("rate=inf", "above 0 for rate, found 'inf'"),
        ("tied=maybe", "true or false for tied"),
        ("shape=linear", "one of cosine, constant for shape, found 'linear'"),
        ("clip=-1", "a number or none, above 0 for clip"),
        ("widths=1,0", "whole numbers with commas between, at least 1 for widths"),
        ("widths=", "whole numbers with commas between"),
    ],
)
def test_mistakes_get_one_sentence(text, sentence):
    with pytest.raises(CaptioningError, match=sentence) as caught:
        settings.parse(Example, [text])
    assert "\n" not in str(caught.value)


def test_settings_of_several_kinds_go_by_one_option():
    @dataclasses.dataclass(frozen=True)
    class Recipe:
        rate: float = setting(0.1, "of learning", above=0)

    kinds, given = (Recipe, Example), ["rate=.5", "units=3"]
    assert settings.parse_all(kinds, given, units=2, other=7) == [Recipe(0.5), Example(3, rate=0.5)]
    assert settings.parse_all(kinds, [], units=2) == [Recipe(), Example(2)]
    with pytest.raises(CaptioningError, match=r"of rate, units, .*, found 'breadth=1'; correct"):
        settings.parse_all(kinds, ["breadth=1"])


def test_what_was_recorded_as_json_is_restored_and_checked():
    example = Example(units=7, clip=None, widths=(3, 4), title="a=b")
    written = json.dumps(dataclasses.asdict(example))
    assert settings.restore(Example, json.loads(written), "a") == example
    for wrong in ({"units": "wide"}, {"units": 10**400}, {"dropout": 2}, {"another": 1}):
        with pytest.raises(CaptioningError, match=rf"m\.keras: .*{next(iter(wrong))}"):
            settings.restore(Example, wrong, "m.keras")


def test_a_description_has_a_line_a_field_that_parse_reads():
    lines = settings.describe(Example).splitlines()
    assert lines[0].split(maxsplit=1) == ["units=128", "width of the layer"]
    assert [line.split()[0] for line in lines] == [
        "units=128", "dropout=0.5", "rate=0.001", "tied=false", "shape=cosine", "clip=none",
        "widths=64,128", "title=plain",
    ]  # fmt: skip
    assert settings.parse(Example, [line.split()[0] for line in lines]) == Example()
