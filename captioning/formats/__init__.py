"""The only readers of untrusted files. Nothing in a file is ever run, and memory stays bounded.

- `pickles`: plain data and tokenizers, read by an interpreter of ours; the only room with pickle.
- `checkpoints`: tensors of PyTorch and TensorFlow files. `archives`: `.keras` files as data.

Neighbours: what the arrays mean is known in `encoders` and `decoders`.
"""
