"""One epoch of captioner training: whole captions beside one prefix a sample, as the reference.

    python benchmarks/captioner.py [--precision bfloat16]

On made-up captions with Flickr8k's vocabulary and lengths, and the reference's network. Both train
on a stated number of words to predict, and the time of an epoch over Flickr8k's 306,404 is
extrapolated from it. The arithmetic is that of the matrix products, forward and twice that
backward.
"""

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from benchmarks import common
from captioning.runtime import console

TARGETS, UNITS, BATCHES = 306_404, 256, {"fast": 60, "reference": 60}


def operations(vocabulary: int) -> int:
    """Additions and multiplications for one word to predict, forward and backward."""
    lstm, decoder, scores = 2 * UNITS * 4 * UNITS, UNITS * UNITS, UNITS * vocabulary
    return 3 * 2 * (lstm + decoder + scores)


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()

    from captioning.objectives.train import Training

    data, ways, targets = common.caption_data(images=1500), {}, {}
    same = [f"units={UNITS}", "embedding_width=0", "decoder_width=0"]
    for recipe, count in BATCHES.items():
        size = {"fast": 64, "reference": 32}[recipe]
        plan = Training.plan(
            data, recipe, changed=same, batch_size=size, precision=arguments.precision
        )
        model = plan.model(steps=1000)
        batches, _ = plan.batches(data)
        chosen = [batches[i] for i in itertools.islice(range(len(batches)), count)]
        targets[recipe] = sum(int((target > 0).sum()) for _, target in chosen)
        ways[recipe] = lambda model=model, chosen=chosen: [
            model.train_on_batch(*batch) for batch in chosen
        ]
    ways["peak"] = product = common.MatrixProduct(arguments.precision)
    seconds = common.take_turns(ways, rounds=3)

    rate = product.operations / seconds["peak"]
    epochs = {recipe: seconds[recipe] / targets[recipe] * TARGETS for recipe in BATCHES}
    share = operations(data.vocabulary_size) * TARGETS / epochs["fast"] / rate
    print(f"{arguments.precision}; measured matrix peak {rate / 1e9:.0f} GFLOP/s")
    for recipe, epoch in epochs.items():
        print(
            f"{recipe:10} {epoch:6.1f} s an epoch without dev (extrapolated from "
            f"{targets[recipe]:,} of {TARGETS:,} words), {epochs['reference'] / epoch:5.1f} ×"
        )
    print(f"fast reaches {share:.0%} of the peak")


if __name__ == "__main__":
    console.run(main)
