"""The objectives of pretraining, against direct computations."""

import types

import numpy as np
import pytest
from keras import ops

from captioning.encoders import residual
from captioning.pretraining import image_text, method, simclr
from captioning.scores import probes


def direct_nt_xent(z: np.ndarray, temperature: float) -> np.ndarray:
    """Equation 1 of the paper, pair by pair, in double precision."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        similar = {k: np.exp(z[i] @ z[k] / temperature) for k in others}
        losses.append(-np.log(similar[(i + n) % (2 * n)] / sum(similar.values())))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_and_its_gradient_are_those_of_the_paper(temperature):
    import tensorflow as tf

    z = np.random.default_rng(0).normal(size=(12, 5))
    variable = tf.Variable(z, dtype="float32")
    with tf.GradientTape() as tape:
        losses, correct = simclr.nt_xent(variable, temperature)
        mean = ops.mean(losses)
    np.testing.assert_allclose(losses, direct_nt_xent(z, temperature), rtol=1e-5)
    gradient = np.zeros_like(z)
    for place in np.ndindex(*z.shape):  # central differences
        step = np.zeros_like(z)
        step[place] = 1e-5
        up, down = (direct_nt_xent(z + s, temperature).mean() for s in (step, -step))
        gradient[place] = (up - down) / 2e-5
    np.testing.assert_allclose(tape.gradient(mean, variable), gradient, atol=1e-5)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 9 * np.eye(12)).argmax(axis=1)
    np.testing.assert_array_equal(correct, nearest == np.roll(np.arange(12), 6))


def test_clip_loss_is_cross_entropy_both_ways():
    rng = np.random.default_rng(1)
    images, texts = rng.normal(size=(2, 6, 4))
    losses, correct = image_text.clip_loss(images, texts, 0.3)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    logits = a @ b.T / 0.3
    expected = [
        np.log(np.exp(way).sum(axis=1)) - np.diag(way) for way in (logits, logits.T)
    ]  # fmt: skip
    np.testing.assert_allclose(losses, np.concatenate(expected), rtol=1e-5)
    hits = [way.argmax(axis=1) == np.arange(6) for way in (logits, logits.T)]
    np.testing.assert_array_equal(correct, np.concatenate(hits))


def test_word_loss_is_the_cross_entropy_with_the_shares_of_the_words():
    captions = [["red dog", "dog runs"], ["blue sky", "nothing known"]]
    shares = image_text.word_shares(captions, ["dog", "red", "blue"])
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0], [0, 0, 1]], rtol=1e-6)
    settings = image_text.Settings(temperature=0.2, contrastive_weight=0.5)
    known = types.SimpleNamespace(vocabulary_size=10)
    pairs = types.SimpleNamespace(train=captions, tokenizer=known)
    model = image_text.ImageText(residual.resnet18(32), "imagenet", settings, pairs)
    scores = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]])
    same = np.eye(2, 4, dtype="float32")
    loss, reported = model.objective(
        {"words": ops.cast(scores, "float32"), "targets": shares, "images": same, "texts": same}
    )
    log_chances = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = -(shares * log_chances).sum(axis=1).mean()
    assert float(reported["word_loss"]) == pytest.approx(expected, rel=1e-5)
    apart = np.log(1 + np.exp(-1 / 0.2))  # of pairs that are one, and at right angles to others
    assert float(loss) == pytest.approx(expected + 0.5 * apart, rel=1e-4)


def test_deviation_and_rank_tell_learning_from_collapse():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(2000, 16)).astype("float32")
    collapsed = 1 + 1e-4 * spread
    assert float(method.spread(spread)) == pytest.approx(1, abs=0.02)
    assert float(method.spread(collapsed)) < 0.01
    assert probes.effective_rank(spread) == pytest.approx(16, abs=0.1)
    line = spread[:, :1] * np.arange(1, 17)
    assert probes.effective_rank(line) == pytest.approx(1, abs=0.01)
