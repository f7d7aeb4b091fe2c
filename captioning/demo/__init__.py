"""A small dataset of drawn scenes, for trying everything without a download.

- `scenes`: what is in a scene, its five captions, and the dataset in the published layout, as
  `python -m captioning.demo.scenes FOLDER` writes it.
- `drawing`: the shapes.

It stands beside `data`: neither imports the other, and what it writes is read like any dataset.
"""
