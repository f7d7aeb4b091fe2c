"""N permutations of the nine tiles that differ as much as possible from one another.

Any two of them differ in 9 places up to N = 9, in 8 or more up to 72, 7 up to 504, 6 up to 1,512
and 5 up to 3,024; beyond, the set is found greedily. The mean distance is the largest possible at
every N, and so is the minimum up to 1,512.
"""

import itertools
import math
import os
import warnings
from collections.abc import Iterator

import numpy as np

from captioning.data import text
from captioning.encoders.registry import TILES
from captioning.runtime.errors import CaptioningError, refusing

ALL = math.factorial(TILES)  # 362,880
STRUCTURED = 3024  # size of the largest set that is constructed, not searched for


def choose(count: int, seed: int = 0) -> np.ndarray:
    """`count` distinct permutations of 0 … 8, far from one another: int (count, 9).

    They are rows of Latin squares. The nine rows of a square differ everywhere; over all squares
    each tile takes each slot equally often, give or take one, and so the mean distance is the
    largest possible. The squares come from groups of large minimum distance. Another seed takes
    other squares and renames tiles and slots, which changes no distance.
    """
    rng = np.random.default_rng(seed)
    squares = next(squares for squares in _pools() if len(squares) * TILES >= count)
    squares = rng.permutation(squares)[: math.ceil(count / TILES)]
    chosen = rng.permutation(squares, axis=1).reshape(-1, TILES)[:count]
    slots, tiles = rng.permutation(TILES), rng.permutation(TILES)
    return slots[chosen][:, tiles]


def _pools() -> Iterator[np.ndarray]:
    """Yield ever larger sets of Latin squares, of ever smaller minimum distance."""
    shifts = affine_line()[:TILES]
    yield shifts[None]  # 9 permutations, distance 9
    yield latin_squares(affine_line(), shifts)  # 72, distance 8
    projective = projective_line()
    cycle = powers(next(p for p in projective if len(powers(p)) == TILES))
    yield latin_squares(projective, cycle)  # 504, distance 7
    yield latin_squares(semilinear_line(), cycle)  # 1,512, distance 6
    yield latin_squares(affine_plane_cosets(), shifts)  # 3,024, distance 5
    squares = latin_squares(np.array(list(itertools.permutations(range(TILES)))), shifts)
    even = squares[is_even(squares[:, 0])]
    yield apart(even, 4)
    yield even  # two even permutations never differ in just 2 places
    yield squares


def affine_line() -> np.ndarray:
    """AGL(1,9), x ↦ a·x + b over GF(9): int (72, 9), sharply 2-transitive, distance 8.

    GF(9) is GF(3)[i] with i² = −1; the number 3u + v stands for v + u·i. The first nine
    permutations are the translations x ↦ x + b.
    """
    a, b, x = np.meshgrid(np.arange(1, 9), np.arange(9), np.arange(9), indexing="ij")
    (a_i, a_1), (b_i, b_1), (x_i, x_1) = (divmod(number, 3) for number in (a, b, x))
    imaginary = (a_1 * x_i + a_i * x_1 + b_i) % 3
    real = (a_1 * x_1 - a_i * x_i + b_1) % 3
    return (3 * imaginary + real).reshape(-1, TILES)


def projective_line() -> np.ndarray:
    """PGL(2,8), x ↦ (a·x + b) / (c·x + d) over GF(8) and infinity: int (504, 9).

    Sharply 3-transitive, so two of its elements agree in 2 places at most: distance 7. GF(8) is
    0 … 7, added by exclusive or and multiplied modulo x³ + x + 1; infinity is 8.
    """
    product = gf8_products()
    inverse = np.argmax(product == 1, axis=1)
    scaled = [(a, b, c, 1) for a, b, c in itertools.product(range(8), repeat=3)]
    scaled += [(a, b, 1, 0) for a, b in itertools.product(range(8), repeat=2)]
    a, b, c, d = np.array(scaled).T[:, :, None]
    regular = (product[a, d] != product[b, c])[:, 0]
    x = np.arange(8)
    above, below = product[a, x] ^ b, product[c, x] ^ d
    finite = np.where(below == 0, 8, product[above, inverse[below]])
    infinite = np.where(c == 0, 8, product[a, inverse[c]])
    return np.hstack([finite, infinite])[regular]


def semilinear_line() -> np.ndarray:
    """PΓL(2,8), the projective line with the automorphism x ↦ x² of GF(8): int (1512, 9).

    Its distance is 6 (Bereg et al. 2015, arXiv 1511.04494).
    """
    squaring = np.append(np.diagonal(gf8_products()), 8)
    group = projective_line()
    return np.concatenate([group, group[:, squaring], group[:, squaring[squaring]]])


def gf8_products() -> np.ndarray:
    """Multiplication table of GF(8) = GF(2)[x] / (x³ + x + 1): int (8, 8)."""
    left, right = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    product = np.zeros_like(left)
    for bit in (4, 2, 1):  # Horner's rule
        product = (product << 1) ^ np.where(product & 4, 0b1011, 0)
        product ^= np.where(right & bit, left, 0)
    return product


def affine_plane_cosets() -> np.ndarray:
    """Seven cosets of AGL(2,3), the affine maps of the plane over GF(3): int (3024, 9).

    The group has 432 elements of distance 6. A search over 7-cycles found that the group times
    the powers of this one keeps a distance of 5.
    """
    point = np.stack(np.divmod(np.arange(9), 3))  # (2, 9)
    matrices = np.array(list(itertools.product(range(3), repeat=4))).reshape(-1, 2, 2)
    determinants = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]
    linear = matrices[determinants % 3 != 0] @ point  # (48, 2, 9)
    moved = (linear[:, None] + point.T[:, :, None]) % 3  # (48, 9, 2, 9)
    group = (3 * moved[:, :, 0] + moved[:, :, 1]).reshape(-1, TILES)
    cycle = powers(np.array([1, 4, 5, 6, 2, 3, 0, 7, 8]))
    return group[:, cycle].reshape(-1, TILES)


def powers(permutation: np.ndarray) -> np.ndarray:
    """The permutation's cyclic group, identity first: int (order, 9)."""
    group = [np.arange(TILES)]
    while (following := permutation[group[-1]]).tolist() != group[0].tolist():
        group.append(following)
    return np.array(group)


def latin_squares(permutations: np.ndarray, regular: np.ndarray) -> np.ndarray:
    """Divide permutations into Latin squares, the cosets of a subgroup.

    Args:
        permutations: int (n, 9), a union of such cosets.
        regular: int (9, 9), a group in which one element takes each point to each other.

    Returns:
        int (n / 9, 9, 9). In each coset one permutation takes 0 to 0 and stands for it.
    """
    return regular[:, permutations[permutations[:, 0] == 0]].swapaxes(0, 1)


def apart(squares: np.ndarray, distance: int) -> np.ndarray:
    """Take squares in turn, except those with a row nearer than `distance` to one taken."""
    taken, left = [], squares.astype(np.int8)
    while len(left):
        taken.append(left[0])
        # One row of each will do: the others have the same distances in another order.
        places = [(left[:, 0] == row).sum(axis=1) for row in left[0]]
        left = left[np.max(places, axis=0) <= TILES - distance]
    return np.array(taken, int)


def is_even(permutations: np.ndarray) -> np.ndarray:
    """Whether the number of inversions is even: (n, 9) → bool (n,)."""
    pairs = itertools.combinations(range(TILES), 2)
    return sum(permutations[:, i] > permutations[:, j] for i, j in pairs) % 2 == 0


def distances(permutations: np.ndarray) -> tuple[int, float]:
    """Minimum and mean Hamming distance of all pairs."""
    count = len(permutations)
    one_hot = (permutations[:, :, None] == np.arange(TILES)).reshape(count, -1).astype(np.float32)
    nearest = 0.0
    for start in range(0, count, 1000):
        agreeing = one_hot[start : start + 1000] @ one_hot[start:].T
        np.fill_diagonal(agreeing, 0)
        nearest = max(nearest, agreeing.max())
    in_place = one_hot.sum(axis=0, dtype=float)  # (81,) how often each tile takes each slot
    agreeing_pairs = (in_place * (in_place - 1)).sum() / 2
    return TILES - int(nearest), TILES - agreeing_pairs / math.comb(count, 2)


def bounds(count: int) -> tuple[int, float]:
    """The largest minimum and mean distance that `count` permutations can have.

    At most 9! / (d − 1)! permutations have a minimum distance of d. The mean is largest when
    every tile takes every slot equally often, give or take one.
    """
    largest = max(d for d in range(1, TILES + 1) if ALL // math.factorial(d - 1) >= count)
    often, more = divmod(count, TILES)
    agreeing = more * math.comb(often + 1, 2) + (TILES - more) * math.comb(often, 2)
    return largest, TILES - TILES * agreeing / math.comb(count, 2)


def load(path: str | os.PathLike) -> np.ndarray:
    """Read a file of distinct permutations of nine tiles: int (N, 9), of 0 … 8.

    One permutation a line, its numbers apart by blanks, commas or semicolons, in UTF-8; or an
    array of that shape in a `.npy`. The tiles may count from 0 or from 1.

    Raises:
        CaptioningError: if it holds anything else.
    """
    with refusing(path, "lines of nine numbers"):
        rows = _numbers(path)
    if rows.ndim != 2 or rows.shape[1] != TILES or not len(rows):
        raise _refusal(path, f"numbers of shape {rows.shape}" if rows.size else "no numbers")
    if len(rows) > ALL:
        raise _refusal(path, f"{len(rows):,} of them, more than there are")
    first = int(rows.min() == 1)  # as MATLAB counts
    faulty = np.any(np.sort(rows) != np.arange(TILES) + first, axis=1)
    if faulty.any():
        row = np.flatnonzero(faulty)[0]
        numbers = " ".join(f"{number:.12g}" for number in rows[row])
        raise _refusal(path, f"{numbers} in permutation {row + 1}")
    if len(np.unique(rows, axis=0)) < len(rows):
        raise CaptioningError(
            f"expected permutations that differ in {path}, found repeated ones; "
            "make the file with jigsaw/hamming_set/maximal_hamming.py"
        )
    return rows.astype(int) - first


def _numbers(path: str | os.PathLike) -> np.ndarray:
    """The numbers of a file as they are: int or float, of any shape."""
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            rows = np.load(path, mmap_mode="r", allow_pickle=False)  # no larger than the file
            if rows.dtype.kind not in "iuf":
                raise ValueError(f"an array of {rows.dtype}")
            return np.asarray(rows)
    lines = text.read_text(path).translate({ord(","): " ", ord(";"): " "}).splitlines()
    with warnings.catch_warnings(action="ignore"):  # of an empty file
        return np.loadtxt(lines, ndmin=2)


def _refusal(path: str | os.PathLike, found: str) -> CaptioningError:
    return CaptioningError(
        f"expected a permutation of 0 … 8 (or 1 … 9) on each line of {path}, found {found}; "
        "make the file with jigsaw/hamming_set/maximal_hamming.py"
    )
