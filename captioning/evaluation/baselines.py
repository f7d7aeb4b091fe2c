"""What scores look like when the picture is not used: shuffled features, one constant caption.

    python -m captioning.evaluation.baselines shuffled --workdir work      → work/shuffled/
    python -m captioning.evaluation.baselines constant --workdir work      → work/constant/

`shuffled` gives every image the features of another one; train and score on that folder with
scripts 2 and 3. `constant` says for every image the train caption that scores best on train.
"""

import collections
import math
from collections.abc import Mapping, Sequence

import numpy as np

from captioning.data.splits import OVERLAPS, SPLITS, split_file_name
from captioning.data.text import END, START, ngrams
from captioning.pipeline import arguments, artifacts
from captioning.pipeline.inputs import Inputs
from captioning.pipeline.score import reported
from captioning.runtime import console, files


def shuffle(features: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The same features with every one at another image (a single random cycle)."""
    keys = list(features)
    cycle = np.random.default_rng(seed).permutation(len(keys))
    return {keys[i]: features[keys[j]] for i, j in zip(cycle, np.roll(cycle, 1), strict=True)}


def best_constant(descriptions: Mapping[str, Sequence[str]], ids: Sequence[str]) -> str:
    """The caption among those of `ids` with the highest BLEU-4 when said for each of them.

    The score is that of the reference protocol (start and end tokens count). A constant caption
    makes corpus BLEU cheap: its clipped matches need only how many images hold each n-gram how
    often.
    """
    images = [[_marked(caption) for caption in descriptions[key]] for key in ids]
    holding = _holding(images)
    nearest = _nearest_lengths(images)
    candidates = sorted({tuple(words) for captions in images for words in captions})
    best = max(candidates, key=lambda words: _constant_bleu(words, holding, nearest, len(ids)))
    return " ".join(best[1:-1])


def _marked(caption: str) -> list[str]:
    return [START, *caption.split(), END]


def _holding(images: Sequence[Sequence[Sequence[str]]]) -> collections.Counter:
    """(n-gram, k) → images with a reference that holds the n-gram at least k times."""
    holding = collections.Counter()
    for captions in images:
        most = collections.Counter()
        for words in captions:
            most |= ngrams(words)
        holding.update((gram, k) for gram, count in most.items() for k in range(1, count + 1))
    return holding


def _nearest_lengths(images: Sequence[Sequence[Sequence[str]]]) -> dict[int, int]:
    """Hypothesis length → total of the reference lengths nearest to it, ties to the shorter."""
    lengths = [sorted({len(words) for words in captions}) for captions in images]
    longest = max(options[-1] for options in lengths)
    return {
        length: sum(min(options, key=lambda option: abs(option - length)) for options in lengths)
        for length in range(longest + 1)
    }


def _constant_bleu(
    words: Sequence[str], holding: collections.Counter, nearest: Mapping[int, int], images: int
) -> float:
    matches, totals = [0] * 4, [0] * 4
    for gram, count in ngrams(words).items():
        matches[len(gram) - 1] += sum(holding[gram, k] for k in range(1, count + 1))
        totals[len(gram) - 1] += count * images
    if not all(matches):
        return 0.0
    brevity = min(0.0, 1 - nearest[len(words)] / (len(words) * images))
    precision = sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / 4
    return math.exp(brevity + precision)


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("baseline", choices=("shuffled", "constant"))
    parser.add_argument("--split", choices=("dev", "test"), default="dev", help="for constant")
    arguments.add_workplace(parser, draws="the shuffling")
    args = parser.parse_args()
    folder = args.workdir / args.baseline
    if args.baseline == "shuffled":
        features, encoder, seen = artifacts.load_features(args.workdir)
        record = {"encoder": (encoder or {}) | {"name": "shuffled", "shuffle_seed": args.seed}}
        record |= {artifacts.SEEN: sorted(seen)} if seen is not None else {}
        written = artifacts.save_features(folder, shuffle(features, args.seed), record)
        lists = map(split_file_name, SPLITS)  # where they were drawn
        kept = (artifacts.DESCRIPTIONS, artifacts.DESCRIPTIONS_RECORD, OVERLAPS, *lists)
        for name in kept:
            if (args.workdir / name).exists():
                written.append(files.copy(args.workdir / name, folder / name))
    else:
        inputs = Inputs.read(args.dataset, args.workdir, args.split_seed)
        descriptions, splits = inputs.descriptions, inputs.splits
        caption = best_constant(descriptions, [k for k in splits["train"] if k in descriptions])
        said = {k: [*caption.split(), END] for k in splits[args.split] if k in descriptions}
        print(f"constant caption: {caption}")
        result = {"caption": caption, "split": args.split, "images": len(said)}
        result |= reported(said, inputs)
        written = [files.write_json(folder / f"bleu-{args.split}.json", result)]
    console.written(written)


if __name__ == "__main__":
    console.run(main)
