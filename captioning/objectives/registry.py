"""The recipes that there are. Importing this is cheap: a recipe is loaded when it is used."""

from captioning.runtime.registry import Registry

DEFAULT = "fast"

RECIPES = Registry(
    "recipe",
    {
        "fast": ("captioning.objectives.recipes:Fast", "whole captions at once, in minutes"),
        "reference": (
            "captioning.objectives.recipes:Reference",
            "the reference's optimisation, one prefix a sample, in hours",
        ),
    },
)

SELECTIONS = Registry(
    "way to select the best epoch",
    {
        "loss": (
            "captioning.runtime.training:LOSS",
            "the loss on people's captions of dev, val_loss",
        ),
        "cider": (
            "captioning.objectives.look:CIDER",
            "CIDEr of the captions that the decoder writes of some dev images, val_cider",
        ),
    },
)
