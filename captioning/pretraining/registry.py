"""What backbones can be trained by. Importing this module is cheap: scripts list its names."""

from captioning.runtime.registry import Registry

DEFAULT = "simclr"
METHODS = Registry(  # `pretraining.method.Method`s
    "pretraining method",
    {
        "simclr": (
            "captioning.pretraining.simclr:SimCLR",
            "two views of a picture must find each other among those of a batch",
        ),
        "image-text": (
            "captioning.pretraining.image_text:ImageText",
            "a picture must tell the words of its captions, and which caption is its own",
        ),
    },
)
