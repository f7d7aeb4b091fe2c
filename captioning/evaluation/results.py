"""Scores of several runs side by side, as a Markdown table.

    python -m captioning.evaluation.results work work/shuffled work/constant --split dev
    python -m captioning.evaluation.results work/random simclr=work/seed0,work/seed1,work/seed2

Each folder holds a bleu-dev.json written by 3_BLEU.py or by captioning.evaluation.baselines.
Folders joined under a name, the same work with other seeds, make one row: mean ± sample standard
deviation.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captioning.pipeline import checkpoints
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError
from captioning.scores.registry import COCO, SCORES

_MISSING = "–"


def table(rows: Iterable[tuple[str, Sequence[Path]]], split: str) -> str:
    """One line a row: val_loss, a column for each of `SCORES`, and each of `COCO` that runs have.

    Args:
        rows: a name and the folders of its runs; the standard deviation is given from two runs on.
        split: whose scores.

    What one of the runs has no figure for shows as –.

    Raises:
        CaptioningError: when a folder holds no scores of that split.
    """
    read = [
        (name, [_read(folder / f"bleu-{split}.json") for folder in paths]) for name, paths in rows
    ]
    runs = [run for _, found in read for run in found]
    coco = {n: score for n, score in COCO.items() if any(n in run["coco"] for run in runs)}
    heads = [split, "val_loss", *(score.column for score in (*SCORES.values(), *coco.values()))]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, found in read:
        # files from before a score was computed lack it
        figures = [
            [
                [run["val_loss"]],
                *(score.figures(run.get(n)) for n, score in SCORES.items()),
                *(score.figures(run["coco"].get(n)) for n, score in coco.items()),
            ]
            for run in found
        ]
        columns = zip(*figures, strict=True)
        cells = [" / ".join(map(_joined, zip(*column, strict=True))) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    """The scores of one run; its val_loss, or None, and {} for coco where they are not there."""
    if not path.exists():
        raise CaptioningError(f"expected {path}, found none; make it with python 3_BLEU.py")
    found = files.read_json(path)
    if (
        not isinstance(found, dict)
        or not SCORES.keys() & found.keys()
        or not isinstance(found.get("coco", {}), dict)
    ):
        raise CaptioningError(
            f"expected scores ({', '.join(SCORES)}) in {path}, found none of them; make it again "
            "with python 3_BLEU.py"
        )
    val_loss = checkpoints.val_loss(Path(found["model"])) if "model" in found else None
    return {"coco": {}} | found | {"val_loss": val_loss}


def _joined(figures: Sequence[float | None]) -> str:
    if None in figures:
        return _MISSING
    mean = f"{statistics.fmean(figures):.3f}"
    return mean if len(figures) == 1 else f"{mean} ± {statistics.stdev(figures):.3f}"


def row(text: str) -> tuple[str, list[Path]]:
    """'work/random' → a row of one run, named random; 'name=folder,folder' → of several."""
    name, joined, folders = text.partition("=")
    if not joined or Path(text).is_dir():
        return Path(text).absolute().name, [Path(text)]
    return name, list(map(Path, folders.split(",")))


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("rows", type=row, nargs="+", metavar="FOLDER|NAME=FOLDER,FOLDER,…")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    args = parser.parse_args()
    print(table(args.rows, args.split))


if __name__ == "__main__":
    console.run(main)
