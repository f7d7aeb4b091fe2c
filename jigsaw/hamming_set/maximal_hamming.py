"""Choose N permutations of the nine tiles that differ as much as possible from one another.

    python jigsaw/hamming_set/maximal_hamming.py 100

writes maxHammingSet_of_100.txt: one permutation of 0 … 8 a line, as numpy.loadtxt reads it. Any
two of them differ in 9 places up to N = 9, in 8 or more up to 72, 7 up to 504, 6 up to 1,512 and
5 up to 3,024; beyond, the set is found greedily. The mean distance is the largest possible at
every N, and so is the minimum up to 1,512.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository

from captioning.pretraining.permutation_sets import *  # noqa: F403  importable from here, as they were
from captioning.pretraining.permutation_sets import ALL, STRUCTURED, bounds, choose, distances
from captioning.runtime import console, files


def number(text: str) -> int:
    """`argparse` type: how many permutations of nine tiles there can be."""
    value = int(text)
    if not 2 <= value <= ALL:
        raise argparse.ArgumentTypeError(f"expected a number from 2 to {ALL:,}, got {text}")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = console.parser(__doc__)
    parser.add_argument(
        "N", type=number, nargs="?", default=100, help="of permutations (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: maxHammingSet_of_N.txt"
    )
    parser.add_argument(
        "--seed", type=console.natural, default=0, help="random seed (default: %(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    output = arguments.output or Path(f"maxHammingSet_of_{arguments.N}.txt")
    permutations = choose(arguments.N, arguments.seed)
    minimum, mean = distances(permutations)
    largest_minimum, largest_mean = bounds(arguments.N)
    print(f"minimum distance {minimum} (at most {largest_minimum} is possible)")
    print(f"mean distance {mean:.4f} (at most {largest_mean:.4f} is possible)")
    if arguments.N > STRUCTURED:
        print(f"found greedily, as more than {STRUCTURED:,} were asked for")
    files.write_text(output, "".join(f"{' '.join(map(str, row))}\n" for row in permutations))
    console.written([output])


if __name__ == "__main__":
    console.run(main)
