"""The scores of captions by their keys in bleu-dev.json, and the probes of features.

They are printed, and stand in tables, in this order. A new one is a file and a line here: in
`SCORES` it is given cleaned captions, in `COCO` tokens of the raw ones.
"""

from captioning.runtime.registry import Registry

SCORES = Registry(
    "score of captions",
    {
        "reference": (
            "captioning.scores.bleu:REFERENCE",
            "BLEU-1 to BLEU-4; the start and end tokens count as words, BLEU-3 weights .3",
        ),
        "standard": (
            "captioning.scores.bleu:CLEANED",
            "BLEU-1 to BLEU-4; words alone count, BLEU-3 weights 1/3",
        ),
        "cider": ("captioning.scores.cider:CIDER", "CIDEr-D, as coco-caption computes it"),
        "rouge_l": ("captioning.scores.rouge:ROUGE_L", "ROUGE-L, as coco-caption computes it"),
    },
)

COCO = Registry(
    "score of the coco protocol",
    {
        "bleu": ("captioning.scores.bleu:COCO", "BLEU-1 to BLEU-4"),
        "cider": ("captioning.scores.cider:COCO", "CIDEr-D"),
        "rouge_l": ("captioning.scores.rouge:COCO", "ROUGE-L"),
        "meteor": ("captioning.scores.meteor:METEOR", "METEOR 1.5, in Java; where asked for"),
    },
)

PROBES = Registry(
    "probe of features",
    {
        "dimension": ("captioning.scores.probes:DIMENSION", "length of a feature vector"),
        "nearest": (
            "captioning.scores.probes:NEAREST",
            "the captions of the nearest train image: BLEU-4, CIDEr, content words",
        ),
        "vote": ("captioning.scores.probes:VOTE", "words by a vote of the nearest train images"),
        "linear": ("captioning.scores.probes:LINEAR", "words by a linear probe"),
    },
)
