"""A score of your own: how many of a caption's words stand in any of the image's references.

As captioning/scores/toy.py it needs one more line, in scores/registry.py:

    "words_found": ("captioning.scores.toy:WORDS_FOUND", "share of words found in a reference"),

From then on 3_BLEU.py prints it, bleu-dev.json holds it as `words_found`, and the table of
`python -m captioning.evaluation.results` has a column for it.
"""

import statistics

from captioning.scores.score import Score, words_only


def words_found(captions, references):
    """The mean over the images, from 0 to 1.

    Args:
        captions: image id → words as the captioner gave them.
        references: image id → cleaned captions.
    """
    shares = []
    for words, texts in zip(*words_only(captions, references), strict=True):
        known = {word for text in texts for word in text}
        shares.append(sum(word in known for word in words) / max(1, len(words)))
    return statistics.fmean(shares)


WORDS_FOUND = Score(words_found, labels=["words found"], column="words found")
