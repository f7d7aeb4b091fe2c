"""Image captioning with self-supervised visual features: the package behind the numbered scripts.

Data (`text`, `dataset`, `images`) knows nothing of models; models (`encoders`, `captioner`) know
nothing of files; `artifacts` owns every file that passes from one script to the next.
"""

import os

# TensorFlow prints a page of start-up notices otherwise; set TF_CPP_MIN_LOG_LEVEL=0 to see them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN, which TensorFlow takes by itself on the newest processors alone. With AVX2 only,
# pretraining takes a third of the time by it, features four fifths.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "1.0.0"
