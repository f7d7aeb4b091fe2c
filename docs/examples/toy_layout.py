"""A layout of your own: pictures/ beside captions.json, which holds the splits as well.

    {"dog.jpg": {"split": "train", "captions": ["A dog runs .", "A brown dog ."]}, …}

As captioning/data/layouts/toy.py it needs one more line, in layouts/registry.py:

    "toy": ("captioning.data.layouts.toy:Toy", "captions.json"),
"""

from captioning.data.ids import among
from captioning.data.layouts.layout import Layout, first_existing, gather
from captioning.runtime import files
from captioning.runtime.errors import refusing


class Toy(Layout):
    @property
    def image_folder(self):
        return first_existing([self.folder / "pictures"])

    @property
    def caption_file(self):  # a folder that holds one is recognised
        return first_existing([self.folder / "captions.json"])

    def captions(self, pictures):
        with refusing(self.caption_file, "picture names with their captions"):
            entries = files.read_json(self.caption_file).items()
            rows = [(name, name, caption) for name, e in entries for caption in e["captions"]]
        return gather(self.caption_file, rows, pictures)

    def splits(self, known):
        with refusing(self.caption_file, "picture names with their split"):
            ids = {"train": [], "dev": [], "test": []}
            for name, entry in files.read_json(self.caption_file).items():
                ids[entry["split"]].append(among(name, known))
        return ids
