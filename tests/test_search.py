"""Searches against exhaustive search, hand computation and the reference's loop."""

import argparse
import collections
import itertools

import numpy as np
import pytest
from keras import ops
from toys import merge_captioner, merge_network

from captioning.data.tokenizer import Tokenizer
from captioning.decoders.decoder import Config, Decoder
from captioning.pipeline import arguments
from captioning.search import captions
from captioning.search.beam import beam
from captioning.search.greedy import greedy
from captioning.search.replay import replay
from captioning.search.sampling import sample
from captioning.search.walk import distribution

PAD, START, END, A, DOG, CAT = range(6)


class Toy(Decoder):
    """P(next word | the words so far), given by a function of the image's number and the words.

    Its state is a tree; it looks at the place that is the number of words so far.
    """

    name, looks = "toy", True

    def __init__(self, chances, longest=4, size=6, places=4):
        self.chances, self.places, self.rows = chances, places, []  # of each step
        self.config = Config(1, size, longest, settings=None, tokens=places)

    def start(self, features):
        return {
            "image": ops.convert_to_tensor(features[:, 0, 0]),
            "said": [ops.zeros((len(features), 0))],
        }

    def step(self, words, state):
        self.rows.append(len(words))
        words = ops.cast(ops.convert_to_tensor(words), "float32")[:, None]
        said = ops.concatenate([state["said"][0], words], axis=1)
        state = {"image": state["image"], "said": [said]}
        rows = zip(ops.convert_to_numpy(state["image"]), ops.convert_to_numpy(said), strict=True)
        chances = [self.chances(int(image), tuple(map(int, row[1:]))) for image, row in rows]
        with np.errstate(divide="ignore"):
            return ops.convert_to_tensor(np.log(np.float32(chances))), state

    def where(self, state):
        count = state["said"][0].shape[1]
        return ops.one_hot(ops.full((len(state["image"]),), count - 1), self.places)


def images(*numbers):
    return np.float32(numbers).reshape(-1, 1, 1)


def row(**chances):
    """A distribution from the names of words."""
    names = {"pad": PAD, "start": START, "end": END, "a": A, "dog": DOG, "cat": CAT}
    filled = np.zeros(6)
    for name, chance in chances.items():
        filled[names[name]] = chance
    return filled


def rough(image, said):
    """Distributions of which nothing follows: all six words, other ones for each prefix."""
    return np.random.default_rng([image, *said]).dirichlet(np.full(6, 0.7))


def exhaustive(chances, image, longest, penalty):
    """Every caption with its log-probability, the highest rank first, those without an end last."""
    ended, cut = [], []
    for length in range(1, longest + 1):
        for said in itertools.product((END, A, DOG, CAT), repeat=length):
            if END in said[:-1] or (said[-1] != END and length < longest):
                continue
            with np.errstate(divide="ignore"):
                score = sum(np.log(chances(image, said[:i])[said[i]]) for i in range(length))
            (ended if said[-1] == END else cut).append((score / length**penalty, score, said))
    return [(said, score) for part in (ended, cut) for _, score, said in sorted(part, reverse=True)]


def words_of(found):
    return [[tuple(int(i) for i in ids if i) for ids, _ in image] for image in found]


def scores_of(found):
    return [[score for _, score in image] for image in found]


@pytest.mark.parametrize("penalty", [0, 0.6, 1, 2])
def test_a_wide_beam_is_exhaustive_search(penalty):
    numbers = range(5)
    expected = [exhaustive(rough, i, 3, penalty) for i in numbers]
    options = {"beam": 64, "length_penalty": penalty}
    found = beam(Toy(rough, 3), START, END, images(*numbers), candidates=40, **options)
    for image, best in zip(found, expected, strict=True):
        assert words_of([image])[0] == [said for said, _ in best]
        np.testing.assert_allclose(scores_of([image])[0], [s for _, s in best], atol=1e-5)
    few = beam(Toy(rough, 3), START, END, images(*numbers), candidates=2, **options)
    assert words_of(few) == [image[:2] for image in words_of(found)]  # stopping early loses nothing


def switching(image, said):
    """The better first word has the worse continuations; where it was said decides what follows."""
    if not said:
        return row(a=0.55, dog=0.45) if image else row(a=0.5, cat=0.3, end=0.2)
    if len(said) == 1:
        return row(a=0.4, cat=0.35, end=0.25) if said[0] == A else row(cat=0.9, a=0.1)
    if said == (DOG, CAT):
        return row(end=0.2, dog=0.8)
    return row(end=0.9, a=0.1) if said[-1] == DOG else row(end=0.5, dog=0.5)


@pytest.mark.parametrize("width", [2, 3])
def test_parents_are_reordered_and_images_do_not_meet(width):
    def run(*numbers):
        return beam(Toy(switching, 4), START, END, images(*numbers), beam=width, candidates=width)

    together, alone = run(0, 1), run(0) + run(1)
    assert words_of(together) == words_of(alone)
    for one, other in zip(scores_of(together), scores_of(alone), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for number in (0, 1):
        said, score = exhaustive(switching, number, 4, 1)[0]
        assert words_of(together)[number][0] == said
        assert scores_of(together)[number][0] == pytest.approx(score, abs=1e-5)
    assert words_of(together)[1][0] == (DOG, CAT, DOG, END)  # greedy begins with A


def test_length_penalty():
    def chances(image, said):
        return [row(end=0.4, a=0.6), row(dog=0.9, cat=0.1), row(end=0.7, a=0.3)][min(len(said), 2)]

    (sums,) = beam(Toy(chances), START, END, images(0), beam=2, length_penalty=0, candidates=2)
    (means,) = beam(Toy(chances), START, END, images(0), beam=2, length_penalty=1, candidates=2)
    assert words_of([sums]) == [[(END,), (A, DOG, END)]]
    assert words_of([means]) == [[(A, DOG, END), (END,)]]
    assert [score for _, score in sums] == pytest.approx([-0.9163, -0.9729], abs=1e-4)
    assert means[0][1] / 3 == pytest.approx(-0.3243, abs=1e-4)


def test_a_caption_that_never_ends_is_cut_and_said_to_be(capsys):
    def endless(image, said):
        return row(a=0.5, dog=0.3, cat=0.2)

    for found in (
        greedy(Toy(endless, 5), START, END, images(0)),
        beam(Toy(endless, 5), START, END, images(0), beam=2),
    ):
        assert words_of(found) == [[(A,) * 5]]
        assert scores_of(found)[0] == pytest.approx([5 * np.log(0.5)], abs=1e-5)
    cut, whole = captions.Caption(["a"] * 5, -3.0), captions.Caption(["a", "endseq"], -3.0)
    assert (cut.finished, whole.finished) == (False, True)
    captions.tell_oddities([cut, whole], 5)
    assert "1 of 2 captions are unfinished: no end within 5 words" in capsys.readouterr().err


def test_an_ended_caption_comes_before_a_likelier_one_that_was_cut():
    def chances(image, said):
        return row(a=0.99, end=0.01)

    (found,) = beam(Toy(chances, 3), START, END, images(0), beam=2, candidates=2)
    assert words_of([found]) == [[(END,), (A, A, A)]]


def test_a_caption_that_ends_leaves_its_place_for_good():
    def chances(image, said):
        if not said:
            return row(a=0.6, end=0.4)
        return row(dog=0.6, cat=0.4) if len(said) == 1 else row(end=0.9, a=0.1)

    decoder = Toy(chances)
    (found,) = beam(decoder, START, END, images(0), beam=2, candidates=2)
    assert words_of([found]) == [[(A, DOG, END), (END,)]]
    assert decoder.rows == [1, 1, 1]
    (found,) = beam(Toy(chances), START, END, images(0), beam=3, candidates=3)
    assert words_of([found]) == [[(A, DOG, END), (A, CAT, END), (END,)]]


def test_a_search_ends_when_nothing_better_can_come():
    def chances(image, said):
        return row(end=0.9, a=0.06, dog=0.04)

    sure = Toy(chances, 50)
    assert (
        words_of(beam(sure, START, END, images(0, 1), beam=3, length_penalty=0)) == [[(END,)]] * 2
    )
    assert sure.rows == [2]


def test_what_has_ended_leaves_the_batch():
    def chances(image, said):
        return row(end=1) if len(said) == image else row(a=0.7, dog=0.3)

    for search in (greedy, sample):
        decoder = Toy(chances)
        search(decoder, START, END, images(2, 0, 1, 2))
        assert decoder.rows == [4, 3, 2]


def test_padding_and_start_are_never_said_and_the_last_word_is():
    def chances(image, said):
        return row(pad=0.4, start=0.3, cat=0.2, end=0.1)

    for search in (beam, sample):
        found = search(Toy(chances), START, END, images(*range(30)), candidates=3)
        said = {word for image in words_of(found) for words in image for word in words}
        assert said == {END, CAT}
    (best,) = beam(Toy(chances), START, END, images(0), length_penalty=0)
    assert best[0][1] == pytest.approx(np.log(0.1), abs=1e-5)  # the decoder's, not shared out anew


def test_where_nothing_can_follow_the_caption_is_cut():
    def chances(image, said):
        return row(pad=1) if said else row(a=0.7, dog=0.3)

    assert words_of(beam(Toy(chances), START, END, images(0), beam=2, candidates=2)) == [
        [(A,), (DOG,)]
    ]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["startseq " + " ".join(f"w{i}" for i in range(40)) + " endseq"])
    return tokenizer


def random_captioner(vocabulary_size, seed, biases=()):
    """A merge captioner of random weights; `biases` are pairs of a word's id and its bias."""
    network = merge_network(10, vocabulary_size, 9, units=24)
    rng = np.random.default_rng(seed)
    weights = [rng.normal(0, 0.6, array.shape) for array in network.get_weights()]
    for word, bias in biases:
        weights[-1][word] = bias
    network.set_weights(weights)
    return merge_captioner(network)


@pytest.fixture(scope="module")
def merge(tokenizer):
    """One that says neither padding nor startseq."""
    ids = tokenizer.word_index
    biases = [(0, -30), (ids["startseq"], -30), (ids["endseq"], 4)]
    return random_captioner(tokenizer.vocabulary_size, 4, biases)


FEATURES = np.random.default_rng(5).normal(size=(14, 10)).astype("float32")


def one_word_at_a_time(model, tokenizer, features):
    """The reference's loop: the whole prefix, padded on the left, through the network each time."""
    said = [["startseq"] for _ in features]
    for _ in range(model.max_length):
        rows = tokenizer.texts_to_sequences([" ".join(filter(None, words)) for words in said])
        padded = np.array([[0] * (model.max_length - len(row)) + row for row in rows])
        best = np.argmax(model.network((features, padded)), axis=-1)
        for words, i in zip(said, best, strict=True):
            if words[-1] not in ("endseq", None):
                words.append(tokenizer.index_word.get(int(i)))  # None ends it too
    return [list(filter(None, words[1:])) for words in said]


@pytest.mark.parametrize("seed", [1, 2])
def test_greedy_equals_the_references_loop(tokenizer, seed):
    model = random_captioner(44, seed)  # some ids have no word
    features = np.random.default_rng(seed).normal(size=(12, 10)).astype("float32")
    batched = [caption.words for caption in captions.write(model, tokenizer, features)]
    assert batched == one_word_at_a_time(model, tokenizer, features)
    assert len({len(words) for words in batched}) > 1  # captions end at different steps


def test_a_sentence_leaves_the_end_out():
    assert captions.Caption(["two", "dogs", "endseq"], -1.0).sentence == "two dogs"
    assert captions.Caption(["two", "dogs"], -1.0).sentence == "two dogs"


def test_a_beam_of_one_is_greedy(merge, tokenizer):
    best = captions.write(merge, tokenizer, FEATURES)
    assert len({len(caption.words) for caption in best}) > 2
    for penalty in (0, 1):
        found = captions.write(merge, tokenizer, FEATURES, "beam", beam=1, length_penalty=penalty)
        assert [caption.words for caption in found] == [caption.words for caption in best]
        scores = [caption.score for caption in found]
        np.testing.assert_allclose(scores, [caption.score for caption in best], atol=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        {"search": "greedy"},
        {"search": "beam", "beam": 3, "candidates": 3},
        {"search": "sample", "candidates": 2, "seed": 3, "top_p": 0.9},
    ],
)
def test_batches_do_not_change_captions(merge, tokenizer, monkeypatch, how):
    keys = [f"{i}.jpg" for i in range(len(FEATURES))]
    whole = captions.candidates(merge, tokenizer, FEATURES, keys=keys, **how)
    backwards = captions.candidates(merge, tokenizer, FEATURES[::-1], keys=keys[::-1], **how)[::-1]
    monkeypatch.setattr(captions, "_BATCH", 8)
    parts = captions.candidates(merge, tokenizer, FEATURES, keys=keys, **how)
    assert len(whole) == len(FEATURES)
    for image, *others in zip(whole, backwards, parts, strict=True):
        assert len(image) == how.get("candidates", 1)
        scores = [caption.score for caption in image]
        if how["search"] == "sample":
            assert scores == sorted(scores, reverse=True)
        else:
            ranks = [(caption.finished, caption.per_word) for caption in image]
            assert ranks == sorted(ranks, reverse=True)
        for other in others:
            assert [caption.words for caption in other] == [caption.words for caption in image]
            np.testing.assert_allclose([caption.score for caption in other], scores, atol=1e-5)


def test_scores_are_the_decoders_log_probabilities(merge, tokenizer):
    start = tokenizer.word_index["startseq"]
    for how in (
        {"search": "greedy"},
        {"search": "beam", "beam": 3},
        {"search": "sample", "temperature": 0.5, "top_p": 0.8},
    ):
        for caption, feature in zip(
            captions.write(merge, tokenizer, FEATURES[:2], **how), FEATURES, strict=False
        ):
            ids = [tokenizer.word_index[word] for word in caption.words]
            scores, maps = replay(merge.decoder, start, ids, feature[None, None])
            assert scores.sum() == pytest.approx(caption.score, abs=1e-5)
            assert maps is None
            prefix = np.zeros((1, merge.max_length), np.int32)
            prefix[0, len(prefix[0]) - len(ids) :] = [start, *ids[:-1]]  # as the reference pads
            last = np.asarray(merge.network((feature[None], prefix)))[0, ids[-1]]
            assert scores[-1] == pytest.approx(np.log(last), abs=1e-4)


def test_words_are_drawn_by_their_probability():
    shares = {END: 0.1, A: 0.5, DOG: 0.15, CAT: 0.25}

    def chances(image, said):
        return row(end=0.1, a=0.5, dog=0.15, cat=0.25)

    def frequencies(**options):
        decoder = Toy(chances, longest=1)
        found = sample(decoder, START, END, images(0), candidates=20_000, **options)
        counts = collections.Counter(int(ids[0]) for ids, _ in found[0])
        return {word: count / 20_000 for word, count in counts.items()}

    def expected(weights):
        return pytest.approx({w: v / sum(weights.values()) for w, v in weights.items()}, abs=0.015)

    assert frequencies() == expected(shares)
    assert frequencies(temperature=0.5) == expected({w: v**2 for w, v in shares.items()})
    assert frequencies(top_p=0.7) == expected({A: 0.5, CAT: 0.25})
    assert frequencies(top_p=0.4) == {A: 1}
    assert frequencies(top_p=0.8, temperature=2) == expected(
        {A: 0.5**0.5, CAT: 0.5, DOG: 0.15**0.5}
    )


def test_at_low_temperature_sampling_is_greedy_and_sums_to_one(merge, tokenizer):
    from captioning.search.sampling import _draw, _nucleus, _sharpened

    best = [caption.words for caption in captions.write(merge, tokenizer, FEATURES)]
    for temperature in (1e-3, 1e-300):
        drawn = captions.write(merge, tokenizer, FEATURES, "sample", temperature=temperature)
        assert [caption.words for caption in drawn] == best
    logits = np.random.default_rng(0).normal(0, 5, (100, 7579)).astype("float32")
    chances = _sharpened(logits.astype("float64"), 0.05)
    assert chances.dtype == np.float64
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-12)
    for chosen in (0.0, 1 - 2**-53):  # the ends of what a generator gives
        for weights in (chances, _nucleus(chances, 0.9)):
            words = _draw(weights, np.full(100, chosen))
            assert (weights[np.arange(100), words] > 0).all()


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999, 1 - 1e-12])
def test_a_nucleus_is_the_fewest_words_that_hold_so_much(top_p):
    from captioning.search.sampling import _nucleus

    for concentration in (0.02, 0.3, 100):
        chances = np.random.default_rng(1).dirichlet(np.full(300, concentration), 5)
        for row, kept in zip(chances, _nucleus(chances, top_p), strict=True):
            count = 1
            while np.sort(row)[-count:].sum() < top_p:
                count += 1
            assert set(np.flatnonzero(kept)) == set(np.argsort(row)[-count:])
            np.testing.assert_array_equal(kept[kept > 0], row[kept > 0])


def test_samples_depend_on_the_seed_and_the_image():
    flat = Toy(lambda image, said: row(a=0.3, dog=0.4, cat=0.3), longest=12)

    def run(*keys, seed=0):
        (*found,) = sample(flat, START, END, images(*[0] * len(keys)), keys=keys, seed=seed)
        return words_of(found)

    one, other = run("1.jpg", "2.jpg")
    assert one != other
    assert run("2.jpg") == [other]
    assert run("1.jpg", seed=1) != [one]


def test_more_candidates_hold_the_fewer(merge, tokenizer):
    how = {"search": "sample", "seed": 1}
    one = captions.write(merge, tokenizer, FEATURES, **how)
    three = captions.candidates(merge, tokenizer, FEATURES, candidates=3, **how)
    assert all(best.words in [c.words for c in more] for best, more in zip(one, three, strict=True))


def test_a_replay_tells_where_a_decoder_looked():
    decoder = Toy(rough, places=4)
    (((ids, score),),) = beam(decoder, START, END, images(3), beam=3)
    features = np.full((1, 4, 1), 3, np.float32)
    scores, maps = replay(decoder, START, ids, features)
    assert scores.sum() == pytest.approx(score, abs=1e-5)
    np.testing.assert_array_equal(maps, np.eye(4)[: len(ids)])


def test_a_distribution_may_be_changed():
    chances = distribution(ops.convert_to_tensor([[0.0, np.log(3.0)]]))
    np.testing.assert_allclose(chances, [[0.25, 0.75]], rtol=1e-6)
    chances[:, 0] = 0


def test_nearly_all_captions_the_same(capsys):
    same, other = captions.Caption(["a", "endseq"], -1.0), captions.Caption(["b", "endseq"], -1.0)
    captions.tell_oddities([same] * 9 + [other], 5)  # nine in ten are not more than 90 %
    captions.tell_oddities([same] * 9, 5)  # too few to tell
    assert capsys.readouterr().err == ""
    captions.tell_oddities([same] * 19 + [other], 5)
    assert "19 of 20 captions are the same, 'a'" in capsys.readouterr().err
    captions.tell_oddities([same] * 2, 5, least=2)
    assert "2 of 2 captions are the same" in capsys.readouterr().err


def search_of(line):
    parser = argparse.ArgumentParser(prog="script")
    arguments.add_search(parser)
    arguments.console.add_seed(parser, "--sample")
    return arguments.search_of(parser, parser.parse_args(line.split()))


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("", {"search": "greedy"}),
        ("--candidates 1 --seed 3", {"search": "greedy"}),
        ("--beam 3", {"search": "beam", "beam": 3, "length_penalty": 1.0, "candidates": 1}),
        ("--beam 4 --length-penalty 0 --candidates 4",
         {"search": "beam", "beam": 4, "length_penalty": 0.0, "candidates": 4}),
        ("--sample --seed 7 --top-p .9 --temperature 2 --candidates 5",
         {"search": "sample", "temperature": 2.0, "top_p": 0.9, "seed": 7, "candidates": 5}),
    ],
)  # fmt: skip
def test_options_of_a_search(line, how, capsys):
    assert search_of(line) == how
    told = "--seed 3 has no effect: nothing is drawn without --sample\n"
    assert capsys.readouterr().err == (told if "--seed 3" in line else "")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--beam 0", "expected a whole number from 1 to 100, got 0"),
        ("--beam 101", "expected a whole number from 1 to 100, got 101"),
        ("--beam x", "invalid whole number value: 'x'"),
        ("--beam 3 --sample", "two searches; leave one out"),
        ("--beam 2 --candidates 3", "--candidates 3 needs --beam 3 or more, or --sample"),
        ("--candidates 2", "--candidates 2 needs --beam 2 or more, or --sample"),
        ("--beam 2 --length-penalty -1", "expected a number from 0 to 10, got -1"),
        ("--beam 2 --length-penalty nan", "expected a number from 0 to 10, got nan"),
        ("--length-penalty 1", "--length-penalty is an option of --beam; add that"),
        ("--sample --length-penalty 1", "--length-penalty is an option of --beam"),
        ("--temperature 1", "--temperature is an option of --sample; add that"),
        ("--beam 3 --top-p .5", "--top-p is an option of --sample; add that"),
        ("--sample --top-p 0", "expected a number above 0, to 1, got 0"),
        ("--sample --top-p 2", "expected a number from 0 to 1, got 2"),
        ("--sample --temperature 0", "expected a number above 0, got 0"),
        ("--sample --temperature inf", "expected a number above 0, got inf"),
    ],
)
def test_wrong_usage_is_one_sentence(line, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        search_of(line)
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
