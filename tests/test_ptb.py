"""Penn Treebank tokens, against those of Stanford's tokenizer 3.4.1 in Java."""

import pytest

from captioning.data import dataset, ptb, text
from tests.stored import make_ptb


# As the Java program prints these lines with -lowerCase.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A man in a red T-shirt, isn't running -- it's 3!",
         "a man in a red t-shirt , is n't running -- it 's 3 !"),
        ("He can't, won't & couldn't've; she'll, they've, I'm, you'd.",
         "he ca n't , wo n't & could n't 've ; she 'll , they 've , i 'm , you 'd ."),
        ("WOMEN'S dogs' cannot gonna 'tis", "women 's dogs ' can not gon na 't is"),
        ("rock 'n' roll, o'clock, '90s, ol' 'em",
         "rock 'n' roll , o'clock , '90s , ol' 'em"),
        ("The dogs (two) [of] {them} cost $5.50 each, or 3,000 in all.",
         "the dogs -lrb- two -rrb- -lsb- of -rsb- -lcb- them -rcb- cost $ 5.50 each , or 3,000 "
         "in all ."),
        ("Dr. Smith at 5:30 p.m. on No. 5 St. in the U.S. no.",
         "dr. smith at 5:30 p.m. on no. 5 st. in the u.s. no ."),
        ("AT&T black&white 50% #3 one/two w/o 4x4 12-inch -5 24/7",
         "at&t black & white 50 % # 3 one/two w/o 4x4 12-inch -5 24/7"),
        ("http://www.example.com/a?b=1 bob@example.com #tag avrovulcan.com",
         "http://www.example.com/a?b=1 bob@example.com #tag avrovulcan.com"),
        ("wow...ok .... a--b --- what??? hm?! end..",
         "wow ... ok ... a -- b -- what ??? hm ?! end . ."),
        ("merry-go-round -dog hot- a:b snow;white a^b a_b",
         "merry-go-round - dog hot - a : b snow ; white a ^ b a_b"),
        ("café naïve 狗在跑 it’s – 20°C", "café naïve 狗在跑 it 's -- 20 ° c"),
    ],
)  # fmt: skip
def test_tokens_are_those_of_the_java_program(line, expected):
    assert ptb.tokens(line) == expected.split()


def test_words_are_what_coco_caption_keeps():
    """Brackets in lower case, "!!" and signs are not in its list of punctuation."""
    line = "A \"man's\" dog -- (red) & co-owned, 'it' ran !! ... ; : ? ` $5."
    kept = "a man 's dog -lrb- red -rrb- & co-owned it ran !! $ 5"
    assert ptb.words(line) == kept.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("एक कुत्ता दौड़ता है।", "एक कुत्ता दौड़ता है"),
        ("一 只 狗 跑 。", "一 只 狗 跑"),
        ("سگ می\u200cدود، وقطة", "سگ می\u200cدود وقطة"),
        ("“dogs”\xa0run\u3000on\u200bgrass¿ soft\u00adhyphen", "dogs run on grass softhyphen"),
        ("cafe\u0301 İki", "café iki"),
    ],
)
def test_beyond_ascii_punctuation_is_none_and_words_stay_whole(line, expected):
    assert ptb.words(line) == expected.split()


def test_all_captions_of_flickr8k_have_the_tokens_of_the_java_program(flickr8k):
    """At least 40,454 of 40,460; see stored/make_ptb.py."""
    captions = text.coco_all(dataset.Dataset(flickr8k).captions)
    ours = [make_ptb.digest(caption) for own in captions.values() for caption in own]
    stored, size = make_ptb.FILE.read_bytes(), make_ptb.BYTES
    theirs = [stored[i : i + size] for i in range(0, len(stored), size)]
    assert len(ours) == len(theirs) == 40460
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) == 40460
