"""The permutation sets: the groups are groups, and the distances are what is promised."""

import io
import itertools

import numpy as np
import pytest

from captioning.pretraining import permutation_sets
from captioning.runtime.errors import CaptioningError

PROMISED = (
    *((count, 9) for count in (2, 5, 9)),
    *((count, 8) for count in (10, 64, 72)),
    *((count, 7) for count in (73, 100, 109, 110, 333, 500, 504)),
    *((count, 6) for count in (505, 1000, 1337, 1512)),
    *((count, 5) for count in (1513, 2500, 3024)),
)
SCRIPT = "jigsaw/hamming_set/maximal_hamming.py"


def as_set(permutations: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, permutations.tolist()))


def plain_distances(permutations: np.ndarray) -> list[int]:
    pairs = itertools.combinations(permutations.tolist(), 2)
    return [sum(a != b for a, b in zip(*pair, strict=True)) for pair in pairs]


@pytest.mark.parametrize(
    ("group", "order", "transitive"),
    [
        (permutation_sets.affine_line, 72, 2),
        (permutation_sets.projective_line, 504, 3),
        (permutation_sets.semilinear_line, 1512, None),
    ],
)
def test_the_groups_are_closed_and_sharply_transitive(group, order, transitive):
    elements = group()
    members = as_set(elements)
    assert len(elements) == len(members) == order
    assert all(sorted(element) == list(range(9)) for element in members)
    rng = np.random.default_rng(0)
    for left in elements[rng.choice(order, 40, replace=False)]:
        assert as_set(left[elements]) == members  # left ∘ each
    if transitive:  # each ordered choice of places goes to each other by exactly one element
        images = as_set(elements[:, :transitive])
        assert len(images) == np.prod(range(9, 9 - transitive, -1)) == order


def test_gf8_is_a_field():
    product = permutation_sets.gf8_products()
    for a, b, c in itertools.product(range(8), repeat=3):
        assert product[a, b] == product[b, a]
        assert product[a, product[b, c]] == product[product[a, b], c]
        assert product[a, b ^ c] == product[a, b] ^ product[a, c]
    assert (np.sort(product[1:, 1:]) == np.arange(1, 8)).all()  # every element has an inverse
    assert product[2, 4] == 3  # x · x² = x³ = x + 1


def test_the_affine_plane_gives_3024_permutations_of_distance_5():
    permutations = permutation_sets.affine_plane_cosets()
    assert len(as_set(permutations)) == len(permutations) == 3024
    assert permutation_sets.distances(permutations)[0] == 5


def test_latin_squares_divide_a_group():
    group = permutation_sets.affine_line()
    squares = permutation_sets.latin_squares(group, group[:9])
    assert as_set(squares.reshape(-1, 9)) == as_set(group)
    for square in squares:
        assert (np.sort(square, axis=0) == np.arange(9)[:, None]).all()


@pytest.mark.parametrize(("count", "promised"), PROMISED)
def test_distances_are_the_promised_ones(count, promised):
    permutations = permutation_sets.choose(count)
    assert permutations.shape == (count, 9)
    assert len(as_set(permutations)) == count
    assert (np.sort(permutations) == np.arange(9)).all()
    minimum, mean = permutation_sets.distances(permutations)
    largest_minimum, largest_mean = permutation_sets.bounds(count)
    assert promised <= minimum <= largest_minimum
    assert mean == pytest.approx(largest_mean, abs=1e-9)
    if count <= 1512:
        assert minimum == largest_minimum


def test_beyond_the_constructed_sets_the_search_is_greedy():
    permutations = permutation_sets.choose(permutation_sets.STRUCTURED + 1)
    assert permutation_sets.distances(permutations)[0] >= 4


def test_seeds_give_other_sets_as_good():
    sets = [permutation_sets.choose(100, seed) for seed in range(4)]
    assert all(as_set(a) != as_set(b) for a, b in itertools.combinations(sets, 2))
    measured = [permutation_sets.distances(permutations) for permutations in sets]
    assert {minimum for minimum, _ in measured} == {7}
    assert np.allclose([mean for _, mean in measured], 8.08)
    assert (sets[0] == permutation_sets.choose(100, 0)).all()


def test_distances_agree_with_a_loop_over_pairs():
    permutations = np.array([np.random.default_rng(i).permutation(9) for i in range(60)])
    plain = plain_distances(permutations)
    assert permutation_sets.distances(permutations) == (min(plain), pytest.approx(np.mean(plain)))


def test_distances_see_repeated_permutations():
    assert permutation_sets.distances(np.tile(np.arange(9), (2, 1))) == (0, 0)


def test_bounds_are_the_known_ones():
    limits = {9: 9, 10: 8, 72: 8, 73: 7, 504: 7, 505: 6, 3024: 6, 3025: 5, 362880: 2}
    assert {count: permutation_sets.bounds(count)[0] for count in limits} == limits
    assert permutation_sets.bounds(9)[1] == 9
    assert permutation_sets.bounds(100)[1] == pytest.approx(8.0800)
    assert permutation_sets.bounds(701)[1] == pytest.approx(8.0114, abs=5e-5)


@pytest.mark.parametrize("count", range(2, 7))
def test_the_mean_bound_holds_for_small_sets(count):
    _, largest = permutation_sets.bounds(count)
    rng = np.random.default_rng(count)
    for _ in range(50):
        permutations = np.array([rng.permutation(9) for _ in range(count)])
        assert np.mean(plain_distances(permutations)) <= largest + 1e-9


def test_even_permutations():
    transposition, rotation = np.arange(9), np.roll(np.arange(9), 1)
    transposition[[0, 1]] = 1, 0
    found = permutation_sets.is_even(np.array([np.arange(9), transposition, rotation]))
    assert found.tolist() == [True, False, True]  # a cycle of odd length is even


def test_the_script_writes_what_loadtxt_reads(tmp_path, script):
    lines = script(SCRIPT, cwd=tmp_path).stdout.splitlines()
    assert lines[0] == "minimum distance 7 (at most 7 is possible)"
    assert lines[1] == "mean distance 8.0800 (at most 8.0800 is possible)"
    assert lines[-1].startswith("wrote maxHammingSet_of_100.txt")
    permutations = np.loadtxt(tmp_path / "maxHammingSet_of_100.txt", dtype=int)
    assert (permutations == permutation_sets.load(tmp_path / "maxHammingSet_of_100.txt")).all()
    assert (permutations == permutation_sets.choose(100)).all()


@pytest.mark.parametrize("arguments", [("1",), ("362881",), ("many",), ("9", "--seed", "-1")])
def test_wrong_usage_is_refused(tmp_path, script, arguments):
    script(SCRIPT, *arguments, cwd=tmp_path, check=2)
    assert not list(tmp_path.iterdir())


SET = permutation_sets.choose(12)


def as_text(rows: np.ndarray, separator: str = " ", end: str = "\n") -> str:
    return "".join(separator.join(map(str, row)) + end for row in rows)


def saved_by_numpy(rows: np.ndarray, **keywords) -> bytes:
    file = io.BytesIO()
    np.save(file, rows, **keywords)
    return file.getvalue()


def saved_as_text(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savetxt(file, rows)  # 0.000000000000000000e+00
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        as_text(SET).encode(),
        as_text(SET).encode("utf-8-sig"),  # as Windows' Notepad
        as_text(SET, end="\r\n").encode(),
        as_text(SET, "\t").encode(),
        as_text(SET, ",").encode(),
        as_text(SET, ", ").encode("utf-8-sig"),
        as_text(SET, ";").encode(),
        as_text(SET, ",", ",\n").encode(),
        b"# permutations\n\n" + as_text(SET).encode(),
        as_text(SET + 1).encode(),
        as_text(SET + 1, ",").encode(),
        saved_as_text(SET),
        saved_by_numpy(SET),
        saved_by_numpy(SET + 1),
        saved_by_numpy(SET.astype(np.uint8)),
        saved_by_numpy(np.asfortranarray(SET.astype(">f8"))),
    ],
)
def test_load_reads_a_set_as_others_write_it(tmp_path, data):
    path = tmp_path / "set.npy"  # the name decides nothing
    path.write_bytes(data)
    rows = permutation_sets.load(path)
    assert rows.dtype.kind == "i"
    np.testing.assert_array_equal(rows, SET)


LINE = "0 1 2 3 4 5 6 7 8\n"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "found no numbers"),
        (b"\n# nothing\n", "found no numbers"),
        (b"a b", "expected lines of nine numbers .*'a'"),
        (f"{LINE}0 1 2 3 4 5 6 7 7\n".encode(), "found 0 1 2 3 4 5 6 7 7 in permutation 2"),
        (f"{LINE}1 2 3 4 5 6 7 8 9\n".encode(), "found 1 2 3 4 5 6 7 8 9 in permutation 2"),
        (b"0 1 2 3 4 5 6 7 8.5\n", r"found 0 1 2 3 4 5 6 7 8\.5 in permutation 1"),
        (b"nan 1 2 3 4 5 6 7 8\n", "found nan 1 2 3 4 5 6 7 8 in permutation 1"),
        (b"0 1 2 3 4 5 6 7 1e300\n", r"found 0 1 2 3 4 5 6 7 1e\+300 in permutation 1"),
        (b"0 1 2\n", r"found numbers of shape \(1, 3\)"),
        (f"{LINE}0 1 2\n".encode(), "expected lines of nine numbers .* columns"),
        (2 * LINE.encode(), "repeated"),
        (LINE.encode("utf-16"), "as in UTF-16"),
        (f"# Ränge\n{LINE}".encode("cp1252"), "line 1: expected UTF-8 text, found byte 0xe4"),
        (saved_by_numpy(SET)[:-1], "expected lines of nine numbers"),
        (saved_by_numpy(SET)[:20], "expected lines of nine numbers"),
        (saved_by_numpy(SET.T), r"found numbers of shape \(9, 12\)"),
        (saved_by_numpy(SET[None]), r"found numbers of shape \(1, 12, 9\)"),
        (saved_by_numpy(np.array(3)), r"found numbers of shape \(\)"),
        (saved_by_numpy(SET.astype("O"), allow_pickle=True), "expected lines of nine numbers"),
        (saved_by_numpy(SET.astype("U1")), "expected lines of nine numbers .*an array of <U1"),
        (saved_by_numpy(SET).replace(b"(12, 9)", b"((((((("), "expected lines of nine numbers"),
        (saved_by_numpy(SET).replace(b"(12, 9)", b"(9**9,)"), "expected lines of nine numbers"),
        (
            saved_by_numpy(SET).replace(b"12, 9), }   ", b"1200000, 9)}"),
            "expected lines of nine numbers",
        ),
    ],
)
def test_load_refuses_what_is_no_set_of_permutations(tmp_path, data, found):
    path = tmp_path / "set.txt"
    path.write_bytes(data)
    with pytest.raises(CaptioningError, match=found) as caught:
        permutation_sets.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
