"""The table of several runs."""

import pytest

from captioning.evaluation import results
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

FIGURES = {"reference": [0.5, 0.4, 0.3, 0.2], "standard": [0.4, 0.3, 0.2, 0.1234]}


@pytest.fixture
def run(tmp_path):
    """Write the scores of a run into a folder of that name."""

    def write(name, val_loss=None, **scores):
        model = {"model": f"x/model-ep001-loss4.000-val_loss{val_loss}.keras"} if val_loss else {}
        files.write_json(tmp_path / name / "bleu-dev.json", FIGURES | model | scores)
        return tmp_path / name

    return write


def last_line(*rows):
    return results.table(map(results.row, rows), "dev").splitlines()[-1]


def test_a_folder_is_a_row(run):
    folder = run("seed0", "3.900", cider=0.2, rouge_l=0.3)
    figures = "0.500 / 0.400 / 0.300 / 0.200 | 0.400 / 0.300 / 0.200 / 0.123"
    assert last_line(str(folder)) == f"| seed0 | 3.900 | {figures} | 0.200 | 0.300 |"
    with pytest.raises(CaptioningError, match="bleu-test"):
        results.table([("seed0", [folder])], "test")


def test_seeds_are_joined_to_mean_and_sample_deviation(run):
    first = run("a", "3.600", standard=[0.4, 0.3, 0.2, 0.1], cider=0.2, rouge_l=0.3)
    second = run("b", "3.800", standard=[0.4, 0.3, 0.2, 0.2], cider=0.4, rouge_l=0.3)
    third = run("c", "3.700", standard=[0.4, 0.3, 0.2, 0.3], cider=0.3, rouge_l=0.3)
    assert last_line(f"simclr={first},{second},{third}") == (
        "| simclr | 3.700 ± 0.100 "
        "| 0.500 ± 0.000 / 0.400 ± 0.000 / 0.300 ± 0.000 / 0.200 ± 0.000 "
        "| 0.400 ± 0.000 / 0.300 ± 0.000 / 0.200 ± 0.000 / 0.200 ± 0.100 "
        "| 0.300 ± 0.100 | 0.300 ± 0.000 |"
    )


def test_what_a_run_lacks_is_left_open(run):
    """Neither a mean over the others nor an error: an older file, a baseline without a model."""
    old, new = run("old", "3.600"), run("new", cider=0.4, rouge_l=0.3)
    assert last_line(str(old)).endswith("| – | – |")
    joined = last_line(f"both={old},{new}")
    assert joined.startswith("| both | – | 0.500 ± 0.000")
    assert joined.endswith("| – | – |")


def test_no_score_is_needed(tmp_path):
    files.write_json(tmp_path / "run" / "bleu-dev.json", {"cider": 0.25})
    assert (
        last_line(str(tmp_path / "run"))
        == "| run | – | – / – / – / – | – / – / – / – | 0.250 | – |"
    )


def test_a_folder_with_an_equals_sign_in_its_name_is_a_folder(run):
    assert last_line(str(run("lr=1,2", "3.600"))).startswith("| lr=1,2 | 3.600 |")


@pytest.mark.parametrize("content", [[], {}, {"model": "x.keras"}])
def test_a_file_of_something_else_is_refused(content, tmp_path):
    files.write_json(tmp_path / "bleu-dev.json", content)
    with pytest.raises(
        CaptioningError, match=r"expected scores \(reference, standard, cider, rouge_l\) in"
    ):
        results.table([("run", [tmp_path])], "dev")


def test_the_coco_protocol_has_columns_where_a_run_has_it(run):
    coco = {"bleu": [0.6, 0.4, 0.3, 0.2], "cider": 0.5, "rouge_l": 0.45, "signature": "coco+…"}
    with_coco, without = run("with", coco=coco), run("without")
    rows = list(map(results.row, (str(with_coco), str(without))))
    heading, _, first, second = results.table(rows, "dev").splitlines()
    assert heading.endswith("| coco protocol, BLEU-1 / 2 / 3 / 4 | coco CIDEr | coco ROUGE-L |")
    assert first.endswith("| 0.600 / 0.400 / 0.300 / 0.200 | 0.500 | 0.450 |")
    assert second.endswith("| – / – / – / – | – | – |")
    assert "coco" not in results.table(rows[1:], "dev")
    with pytest.raises(CaptioningError, match="expected scores"):
        last_line(str(run("damaged", coco=[0.5])))
