"""Precisions of the arithmetic. Importing this module is cheap: scripts list its names."""

PRECISIONS = ("float32", "bfloat16")  # dtype policies of Keras too, for inference

# Precision → dtype policy of Keras for training, whose weights stay float32
TRAINING = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
