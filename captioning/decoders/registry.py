"""The decoders that there are. Importing this is cheap: a decoder is loaded when it is used."""

from captioning.runtime.registry import Registry

DEFAULT = "merge"

DECODERS = Registry(
    "decoder",
    {
        "merge": (
            "captioning.decoders.merge:Merge",
            "the reference's: an LSTM of the words beside a pooled feature, added",
        ),
        "attention": (
            "captioning.decoders.attention:Attention",
            "Show, Attend and Tell's: an LSTM that looks at places of a grid before each word",
        ),
        "transformer": (
            "captioning.decoders.transformer:Transformer",
            "blocks of attention to the words so far and to the places of a grid",
        ),
    },
)
