"""Batches to pretrain on: the same ones for the same seed, each picture once, captions beside."""

import types

import numpy as np
import pytest

from captioning.data.tokenizer import Tokenizer
from captioning.pretraining import feature_probe, view_batches, views
from captioning.pretraining.image_text import word_shares


def test_a_batch_depends_on_seed_epoch_and_index_alone(pictures):
    def batches(epoch, seed=0, fixed=False):
        data = view_batches.ViewBatches(pictures, [views.Augmentation()] * 2, 8, seed, fixed=fixed)
        data.epoch = epoch
        assert len(data) == (4 if fixed else 3)  # of 6 and of 8
        return [data[i][0] for i in reversed(range(len(data)))][::-1]

    first, again, later, other = batches(1), batches(1), batches(2), batches(1, seed=1)
    for a, b, c, d in zip(first, again, later, other, strict=True):
        np.testing.assert_array_equal(a["pixels"], b["pixels"])
        np.testing.assert_array_equal(a["view1"]["box"], b["view1"]["box"])
        assert (a["view0"]["box"] != a["view1"]["box"]).any()
        for changed in (c, d):
            assert (a["pixels"] != changed["pixels"]).any()
            assert (a["view0"]["box"] != changed["view0"]["box"]).any()
    seen = np.concatenate([batch["pixels"] for batch in first])
    assert len(np.unique(seen.reshape(24, -1), axis=0)) == 24
    for a, b in zip(batches(1, fixed=True), batches(2, fixed=True), strict=True):
        np.testing.assert_array_equal(a["view0"]["colour"], b["view0"]["colour"])


def test_captioned_views_bring_one_caption_and_the_words_of_all(pictures):
    captions = [[f"red number{i}", f"blue thing number{i} here"] for i in "abcdefgh"]
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(text for group in captions for text in group)
    rows = np.arange(10, 18)
    data = view_batches.CaptionedViewBatches(
        pictures, [views.Augmentation()], 8, 0, rows=rows, captions=captions, tokenizer=tokenizer,
        targets={"words": word_shares(captions, ["red", "thing"])},
    )  # fmt: skip
    chosen = set()
    for data.epoch in range(8):
        (batch,) = data[0]
        for pixels, ids, shares in zip(
            batch["pixels"], batch["caption"], batch["words"], strict=True
        ):
            row = next(i for i in rows if (pictures[i] == pixels).all()) - 10
            said = " ".join(tokenizer.index_word[i] for i in ids if i)
            assert said in captions[row]
            np.testing.assert_allclose(shares, [0.5, 0.5])
            chosen.add(said)
    assert len(chosen) > 12


def test_validation_leaves_next_to_nothing_out(pictures):
    how = ([views.Augmentation()], 8, 0)
    batches = view_batches.ViewBatches(pictures[:9], *how, fixed=True)
    assert (len(batches), batches.batch_size) == (2, 4)
    assert len(view_batches.ViewBatches(pictures[:9], *how)) == 1
    pair = view_batches.ViewBatches(pictures[:3], [views.Augmentation()], 2, 0, fixed=True)
    assert (len(pair), pair.batch_size) == (1, 2)  # one picture has nothing to be told from


def test_an_order_is_drawn_once_an_epoch_whatever_the_number_of_batches(pictures, monkeypatch):
    """The work of an epoch is linear in its pictures."""
    drawn, real = [], np.random.default_rng

    def generator(seed):
        random = real(seed)

        def permutation(count):
            drawn.append(count)
            return random.permutation(count)

        return types.SimpleNamespace(permutation=permutation, random=random)

    for batch_size in (2, 13):
        data = view_batches.ViewBatches(pictures, [], batch_size, 0)
        monkeypatch.setattr(np.random, "default_rng", generator)
        for data.epoch in range(3):
            for i in range(len(data)):
                data[i]
        monkeypatch.undo()
        assert drawn == [26] * 3
        drawn.clear()


@pytest.mark.parametrize(
    ("most", "expected"), [(3, [0, 3, 6]), (10, range(10)), (11, range(10)), (4, [0, 2, 5, 7])]
)
def test_a_probe_of_many_pictures_takes_some_at_even_distances(most, expected):
    assert feature_probe._spread(10, most).tolist() == list(expected)
