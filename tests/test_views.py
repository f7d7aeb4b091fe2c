"""Views of pictures: that the batched arithmetic is the published augmentation."""

import colorsys

import numpy as np
import pytest
from keras import ops
from PIL import Image

from captioning.pretraining import views

PLAIN = views.Augmentation(area=(1, 1), aspect=(1, 1), jitter=0, gray=0, blur=0)


def apply(pixels, numbers, size):
    return ops.convert_to_numpy(views.apply(pixels, numbers, size))


@pytest.fixture(scope="module")
def pictures(photographs) -> np.ndarray:
    """uint8 (8, 96, 96, 3)."""
    crops = [photo[y : y + 300, x : x + 300] for photo in photographs
             for x, y in ((0, 0), (100, 50), (200, 100), (340, 127))]  # fmt: skip
    return np.stack([np.asarray(Image.fromarray(crop).resize((96, 96))) for crop in crops])


def test_the_whole_picture_at_its_own_size_is_itself_or_mirrored(pictures):
    numbers = PLAIN.draw(np.random.default_rng(0), 8)
    seen = np.rint(255 * apply(pictures, numbers, 96)).astype(np.uint8)
    mirrored = numbers["box"][:, 0] > numbers["box"][:, 2]
    assert 0 < mirrored.sum() < 8
    expected = np.where(mirrored[:, None, None, None], pictures[:, :, ::-1], pictures)
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_crops_are_resampled_as_pillow_does(pictures, size):
    """Pillow computes in 8 bits between the two passes, hence the tolerance of a level."""
    augmentation = views.Augmentation(jitter=0, gray=0, blur=0)
    numbers = augmentation.draw(np.random.default_rng(1), 8)
    seen = apply(pictures, numbers, size)
    for picture, box, view in zip(pictures, numbers["box"] * 96, seen, strict=True):
        left, top, right, bottom = map(float, box)
        image = Image.fromarray(picture).resize(
            (size, size), Image.BILINEAR, box=(min(left, right), top, max(left, right), bottom)
        )
        expected = np.asarray(image)[:, ::-1] if left > right else np.asarray(image)
        assert np.abs(255 * view - expected).max() < 1.5


def test_blur_is_a_gaussian(pictures):
    numbers = PLAIN.draw(np.random.default_rng(0), 8)
    numbers["box"][:] = (0, 0, 1, 1)
    numbers["blur"][:] = 1.5 / 96
    seen = 255 * apply(pictures, numbers, 96)
    distance = np.arange(-8, 9)
    kernel = np.exp(-0.5 * (distance / 1.5) ** 2)
    kernel /= kernel.sum()
    expected = pictures.astype(float)
    for axis in (1, 2):
        expected = np.apply_along_axis(np.convolve, axis, expected, kernel, mode="same")
    inner = np.s_[:, 10:-10, 10:-10]
    np.testing.assert_allclose(seen[inner], expected[inner], atol=0.1)


def colours(augmentation, pictures, seed=0):
    """Views that differ from the pictures in colour alone, and the numbers behind them."""
    numbers = augmentation.draw(np.random.default_rng(seed), len(pictures))
    numbers["box"][:] = (0, 0, 1, 1)
    numbers["blur"][:] = 0
    return apply(pictures, numbers, pictures.shape[1]), numbers


def test_gray_is_the_luma_of_the_picture(pictures):
    seen, _ = colours(views.Augmentation(jitter=0, gray=1), pictures)
    expected = [np.asarray(Image.fromarray(picture).convert("L")) for picture in pictures]
    np.testing.assert_allclose(255 * seen[..., 0], expected, atol=1)
    np.testing.assert_allclose(seen[..., 0], seen[..., 2], atol=1e-5)


def test_jitter_keeps_gray_pictures_gray_and_moves_their_mean_as_contrast_and_brightness_do(
    pictures,
):
    """On gray, the jitter is Pillow's Brightness and Contrast, whatever saturation and hue."""
    gray = np.repeat(pictures[..., 1:2], 3, axis=-1)
    seen, numbers = colours(views.Augmentation(jitter=1, gray=0, colour=0.5), gray)
    np.testing.assert_allclose(seen[..., 0], seen[..., 1], atol=1e-4)
    scale = numbers["colour"][:, 0].sum(axis=1)  # brightness · contrast
    brightness = scale + numbers["gray"]
    contrast = scale / brightness
    assert (np.abs(brightness - 1) <= 0.4 + 1e-5).all()
    assert (np.abs(contrast - 1) <= 0.4 + 1e-5).all()
    bright = brightness[:, None, None] * gray[..., 0] / 255
    mean = bright.mean(axis=(1, 2), keepdims=True)
    expected = np.clip(mean + contrast[:, None, None] * (bright - mean), 0, 1)
    np.testing.assert_allclose(seen[..., 0], expected, atol=1e-3)


def test_hue_turns():
    """The luma stays, and a colour moves by no more of the circle than it may."""
    turning = views.Augmentation(colour=1, jitter=1, gray=0)
    numbers = turning.draw(np.random.default_rng(3), 200)
    scale = numbers["colour"] @ np.ones(3)
    np.testing.assert_allclose(scale, np.repeat(scale[:, :1], 3, axis=1), atol=1e-5)
    luma = np.einsum("d,nde->ne", views.LUMA, numbers["colour"]) / scale[:, :1]
    np.testing.assert_allclose(luma, np.broadcast_to(views.LUMA, luma.shape), atol=1e-3)
    red = numbers["colour"] @ np.array([0.6, 0.4, 0.4]) / scale
    hues = np.array([colorsys.rgb_to_hsv(*np.clip(c, 0, None))[0] for c in red])
    turned = np.abs((hues + 0.5) % 1 - 0.5)
    assert 0.15 < turned.max() < 0.27  # .2 of the circle of YIQ is about as much of HSV's


def test_saturation_scales_what_is_not_gray():
    numbers = views.Augmentation(colour=0.5, jitter=1, gray=0).draw(np.random.default_rng(3), 500)
    scale = numbers["colour"][:, 0].sum(axis=1)[:, None]  # brightness · contrast
    red = numbers["colour"] @ np.array([1.0, 0, 0]) / scale
    before, after = (np.linalg.norm((views._YIQ @ c.T)[1:].T, axis=-1)
                     for c in (np.array([1.0, 0, 0]), red))  # fmt: skip
    assert (np.abs(after / before - 1) <= 0.4 + 1e-3).all()
    assert np.std(after / before) > 0.15


def test_numbers_have_the_shares_that_were_asked_for():
    numbers = views.Augmentation(area=(0.2, 1)).draw(np.random.default_rng(0), 4000)
    assert {key: value.dtype for key, value in numbers.items()} == dict.fromkeys(
        ("box", "colour", "gray", "blur"), np.float32
    )
    left, top, right, bottom = numbers["box"].T
    area = np.abs(right - left) * (bottom - top)
    assert 0.15 < area.min() < 0.25
    assert area.max() <= 1
    assert (numbers["box"] >= 0).all()
    assert (numbers["box"] <= 1 + 1e-6).all()
    still = views.Augmentation(gray=0).draw(np.random.default_rng(0), 4000)["colour"]
    assert numbers["blur"].max() == pytest.approx(2 / 224, rel=0.02)
    shares = {
        "still": (np.abs(still - np.eye(3)).max(axis=(1, 2)) < 1e-5).mean(),
        "mirrored": (left > right).mean(),
        "blurred": (numbers["blur"] > 0).mean(),
        "gray": (np.ptp(numbers["colour"], axis=1).max(axis=1) < 1e-5).mean(),
    }
    assert shares == pytest.approx(
        {"still": 0.2, "mirrored": 0.5, "blurred": 0.5, "gray": 0.2}, abs=0.03
    )


def test_a_seed_means_the_same_views():
    first, again = (views.Augmentation().draw(np.random.default_rng(7), 5) for _ in range(2))
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
