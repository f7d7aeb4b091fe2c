"""The layouts by name, each described by where it has its captions; the first that fits is taken.

A new layout is a subclass of `layout.Layout` in a file of its own, and one line here.
"""

from captioning.runtime.registry import Registry

LAYOUTS = Registry(
    "layout of a dataset",
    {
        "published": (
            "captioning.data.layouts.published:Published",
            "Flickr8k_text/Flickr8k.token.txt",
        ),
        "kaggle": ("captioning.data.layouts.kaggle:Kaggle", "captions.txt"),
    },
)
