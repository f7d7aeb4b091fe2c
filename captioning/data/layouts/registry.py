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
        "karpathy": (
            "captioning.data.layouts.karpathy:Karpathy",
            "dataset_flickr8k.json, dataset_flickr30k.json or dataset_coco.json",
        ),
        "coco": ("captioning.data.layouts.coco:Coco", "annotations/captions_train2017.json"),
        "flickr30k": (
            "captioning.data.layouts.flickr30k:Flickr30k",
            "results_20130124.token or results.csv",
        ),
        "kaggle": ("captioning.data.layouts.kaggle:Kaggle", "captions.txt"),
        "beside": ("captioning.data.layouts.beside:Beside", "a .txt beside each picture"),
    },
)
