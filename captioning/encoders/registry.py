"""What encoders can be made of, by name. Importing this module is cheap: scripts list its names."""

from captioning.runtime.registry import Registry

# `encoders.network.Network`s
BACKBONES = Registry(
    "backbone",
    {
        "resnet50": ("captioning.encoders.residual:RESNET50", "2048 features, the published size"),
        "resnet18": ("captioning.encoders.residual:RESNET18", "512 features, learns on two cores"),
    },
)
FORMER_NAMES = {"small": "resnet18"}  # in old files, and on the command line

TILES = 9  # of a puzzle, which is what the jigsaw network sees

# `encoders.context_free.Parts`: the reference's names, of which `small` is no ResNet-18
JIGSAW_BACKBONES = Registry(
    "backbone of the jigsaw network",
    {
        "resnet50": ("captioning.encoders.context_free:RESNET50", "the reference's"),
        "alexnet": ("captioning.encoders.context_free:ALEXNET", "the paper's, stride 2"),
        "small": ("captioning.encoders.context_free:SMALL", "learns on two cores too"),
    },
)


def backbone_name(name: str) -> str:
    """The name of a backbone today."""
    return FORMER_NAMES.get(name, name)
