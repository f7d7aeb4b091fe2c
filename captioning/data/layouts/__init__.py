"""The ways in which a dataset's folder may be laid out, a file each.

- `layout`: the socket. A layout is a subclass of `Layout` that says whether it recognises a
  folder, where the pictures and the captions are, and, if it can, which images are train, dev and
  test. `gather` turns names and captions into `Captions`, with a complaint about each bad entry.
- `registry`: `LAYOUTS`, names and where each has its captions. The first that fits is taken.
- `published`, `kaggle`: Flickr8k as its authors and as Kaggle offer it, in any mixture.
- `coco`, `flickr30k`: those, as they are offered; `karpathy`: the same datasets with his splits.
- `beside`: a text file beside each picture.
- `tables`, `annotations`: reading captions from any table, and from large JSON files.

To add one: a file here and a line in `registry`; docs/examples/toy_layout.py is one in full.
Nothing but `data.dataset` and `data.splits` asks a layout; everybody else asks those two.
"""
