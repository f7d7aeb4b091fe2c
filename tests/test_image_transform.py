"""Puzzles: what the vectorised code cuts is what a loop over tiles would cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.pretraining import tiles as tiles_module
from captioning.pretraining.tiles import JigsawCreator, Sizes

IDENTITY = np.arange(9)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(19, 64, 64, 3), dtype=np.uint8)


def plain_normalised(tile: np.ndarray) -> np.ndarray:
    tile = tile.astype(np.float64)
    deviation = tile.std()
    return (tile - tile.mean()) / deviation if deviation else np.zeros_like(tile)


def plain_puzzle(image, gray, corners, permutation, side) -> np.ndarray:
    """One puzzle, tile by tile and channel by channel."""
    puzzle = np.zeros((9, side, side, 3))
    for tile in range(9):
        pixels = np.empty((side, side, 3), np.uint8)
        for channel in range(3):
            y, x = corners[tile, channel]
            pixels[:, :, channel] = image[y : y + side, x : x + side, channel]
        if gray:
            luminance = pixels.astype(int) @ [19595, 38470, 7471]  # BT.601 as Pillow has it
            pixels[:] = np.rint(luminance / 65536)[:, :, None]
        puzzle[permutation[tile]] = plain_normalised(pixels)
    return puzzle


@pytest.mark.parametrize(
    ("image", "crop", "cell", "tile"), [(256, 225, 75, 64), (384, 339, 113, 96)]
)
def test_sizes_follow_from_the_picture(image, crop, cell, tile):
    sizes = Sizes(image)
    assert (sizes.crop, sizes.cell, sizes.tile) == (crop, cell, tile)


@given(st.integers(50, 1200))
def test_every_size_leaves_room_for_gap_and_jitter(image):
    sizes = Sizes(image)
    assert sizes.tile < sizes.cell
    assert sizes.crop == 3 * sizes.cell <= image - 2 * tiles_module.JITTER


def test_a_picture_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 50"):
        Sizes(40)


def test_puzzles_equal_those_of_a_loop_over_tiles(images):
    creator = JigsawCreator(64)
    permutations = np.array([np.random.default_rng(i).permutation(9) for i in range(len(images))])
    puzzles = creator(images, permutations, np.random.default_rng(5))
    assert puzzles.shape == (19, 9, 16, 16, 3)
    assert puzzles.dtype == np.float32
    rng = np.random.default_rng(5)
    gray = rng.random(len(images)) < 0.3
    corners = creator.corners(gray, rng)
    assert 0 < gray.sum() < len(gray)
    for i, puzzle in enumerate(puzzles):
        plain = plain_puzzle(images[i], gray[i], corners[i], permutations[i], 16)
        assert np.allclose(puzzle, plain, atol=1e-5)


def test_tile_t_sits_in_slot_permutation_t(images):
    creator = JigsawCreator(64)
    permutation = np.random.default_rng(1).permutation(9)
    in_order, shuffled = (
        creator(images, np.tile(p, (len(images), 1)), np.random.default_rng(2))
        for p in (IDENTITY, permutation)
    )
    for tile in range(9):
        assert (shuffled[:, permutation[tile]] == in_order[:, tile]).all()


@settings(max_examples=30)
@given(size=st.integers(50, 140), seed=st.integers(0, 2**32))
def test_putting_tiles_back_reproduces_the_crop(size, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(256, size=(1, size, size, 3), dtype=np.uint8)
    creator, sizes = JigsawCreator(size), Sizes(size)
    corners = creator.corners(np.array([False]), rng)
    tiles = tiles_module.cut(image, np.array([0]), corners, sizes.tile)[0]
    canvas, painted = np.zeros_like(image[0]), np.zeros(image[0].shape, int)
    for tile, places in zip(tiles, corners[0], strict=True):
        for channel, (y, x) in enumerate(places):
            window = np.s_[y : y + sizes.tile, x : x + sizes.tile, channel]
            canvas[window] = tile[:, :, channel]
            painted[window] += 1
    assert painted.max() == 1  # tiles never overlap
    assert painted.sum() == 9 * sizes.tile**2 * 3  # and lie inside the picture
    assert (canvas == np.where(painted, image[0], 0)).all()


def test_places_are_uniform_and_reach_both_ends():
    creator, sizes, count = JigsawCreator(256), Sizes(256), 4000
    corners = creator.corners(np.zeros(count, bool), np.random.default_rng(0))
    shift = corners[:, :, 1] - corners[:, :, 0]  # channels of one picture move together
    assert (shift == shift[:, :1]).all()
    assert set(np.unique(shift)) == set(range(-4, 5))
    between = corners[:, 1, 0, 1] - corners[:, 0, 0, 1] - sizes.cell  # difference of two places
    gap = sizes.cell - sizes.tile
    assert (between.min(), between.max()) == (-gap, gap)
    assert corners.min() == 0
    assert corners.max() == 256 - sizes.tile
    one = corners[:, 0, 0, 0]  # crop + place + shift, each uniform
    expected = 2 + (256 - 4 - 225) / 2 + gap / 2
    assert one.mean() == pytest.approx(expected, abs=4 * one.std() / np.sqrt(count))


def test_gray_pictures_have_equal_channels_and_their_share(images):
    permutations = np.tile(IDENTITY, (len(images), 1))
    for share in (0.0, 1.0):
        puzzles = JigsawCreator(64, gray=share)(images, permutations, np.random.default_rng(0))
        equal = (puzzles == puzzles[..., :1]).all(axis=(1, 2, 3, 4))
        assert equal.all() if share else not equal.any()
    many = np.zeros((3000, 64, 64, 3), np.uint8)
    many[:, ::2, :, 0] = 200
    puzzles = JigsawCreator(64)(many, np.tile(IDENTITY, (3000, 1)), np.random.default_rng(0))
    gray = (puzzles[..., 0] == puzzles[..., 1]).all(axis=(1, 2, 3)).mean()
    assert gray == pytest.approx(0.3, abs=0.04)  # more than four standard deviations


@pytest.mark.parametrize("size", [64, 256, 384])
@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_constant_tiles_give_zeros(size, gray):
    colours = np.random.default_rng(0).integers(256, size=(12, 1, 1, 3), dtype=np.uint8)
    constant = np.broadcast_to(colours if gray else colours[..., :1], (12, size, size, 3))
    puzzles = JigsawCreator(size, gray)(
        constant, np.tile(IDENTITY, (12, 1)), np.random.default_rng(0)
    )
    assert (puzzles == 0).all()


def test_the_faintest_tile_is_normalised():
    tiles = np.full((1, 1, 96, 96, 3), 254, np.uint8)
    tiles[0, 0, 50, 50, 1] = 255
    out = tiles_module.normalise(tiles, out=np.empty(tiles.shape, np.float32))
    assert np.allclose(out[0, 0], plain_normalised(tiles[0, 0]), atol=2e-3, rtol=1e-3)
    assert out.std() == pytest.approx(1, abs=1e-3)


def test_photographs_are_normalised(photographs):
    image = photographs[0][:256, :256][None]
    puzzle = JigsawCreator(256)(image, IDENTITY[None], np.random.default_rng(0))
    assert np.allclose(puzzle.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    assert np.allclose(puzzle.std(axis=(2, 3, 4)), 1, atol=1e-5)
