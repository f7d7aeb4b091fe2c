"""By how many quarter turns is a picture rotated? (arXiv 1803.07728) In pretraining/registry.py:

"rotation": ("captioning.pretraining.toy:Rotation", "how far a picture is turned"),
"""

import dataclasses

from keras import layers, ops

from captioning.pretraining import method, parts
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Settings(method.Settings):
    turns: int = setting(4, "how many quarter turns there are", least=2, most=4)


class Rotation(method.Method):
    Settings, reports = Settings, ("accuracy",)

    def __init__(self, backbone, preprocessing, settings=None, pairs=None):
        super().__init__(backbone, preprocessing, settings, pairs)
        self.head = layers.Dense(self.settings.turns, dtype="float32", name="turns")

    def call(self, batch, training=False):
        upright, turns = self.view(batch, 0), range(self.settings.turns)
        turned = [ops.rot90(upright, i, axes=(1, 2)) for i in turns]  # (n, size, size, 3) each
        features = self.features(ops.concatenate(turned), training)  # (turns · n, D)
        return {"features": features, "logits": self.head(features)}

    def objective(self, outputs):
        count = ops.shape(outputs["logits"])[0]
        right = ops.arange(count) * self.settings.turns // count  # 0, 0, …, 1, 1, …
        losses, correct = parts.cross_entropy(outputs["logits"], right)
        return ops.mean(losses), {"accuracy": ops.mean(correct)}

    def after_step(self, step, steps):
        self.head.bias.assign(self.head.bias * (1 - step / steps))  # in the end no turn is likelier
