"""Random views of pictures: numbers drawn by numpy, applied to whole batches on the accelerator.

What a view looks like depends on its numbers alone, so that the same seed gives the same views on
every Keras backend and after every interruption. The recipe is SimCLR's (Chen et al. 2020,
https://arxiv.org/abs/2002.05709, appendix A): random resized crop, flip, colour jitter, gray, blur.

Two liberties make it two matrix products and one colour transform a picture. Hue turns about the
gray axis of YIQ instead of HSV, which makes all of the jitter linear; and blur, which commutes with
everything linear, is part of the resampling.
"""

import dataclasses

import numpy as np
from keras import ops

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: how much gray is in red, green and blue
_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_BLUR = (0.1 / 224, 2.0 / 224)  # standard deviation of the Gaussian, as a share of the view's side


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How much views of one picture may differ; the defaults are SimCLR's for ImageNet.

    Attributes:
        area: least and largest share of the picture that a crop covers.
        aspect: least and largest width / height of a crop.
        colour: strength of the jitter: brightness, contrast and saturation are scaled by up to
            1 ± .8 · colour, hue turns by up to .2 · colour of the circle.
        jitter, gray, blur: shares of the views that are jittered, gray, blurred.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    colour: float = 1.0
    jitter: float = 0.8
    gray: float = 0.2
    blur: float = 0.5

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Numbers of `count` views, all float32: what `apply` takes.

        Returns:
            box: (count, 4), left, top, right and bottom as shares of the picture; left and right
                change places in half of the views, which flips them.
            colour: (count, 3, 3), maps RGB to RGB.
            gray: (count,), how much of the picture's mean gray is added to it (contrast).
            blur: (count,), standard deviation in views' sides; 0 is no blur.
        """
        colour, gray = self._colours(rng, count)
        sigma = rng.uniform(*_BLUR, count) * (rng.random(count) < self.blur)
        numbers = {"box": self._boxes(rng, count), "colour": colour, "gray": gray, "blur": sigma}
        return {key: value.astype(np.float32) for key, value in numbers.items()}

    def _boxes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        area = rng.uniform(*self.area, count)
        aspect = np.exp(rng.uniform(*np.log(self.aspect), count))
        width = np.minimum(np.sqrt(area * aspect), 1)
        height = np.minimum(np.sqrt(area / aspect), 1)
        left, top = rng.random(count) * (1 - width), rng.random(count) * (1 - height)
        sides = np.stack([left, left + width])
        sides = np.where(rng.random(count) < 0.5, sides[::-1], sides)
        return np.stack([sides[0], top, sides[1], top + height], axis=1)

    def _colours(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Brightness, contrast, saturation, hue, gray, in this order, as one map and one offset."""
        reach = 0.8 * self.colour
        brightness, contrast, saturation = rng.uniform(max(0, 1 - reach), 1 + reach, (3, count))
        turn = 2 * np.pi * rng.uniform(-0.2 * self.colour, 0.2 * self.colour, count)
        still = rng.random(count) >= self.jitter
        brightness[still] = contrast[still] = saturation[still] = 1
        turn[still] = 0
        saturation[rng.random(count) < self.gray] = 0  # gray has no hue that could turn
        # in YIQ saturation scales the plane of the colours and hue turns it
        cosine, sine = saturation * np.cos(turn), saturation * np.sin(turn)
        turned = np.zeros((count, 3, 3))
        turned[:, 0, 0] = 1
        turned[:, 1, 1] = turned[:, 2, 2] = cosine
        turned[:, 1, 2], turned[:, 2, 1] = -sine, sine
        colour = np.linalg.inv(_YIQ) @ turned @ _YIQ
        scale = brightness * contrast
        return colour * scale[:, None, None], brightness * (1 - contrast)


def apply(pixels, numbers: dict, size: int):
    """Views of a batch of pictures: one each.

    Args:
        pixels: uint8 or float in [0, 255], (n, height, width, 3).
        numbers: as `Augmentation.draw` returns them.
        size: height and width of the views.

    Returns:
        float32 (n, size, size, 3) in [0, 1].
    """
    height, width = pixels.shape[1:3]
    left, top, right, bottom = (numbers["box"][:, i] for i in range(4))
    rows = resampling(top, bottom, height, size, numbers["blur"])  # (n, size, height)
    columns = resampling(left, right, width, size, numbers["blur"])  # (n, size, width)
    x = ops.cast(pixels, "float32") / 255
    x = ops.matmul(rows, ops.reshape(x, (-1, height, width * 3)))
    x = ops.transpose(ops.reshape(x, (-1, size, width, 3)), (0, 2, 1, 3))
    x = ops.matmul(columns, ops.reshape(x, (-1, width, size * 3)))
    x = ops.transpose(ops.reshape(x, (-1, size, size, 3)), (0, 2, 1, 3))
    mean = ops.mean(ops.matmul(x, ops.convert_to_tensor(LUMA[:, None], "float32")), axis=(1, 2, 3))
    flat = ops.reshape(x, (-1, size * size, 3))
    flat = ops.matmul(flat, ops.transpose(numbers["colour"], (0, 2, 1)))
    x = ops.reshape(flat, (-1, size, size, 3))
    return ops.clip(x + (numbers["gray"] * mean)[:, None, None, None], 0, 1)


def resampling(start, end, old: int, new: int, blur):
    """Matrices that resample lines of `old` pixels to `new`, between two places, and blur them.

    Bilinear with the triangle as wide as a new pixel where the line shrinks, as Pillow's
    `resize(box=…, resample=BILINEAR)`.

    Args:
        start, end: float (n,), shares of the old line; where start > end the line is reversed.
        blur: float (n,), standard deviation of a Gaussian as a share of the new line.

    Returns:
        float32 (n, new, old); rows sum to 1.
    """
    start, end = (ops.cast(x, "float32")[:, None] for x in (start, end))
    step = (ops.arange(new, dtype="float32") + 0.5) / new
    centre = (start + (end - start) * step) * old  # (n, new), in old pixels
    support = ops.maximum(ops.abs(end - start) * (old / new), 1.0)[:, :, None]
    place = ops.arange(old, dtype="float32") + 0.5
    weights = ops.relu(1 - ops.abs(place - centre[:, :, None]) / support)
    weights = weights / ops.sum(weights, axis=-1, keepdims=True)
    distance = ops.arange(new, dtype="float32")[:, None] - ops.arange(new, dtype="float32")
    sigma = ops.maximum(ops.cast(blur, "float32") * new, 1e-2)[:, None, None]
    gaussian = ops.exp(-0.5 * (distance / sigma) ** 2)  # at no blur the identity
    gaussian = gaussian / ops.sum(gaussian, axis=-1, keepdims=True)
    return ops.matmul(gaussian, weights)
