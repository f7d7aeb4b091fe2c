"""Permutation sets: Latin squares from groups beside the usual greedy search over all 9!.

python benchmarks/permutations.py [N=1000]
"""

import itertools
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import numpy as np

from captioning.pretraining import permutation_sets
from captioning.runtime import console


def greedy(count: int, seed: int = 0) -> np.ndarray:
    """Take, each time, the permutation with the largest mean distance to those taken."""
    everything = np.array(list(itertools.permutations(range(9))), np.int8)
    total = np.zeros(len(everything), np.int32)
    chosen = [np.random.default_rng(seed).integers(len(everything))]
    while len(chosen) < count:
        total += (everything != everything[chosen[-1]]).sum(axis=1, dtype=np.int32)
        total[chosen[-1]] = -(2**30)
        chosen.append(total.argmax())
    return everything[chosen]


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("count", metavar="N", nargs="?", type=console.positive_int, default=1000)
    count = parser.parse_args().count
    print(f"{count} permutations, {platform.machine()}, {os.cpu_count()} cores")
    taken = []
    for name, choose in (("greedy over 9!", greedy), ("groups", permutation_sets.choose)):
        start = time.perf_counter()
        permutations = choose(count)
        taken.append(time.perf_counter() - start)
        minimum, mean = permutation_sets.distances(permutations)
        print(f"{name:15}{taken[-1]:8.3f} s   minimum distance {minimum}, mean {mean:.4f}")
    print(f"{taken[0] / taken[1]:.0f} times as fast")


if __name__ == "__main__":
    main()
