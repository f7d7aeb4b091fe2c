"""Decoders that look: equal to PyTorch's arithmetic, word by word as all at once, and learning."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from captioning.data.captions import fit_tokenizer
from captioning.decoders import captioner, merge
from captioning.decoders.attention import Attention
from captioning.decoders.captioner import Captioner
from captioning.decoders.decoder import Config
from captioning.decoders.merge import Merge
from captioning.decoders.transformer import Transformer
from captioning.objectives.data import CaptionData

PLACES, DIMENSION, VOCABULARY, LONGEST = 5, 6, 20, 9
SETTINGS = {
    Attention: Attention.Settings(units=12, width=8, looking_width=7, doubly_stochastic=1.0),
    Transformer: Transformer.Settings(blocks=2, width=8, heads=2),
    Merge: merge.Settings(units=7, embedding_width=5, decoder_width=6),
}
LOOKING = [Attention, Transformer]


def make(kind, places=PLACES, seed=0):
    """A decoder with random weights, none of which is zero or one as at the start of a training."""
    tokens = places if kind.looks else 1
    decoder = kind(Config(DIMENSION, VOCABULARY, LONGEST, SETTINGS[kind], tokens))
    random = np.random.default_rng(seed)
    weights = [random.normal(0, 0.5, w.shape) for w in decoder.network.get_weights()]
    decoder.network.set_weights(weights)
    return decoder


def whole_captions(decoder) -> keras.Model:
    network = type(decoder).build(decoder.config)
    network.set_weights(decoder.network.get_weights())
    return network


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(1)
    features = random.normal(size=(4, PLACES, DIMENSION)).astype("float32")
    return features, random.integers(1, VOCABULARY, (4, LONGEST)).astype("int32")


@pytest.mark.parametrize("kind", [Merge, *LOOKING])
def test_word_by_word_equals_whole_captions(kind, inputs):
    """In any order of the rows, which a search changes at will, and for one image as for four."""
    decoder, (features, words) = make(kind), inputs
    if not kind.looks:
        features = features[:, :1]
    given = features if kind.looks else features[:, 0]
    expected = ops.convert_to_numpy(whole_captions(decoder)((given, words)))
    state, rows = decoder.start(features), np.arange(4)
    for i in range(LONGEST):
        logits, state = decoder.step(words[rows, i], state)
        np.testing.assert_allclose(logits, expected[rows, i], atol=1e-5)
        taken = [2, 0, 3, 1] if i % 2 else [1, 1, 2, 3]
        state = keras.tree.map_structure(lambda part: ops.take(part, taken, axis=0), state)  # noqa: B023
        rows = rows[taken]
    alone = decoder.start(features[1:2])
    logits, _ = decoder.step(words[1:2, 0], alone)
    np.testing.assert_allclose(logits[0], expected[1, 0], atol=1e-5)


@pytest.mark.parametrize("kind", LOOKING)
def test_later_words_and_padding_change_nothing_before(kind, inputs):
    decoder, (features, words) = make(kind), inputs
    network = whole_captions(decoder)
    before = ops.convert_to_numpy(network((features[:2], words[:2])))
    changed = words[:2].copy()
    changed[0, 5:], changed[1, 5:] = 0, 7  # a batch of as many as there are heads
    after = ops.convert_to_numpy(network((features[:2], changed)))
    np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-5)
    assert np.abs(after[:, 5:] - before[:, 5:]).max() > 1e-2


@pytest.mark.parametrize("kind", LOOKING)
def test_shares_of_places_sum_to_one_and_matter(kind, inputs):
    decoder, (features, words) = make(kind), inputs
    _, state = decoder.step(words[:, 0], decoder.start(features))
    where = ops.convert_to_numpy(decoder.where(state))
    np.testing.assert_allclose(where.sum(axis=1), 1, atol=1e-5)
    assert where.shape == (4, PLACES)
    # places in another order are looked at in that order
    order = [3, 1, 4, 0, 2]
    _, moved = decoder.step(words[:, 0], decoder.start(features[:, order]))
    np.testing.assert_allclose(decoder.where(moved), where[:, order], atol=1e-5)


def test_attention_equals_pytorch(inputs):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    decoder, (features, words) = make(Attention), inputs
    w = {v.path: torch.tensor(ops.convert_to_numpy(v)) for v in decoder.network.weights}

    def dense(name, x):
        bias = w.get(f"{name}/bias")
        return x @ w[f"{name}/kernel"] + (0 if bias is None else bias)

    grid = dense("places", torch.tensor(features))
    hidden = torch.tanh(dense("looking/first_hidden", grid.mean(1)))
    memory = torch.tanh(dense("looking/first_memory", grid.mean(1)))
    cell = torch.nn.LSTMCell(16, 12)  # Keras's gates stand in the order i f c o, as PyTorch's
    cell.weight_ih.data = w["looking/cell/kernel"].T
    cell.weight_hh.data = w["looking/cell/recurrent_kernel"].T
    cell.bias_ih.data, cell.bias_hh.data = w["looking/cell/bias"], torch.zeros(48)
    keys, found, looked = dense("looking/keys", grid), [], []
    with torch.no_grad():
        for i in range(LONGEST):
            word = w["embedding/embeddings"][torch.tensor(words[:, i], dtype=torch.long)]
            compared = torch.tanh(keys + dense("looking/query", hidden)[:, None])
            shares = torch.softmax(dense("looking/energy", compared)[..., 0], dim=1)
            gate = torch.sigmoid(dense("looking/gate", hidden))
            context = gate * torch.einsum("nk,nkd->nd", shares, grid)
            hidden, memory = cell(torch.cat([word, context], 1), (hidden, memory))
            output = torch.tanh(word + dense("hidden", hidden) + dense("context", context))
            found.append(dense("scores", output))
            looked.append(shares)
    network = whole_captions(decoder)
    expected = torch.stack(found, 1).numpy()
    np.testing.assert_allclose(network((features, words)), expected, atol=1e-5)
    penalty = ((1 - torch.stack(looked, 1).sum(1)) ** 2).sum() / words.size  # for each word
    silent = Attention.build(
        dataclasses.replace(
            decoder.config,
            settings=dataclasses.replace(SETTINGS[Attention], dropout=0, feature_dropout=0),
        )
    )
    silent.set_weights(decoder.network.get_weights())
    silent((features, words), training=True)
    np.testing.assert_allclose(silent.losses[-1], penalty.numpy(), rtol=1e-4)
    silent((features, words))
    assert not silent.losses  # nothing of it outside training


def test_the_transformer_equals_pytorch(inputs):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    decoder, (features, words) = make(Transformer), inputs
    w = {v.path: torch.tensor(ops.convert_to_numpy(v)) for v in decoder.network.weights}
    functional = torch.nn.functional

    def dense(name, x):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def norm(name, x):
        return functional.layer_norm(x, (8,), w[f"{name}/gamma"], w[f"{name}/beta"], eps=1e-3)

    def attention(name, query, source, mask=None):
        module = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        parts = ("query", "key", "value")
        kernels = [w[f"{name}/{part}/kernel"].reshape(8, 8).T for part in parts]
        module.in_proj_weight.data = torch.cat(kernels)
        module.in_proj_bias.data = torch.cat([w[f"{name}/{p}/bias"].reshape(8) for p in parts])
        module.out_proj.weight.data = w[f"{name}/attention_output/kernel"].reshape(8, 8).T
        module.out_proj.bias.data = w[f"{name}/attention_output/bias"]
        return module(query, source, source, attn_mask=mask, need_weights=False)[0]

    with torch.no_grad():
        grid = norm("places_norm", dense("places", torch.tensor(features)))
        x = w["embedding/embeddings"][torch.tensor(words, dtype=torch.long)]
        x = x + w["positions/embeddings"][:LONGEST]
        later = torch.triu(torch.ones(LONGEST, LONGEST, dtype=torch.bool), 1)
        for i in range(2):
            normed = norm(f"words_norm_{i}", x)
            x = x + attention(f"words_{i}", normed, normed, later)
            x = x + attention(f"picture_{i}", norm(f"picture_norm_{i}", x), grid)
            inner = functional.gelu(dense(f"feed_{i}", norm(f"feed_norm_{i}", x)))
            x = x + dense(f"feed_out_{i}", inner)
        expected = (norm("norm", x) @ w["embedding/embeddings"].T).numpy()
    found = whole_captions(decoder)((features, words))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_caption_longer_than_those_of_train_never_reaches_the_network_whole(capsys):
    """Some have looked words up behind the last position: an error here, zeros on a GPU."""
    descriptions = {"train": ["a b c d e f"], "dev": ["a b c d e f a b c d", "a b"]}
    tokenizer = fit_tokenizer(descriptions, ["train"])
    features = {key: np.ones((1, DIMENSION), "float32") for key in descriptions}
    ids = {key: [key] for key in descriptions}
    data = CaptionData.prepare(ids, descriptions, features, tokenizer, looks=True)
    assert "with more than 9 words, startseq and endseq included: 1;" in capsys.readouterr().err
    assert data.dev.inputs.shape == (5, data.max_length)  # the first 8 words, 3 after, "a b"
    assert data.dev.target_count == 8 + 3 + 3
    sizes = DIMENSION, data.vocabulary_size, data.max_length
    network = Transformer.build(Config(*sizes, SETTINGS[Transformer], 1))
    logits = network((np.ones((5, 1, DIMENSION)), data.dev.inputs))
    assert np.isfinite(logits).all()
    data.prepare(ids | {"dev": ["train"]}, descriptions, features, tokenizer)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", LOOKING)
def test_a_pooled_feature_is_no_cause_for_a_warning(kind, inputs, recwarn):
    network = kind.build(Config(DIMENSION, VOCABULARY, LONGEST, SETTINGS[kind], 1))
    network((inputs[0][:, :1], inputs[1]))
    assert not [told for told in recwarn if "softmax" in str(told.message)]


@pytest.mark.parametrize("kind", LOOKING)
def test_folding_equals_standardised_features(kind, inputs):
    decoder, (features, words) = make(kind), inputs
    mean, scale = np.float32([3, -1, 0, 2, 5, 1]), np.float32([2, 0.5, 1, 3, 0.1, 1])
    expected = ops.convert_to_numpy(decoder.network((features, words)))
    decoder.fold(mean, scale)
    found = decoder.network((features * scale + mean, words))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("kind", LOOKING)
def test_saved_and_read(kind, inputs, tmp_path):
    """By us, and by Keras itself."""
    decoder, (features, words) = make(kind), inputs
    path = captioner.save(tmp_path / "m.keras", Captioner(decoder, {}))
    read = captioner.load(path)
    assert read.decoder.config == decoder.config
    expected = ops.convert_to_numpy(decoder.network((features, words)))
    np.testing.assert_allclose(read.network((features, words)), expected, atol=1e-6)
    plain = keras.models.load_model(path)
    np.testing.assert_allclose(plain([features, words]), expected, atol=1e-6)


def test_a_pooled_feature_is_a_grid_of_one(inputs):
    features, words = inputs
    for kind in LOOKING:
        decoder = make(kind, places=1)
        logits, state = decoder.step(words[:, 0], decoder.start(features[:, :1]))
        expected = whole_captions(decoder)((features[:, :1], words))
        np.testing.assert_allclose(logits, expected[:, 0], atol=1e-5)
        np.testing.assert_allclose(decoder.where(state), 1, atol=1e-6)
