"""Image captioning with self-supervised visual features: what the numbered scripts call."""

import os

# oneDNN, which TensorFlow takes by itself on the newest processors alone: with AVX2 only,
# pretraining takes a third of the time by it, training a captioner seven to nine tenths.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
