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
    },
)
