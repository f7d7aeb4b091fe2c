"""Scores of several runs side by side, as a Markdown table.

    python -m captioning.results work work/shuffled work/constant --split dev

Each folder holds a bleu-dev.json written by 3_BLEU.py or by captioning.baselines.
"""

from collections.abc import Iterable
from pathlib import Path

from captioning import artifacts, console, files
from captioning.errors import CaptioningError


def table(folders: Iterable[Path], split: str) -> str:
    """One row a folder: val_loss, then BLEU-1 to BLEU-4 under each protocol.

    Raises:
        CaptioningError: when a folder holds no scores of that split.
    """
    lines = [
        f"| {split} | val_loss | reference protocol, BLEU-1 / 2 / 3 / 4 "
        "| standard protocol, BLEU-1 / 2 / 3 / 4 |",
        "|---|---|---|---|",
    ]
    for folder in folders:
        path = folder / f"bleu-{split}.json"
        if not path.exists():
            raise CaptioningError(f"expected {path}, found none; make it with python 3_BLEU.py")
        scores = files.read_json(path)
        loss = artifacts.val_loss(Path(scores["model"])) if "model" in scores else None
        reference, standard = (
            " / ".join(f"{score:.3f}" for score in scores[protocol])
            for protocol in ("reference", "standard")
        )
        lines.append(f"| {folder.name} | {loss or '–'} | {reference} | {standard} |")
    return "\n".join(lines)


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    args = parser.parse_args()
    print(table(args.folders, args.split))


if __name__ == "__main__":
    console.run(main)
