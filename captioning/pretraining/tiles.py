"""Pictures → the nine tiles of a jigsaw puzzle (Noroozi and Favaro 2016, arXiv 1603.09246)."""

import dataclasses

import numpy as np

from captioning.encoders.registry import TILES

BLOCK = 8  # pictures worked on at a time: what the processor's caches hold
JITTER = 2  # pixels that a colour channel is shifted by, at most, in each direction
# ITU-R BT.601 (.299, .587, .114) in 16 bits: float32 adds it up exactly, in whatever order
LUMINANCE = np.array([19595, 38470, 7471], np.float32) / 65536


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Side lengths in pixels, all derived from that of the picture.

    256 gives the paper's 225 / 75 / 64, 384 gives 339 / 113 / 96.

    Attributes:
        image: the whole picture.
        crop: the square that the 3×3 grid divides.
        cell: one square of the grid.
        tile: the part of a cell that is shown; the rest is the gap that hides the edges.
    """

    image: int

    def __post_init__(self):
        if self.image < 50:  # from there on the crop and the margin for the jitter always fit
            raise ValueError(f"expected pictures of at least 50 pixels, got {self.image}")

    @property
    def cell(self) -> int:
        return -(-self.image * 75 // 256)

    @property
    def crop(self) -> int:
        return 3 * self.cell

    @property
    def tile(self) -> int:
        return self.image // 4


class JigsawCreator:
    """Cuts puzzles out of a batch of pictures, all at once.

    A crop at random; in each cell of its 3×3 grid a tile at random; each colour channel shifted
    by up to 2 pixels, lest chromatic aberration give the place away; some pictures gray, lest
    colour do; each tile brought to zero mean and unit standard deviation, lest brightness do.

    Attributes:
        sizes: side lengths.
        gray: share of pictures shown without colour.
    """

    def __init__(self, image_size: int = 256, gray: float = 0.3):
        self.sizes, self.gray = Sizes(image_size), gray

    def __call__(
        self,
        images: np.ndarray,
        permutations: np.ndarray,
        rng: np.random.Generator,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Make one puzzle of each picture.

        Args:
            images: uint8 (n, size, size, 3).
            permutations: int (n, 9); tile t (row-major in the grid) goes to slot permutation[t].
            rng: source of everything random.
            out: where to put the puzzles, contiguous; None for a new array.

        Returns:
            float32 (n, 9, tile, tile, 3), in slot order, each tile normalised.
        """
        gray = rng.random(len(images)) < self.gray
        corners = self.corners(gray, rng)
        slots = np.argsort(permutations, axis=1)  # (n, 9) tile shown in each slot
        corners = np.take_along_axis(corners, slots[:, :, None, None], axis=1)
        side = self.sizes.tile
        shape = (len(images), TILES, side, side, 3)
        puzzles = np.empty(shape, np.float32) if out is None else out
        tiles = np.empty((min(len(images), BLOCK), TILES, side, side, 3), np.uint8)
        for start in range(0, len(images), BLOCK):
            block = slice(start, start + BLOCK)
            coloured, drained = np.flatnonzero(~gray[block]), np.flatnonzero(gray[block])
            tiles[coloured] = cut(images, start + coloured, corners[start + coloured], side)
            corners_of_all = corners[start + drained][:, :, :1]
            tiles[drained] = in_gray(cut(images, start + drained, corners_of_all, side))
            normalise(tiles[: len(gray[block])], out=puzzles[block])
        return puzzles

    def corners(self, gray: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw where the tiles of each picture begin.

        Args:
            gray: bool (n,); the channels of a gray picture are shifted together.

        Returns:
            int (n, 9, 3, 2): tile in grid order, channel, (row, column) of the upper left pixel.
        """
        n, sizes = len(gray), self.sizes
        slack = sizes.image - 2 * JITTER - sizes.crop
        crop = JITTER + rng.integers(slack + 1, size=(n, 1, 1, 2))
        place = rng.integers(sizes.cell - sizes.tile + 1, size=(n, TILES, 1, 2))
        shift = rng.integers(-JITTER, JITTER + 1, size=(n, 1, 3, 2))
        shift[gray] = shift[gray][:, :, :1]
        return crop + grid(sizes.cell)[:, None] + place + shift


def grid(cell: int) -> np.ndarray:
    """Upper left corners of the 3×3 cells, int (9, 2) (row, column), row-major."""
    return np.stack(np.divmod(np.arange(TILES), 3), axis=1) * cell


def cut(images: np.ndarray, rows: np.ndarray, corners: np.ndarray, tile: int) -> np.ndarray:
    """Copy squares out of pictures.

    Args:
        images: uint8 (n, size, size, 3).
        rows: int (m,): which pictures.
        corners: int (m, tiles, 1 or 3, 2): upper left (row, column), of all channels or of each.
        tile: side length in pixels.

    Returns:
        uint8 (m, tiles, tile, tile, 3).
    """
    size, width = images.shape[1], 3 * tile
    flat = np.ascontiguousarray(images).reshape(-1)
    # Every run of a tile's width is one item, because numpy copies items fast.
    runs = np.ndarray(flat.size - width + 1, f"V{width}", flat, strides=1)
    first = (rows[:, None, None] * size + corners[..., 0]) * (3 * size) + corners[..., 1] * 3
    lines = first[..., None] + np.arange(tile) * (3 * size)  # (m, tiles, 1 or 3, tile)
    parts = [runs[lines[:, :, channel]].view(np.uint8) for channel in range(lines.shape[2])]
    if len(parts) == 3:
        # Copying all three channels from the place of each and masking two of them out is several
        # times as fast as gathering single values.
        for part, own in zip(parts, np.identity(3, np.uint8) * 255, strict=True):
            part &= np.tile(own, tile * tile)
        parts[0] |= parts[1]
        parts[0] |= parts[2]
    return parts[0].reshape(*corners.shape[:2], tile, tile, 3)


def in_gray(tiles: np.ndarray) -> np.ndarray:
    """Give all channels the luminance, rounded: uint8 (…, 3) → uint8 (…, 3)."""
    values = tiles.astype(np.float32)
    red, green, blue = (values[..., channel] * LUMINANCE[channel] for channel in range(3))
    luminance = np.rint(red + green + blue).astype(np.uint8)
    gray = np.empty(tiles.shape, np.uint8)
    for channel in range(3):
        gray[..., channel] = luminance
    return gray


def normalise(tiles: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Bring each tile to zero mean and unit standard deviation; a constant tile becomes zeros.

    Args:
        tiles: uint8 (n, tiles, tile, tile, 3).
        out: float32 of the same shape, contiguous; overwritten and returned.
    """
    out[...] = tiles
    n, count, side = out.shape[:3]
    values = out.reshape(n, count, side * side * 3)
    # Added up row by row, for which BLAS takes one thread: the same seed, the same bits.
    lines = out.reshape(n, count, side, side * 3)
    values -= (np.einsum("...i->...", values) / values.shape[-1])[..., None]
    variance = np.vecdot(lines, lines).sum(axis=-1) / values.shape[-1]
    # Two different values in a tile, however big, are a variance of more than 1e-6.
    scale = np.where(variance > 1e-6, 1 / np.sqrt(np.maximum(variance, 1e-6)), 0)
    values *= scale[..., None]
    return out
