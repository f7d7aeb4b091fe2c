"""How good features are, without training a captioner: a Markdown table, a row for each.

    python -m captioning.evaluation.probe --dataset flickr8k pixels colours work/features.pkl
    python -m captioning.evaluation.probe --dataset flickr8k random/features.pkl simclr/features.pkl

Beside features.pkl files two names make features here and now: `pixels` (the picture at 32×32) and
`colours` (a histogram). Everything is trained on the train split and measured on dev:

- each dev image takes the captions of the train image nearest to it (cosine): BLEU-4 of the
  cleaned protocol, CIDEr, and the share of the content words in its own captions that it gets;
- which of the 200 most frequent content words a dev image's captions hold is told by a vote of
  its nearest train images and by a linear probe: mean average precision over the words.

The row `chance` takes the captions of any train image; its mean average precision is the mean
frequency of the words.
"""

import functools
import time
from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np

from captioning.data import dataset, images, text
from captioning.data.captions import stack_features, usable_ids
from captioning.data.splits import find_splits
from captioning.pipeline import arguments, artifacts
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError
from captioning.scores.registry import PROBES

_SIDE = 64  # pixels at which pictures are read
_BINS = 8  # of the histogram, a channel


def columns() -> dict[str, str]:
    """Key of a figure → heading of its column, of all probes."""
    return {key: head for probe in PROBES.values() for key, head in probe.columns.items()}


def _pictures(source: dataset.Dataset, ids: Set[str]) -> dict[str, np.ndarray]:
    """Image id → uint8 (64, 64, 3), of the images in `ids` that can be read."""
    groups = source.image_ids.group(source.list_pictures())
    paths = [paths[0] for key, paths in groups.items() if key in ids]
    pictures = {}
    with console.Progress(len(paths), "pictures") as progress:
        for batch in images.batches(paths, _SIDE, 64):
            pictures |= zip(map(source.image_ids, batch.paths), batch.pixels, strict=True)
            progress.update(len(batch.paths) + len(batch.unreadable))
    return pictures


def _downsampled(picture: np.ndarray) -> np.ndarray:
    """uint8 (64, 64, 3) → float32 (1, 3072): the picture at 32×32, from 0 to 1."""
    half = _SIDE // 2
    means = picture.reshape(half, 2, half, 2, 3).mean(axis=(1, 3), dtype=np.float32)
    return means.reshape(1, -1) / 255


def _histogram(picture: np.ndarray) -> np.ndarray:
    """uint8 (64, 64, 3) → float32 (1, 512): square root of the share of the pixels in each bin.

    The square root makes the cosine of two histograms their Bhattacharyya coefficient.
    """
    red, green, blue = np.moveaxis(picture.astype(np.intp) * _BINS // 256, -1, 0)
    bins = (red * _BINS + green) * _BINS + blue
    shares = np.bincount(bins.ravel(), minlength=_BINS**3) / bins.size
    return np.sqrt(shares, dtype=np.float32)[None]


MADE_HERE = {"pixels": _downsampled, "colours": _histogram}


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument(
        "features", nargs="+", metavar="FEATURES.pkl", help="or one of: " + ", ".join(MADE_HERE)
    )
    arguments.add_workplace(parser)
    args = parser.parse_args()
    for name in args.features:  # found out now, not after the rows before it
        if name not in MADE_HERE and not Path(name).is_file():
            raise CaptioningError(
                f"expected a file of features or one of {', '.join(MADE_HERE)}, found no file "
                f"{name}; make it with python 1_data_preprocessor.py"
            )
    source = dataset.of(args.dataset)
    descriptions, _ = text.clean_all(source.captions)
    splits = find_splits(source, args.workdir, args.split_seed, descriptions)
    ids = {split: splits.ids[split] for split in ("train", "dev")}  # test has no business here

    @functools.cache
    def pictures() -> dict[str, np.ndarray]:
        return _pictures(source, {key for keys in ids.values() for key in keys})

    from captioning.scores import probes  # scikit-learn takes a second to load

    heads = ["features", *columns().values(), "seconds"]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for name in ("chance", *args.features):
        start = time.monotonic()
        if name == "chance":
            features = descriptions
        elif name in MADE_HERE:
            features = {key: MADE_HERE[name](picture) for key, picture in pictures().items()}
        else:
            features = artifacts.read_features(Path(name))
        usable = {split: usable_ids(split, ids[split], descriptions, features) for split in ids}
        own = [[descriptions[key] for key in keys] for keys in usable.values()]
        if name == "chance":
            figures = probes.chance(*own)
        else:
            matrices = [stack_features(features, keys) for keys in usable.values()]
            figures = probes.scores(*matrices, *own)
        console.result(_line(name, figures, time.monotonic() - start))


def _line(name: str, figures: Mapping[str, float], seconds: float) -> str:
    path = Path(name)
    label = path.absolute().parent.name if path.name == artifacts.FEATURES else path.stem
    cells = [_cell(figures[key]) if key in figures else "–" for key in columns()]
    return f"| {' | '.join([label, *cells, f'{seconds:.1f}'])} |"


def _cell(figure: float) -> str:
    return str(figure) if isinstance(figure, int) else f"{figure:.3f}"


if __name__ == "__main__":
    console.run(main)
