"""What is on disk, as arrays, words and image ids; no networks, no Keras.

- `dataset`: `Dataset(folder)`, a folder of pictures and captions, asked by way of its layout;
  `of(folders)`, several as one.
- `layouts/`: a file for each way in which such a folder may be laid out. A new one goes there.
- `splits`: train, dev and test: found, or drawn; `find_splits` is what every program calls.
- `overlap`: pictures of train that are in dev or test as well.
- `ids`: the id that ties a picture, its captions and its features together.
- `text`: cleaning captions; `tokenizer`: words ↔ ids, as Keras had it in 2021.
- `captions`: which images are usable, captions as word ids, features as a matrix.
- `images`: pictures decoded and resized, in batches, while the caller computes.
- `packing`: a folder of pictures → one HDF5 file; `hdf5`: that file, written and read.
- `grids`: grids of features in one HDF5 file, written piece by piece and read by rows.
- `seen`: which images an encoder was trained on.

Where else to look: files that pass between scripts are `pipeline.artifacts`; pickles, archives
and other programs' files are `formats`; pictures cut into views are `pretraining.views`; batches
for training a captioner are in `objectives`.
"""
