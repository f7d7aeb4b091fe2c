"""Where a decoder looked, over the picture, a panel a word."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from captioning.report.contact_sheet import contact_sheet
from captioning.runtime.errors import CaptioningError

_FAINTEST = 0.12  # how much is left of the picture where a decoder did not look


def attention_page(
    picture: Image.Image, words: Sequence[str], maps: np.ndarray, width: int = 240
) -> Image.Image:
    """The picture with its caption, then for each word where the decoder looked.

    The picture is as it is where the weight of a word is highest and pale where it is low. Encoders
    squeeze a picture into a square, so the places of a map are stretched over the whole picture.

    Args:
        picture: RGB.
        words: T of them.
        maps: float32 (T, k), for each word the weights of the places of a square grid, in rows from
            the top left.
        width: of a panel in pixels.

    Returns:
        The page, RGB.

    Raises:
        CaptioningError: if k places make no square, or there is one only.
    """
    picture = picture.convert("RGB")
    picture.thumbnail((width, width), Image.Resampling.LANCZOS)
    panels = [
        (_shone_on(picture, weights), word)
        for word, weights in zip(words, _square(maps), strict=True)
    ]
    return contact_sheet([(picture, " ".join(words)), *panels], width=width)


def _shone_on(picture: Image.Image, weights: np.ndarray) -> Image.Image:
    """The picture where the weights (h, w) are highest, and paler towards white elsewhere."""
    light = Image.fromarray(np.float32(weights / weights.max()))
    light = np.asarray(light.resize(picture.size, Image.Resampling.BICUBIC))  # overshoots a little
    light = _FAINTEST + (1 - _FAINTEST) * light.clip(0, 1)[..., None]
    return Image.fromarray(np.uint8(255 - (255 - np.float32(picture)) * light))


def _square(maps: np.ndarray) -> np.ndarray:
    """Maps (T, k) as (T, h, w)."""
    places = maps.shape[1]
    side = math.isqrt(places)
    if places == 1 or side**2 != places:
        raise CaptioningError(
            "expected weights of the places of a square grid, to draw where the decoder looked, "
            f"found {places} a word; use a captioner that was trained on the features of a grid"
        )
    return maps.reshape(-1, side, side)
