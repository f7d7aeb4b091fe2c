"""SimCLR: two views of a picture must find each other among all views of a batch.

Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations
(https://arxiv.org/abs/2002.05709).
"""

import dataclasses

from keras import ops

from captioning.pretraining import method
from captioning.pretraining.parts import cross_entropy, projection_head, unit
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Settings(method.Settings):
    """Beside those of every method."""

    temperature: float = setting(0.2, "divides the similarities in the loss", above=0)
    hidden: int | None = setting(
        None, "width of the projection head's hidden layer; none: that of the features", least=1
    )
    projection: int = setting(128, "width of the projections", least=1)


class SimCLR(method.Method):
    """See the module."""

    Settings = Settings
    view_count = 2
    reports = ("accuracy",)

    def __init__(self, backbone, preprocessing, settings=None, pairs=None):
        super().__init__(backbone, preprocessing, settings, pairs)
        hidden = self.settings.hidden or backbone.output_shape[-1]
        self.head = projection_head("projection", hidden, self.settings.projection)

    def call(self, batch, training=False):
        pictures = ops.concatenate(
            [self.view(batch, 0), self.view(batch, 1)]
        )  # (2n, size, size, 3)
        features = self.features(pictures, training)  # (2n, D)
        return {"features": features, "projections": self.head(features, training=training)}

    def objective(self, outputs):
        losses, correct = nt_xent(outputs["projections"], self.settings.temperature)
        return ops.mean(losses), {"accuracy": ops.mean(correct)}


def nt_xent(projections, temperature: float):
    """Normalised temperature-scaled cross entropy (equation 1 of the paper).

    Args:
        projections: (2n, d); rows i and i + n are of two views of one picture.

    Returns:
        losses: float32 (2n,).
        correct: float32 (2n,), 1 where the other view is the nearest of all 2n - 1 rows.
    """
    z = unit(projections)
    count = ops.shape(z)[0]
    logits = ops.matmul(z, ops.transpose(z)) / temperature
    logits = logits - 1e9 * ops.eye(count, dtype="float32")  # no row is its own neighbour
    rows = ops.arange(count, dtype="int32")
    partners = ops.concatenate([rows[count // 2 :], rows[: count // 2]])
    return cross_entropy(logits, partners)
