"""What training minimises: one loss per tag and picture, sum over tags, mean over batch.

`Objective` is the layer that owns what is trained along (a shape and a scale per tag for the
robust kinds), leaves out what is not known, and reduces.
"""

from typing import Any, Literal

import keras
from keras import ops

from e6tag.losses import alpha_of, binary_cross_entropy, focal, inside_robust, scale_of
from e6tag.noisy_losses import asymmetric, hill, splc

Kind = Literal["focal-robust", "focal", "robust", "bce", "asl", "hill", "splc"]
KINDS: tuple[Kind, ...] = ("focal-robust", "focal", "robust", "bce", "asl", "hill", "splc")


def observed(labels: Any, known: Any = None) -> tuple[Any, Any]:
    """Labels that any loss can take, and which of them count.

    Args:
        labels: (batch, num_tags), of a float type; 0..1, negative where it is not known.
        known: (batch, num_tags), 0 where a label is not known; None: the labels say it alone.

    Returns:
        labels with 0 in place of the unknown ones, and boolean (batch, num_tags).
    """
    counts = labels >= 0
    if known is not None:
        counts = ops.logical_and(counts, ops.cast(known, "bool"))
    return ops.where(counts, labels, ops.zeros_like(labels)), counts


@keras.saving.register_keras_serializable("e6tag")
class Objective(keras.layers.Layer):
    """The loss of a batch.

    A layer, because the robust kinds train a shape and a scale per tag along with the model:
    give its `trainable_variables` to the optimiser too, and save it with the checkpoint.

    Args:
        kind: "bce", "focal", "robust" and "focal-robust", which put either inside the adaptive
            robust likelihood; "asl", "hill" and "splc" (see `noisy_losses`).
        num_tags: columns of the labels.
        focal_alpha: weight of positives in the focal kinds; None or a negative number for none.
        focal_gamma: how fast well-predicted labels fade in the focal kinds.
        asl: gamma of positives, gamma of negatives and margin of the asymmetric loss.
        splc_threshold: probability above which SPLC takes a 0 for a forgotten tag.
        splc_start: training step from which SPLC does so.
        reduction: over the tags: their sum, or it divided by num_tags.

    Call: labels (batch, num_tags) of any type, negative where unknown; logits (batch, num_tags);
    known (batch, num_tags) that is 0 where a label is unknown (None: all others are known);
    step, the number of training steps done -> scalar.  What is unknown has no loss and no
    gradient.
    """

    def __init__(  # noqa: PLR0913 (what the kinds need)
        self,
        kind: Kind,
        num_tags: int,
        focal_alpha: float | None = 0.25,
        focal_gamma: float = 2.0,
        asl: tuple[float, float, float] = (0.0, 4.0, 0.05),
        splc_threshold: float = 0.6,
        splc_start: int = 0,
        reduction: Literal["sum", "mean"] = "sum",
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}. Received: {kind!r}")
        self.kind, self.num_tags = kind, num_tags
        self.focal_alpha = None if focal_alpha is None or focal_alpha < 0 else focal_alpha
        self.focal_gamma, self.asl = focal_gamma, list(asl)
        self.splc_threshold, self.splc_start = splc_threshold, splc_start
        self.reduction = reduction
        self.adaptive = kind in ("focal-robust", "robust")
        if self.adaptive:
            self.alpha_latent = self.latent("alpha_latent")
            self.scale_latent = self.latent("scale_latent")
        self.built = True

    def latent(self, name: str) -> Any:
        """One unconstrained trainable number per tag, 0 at the start."""
        return self.add_weight(shape=(1, self.num_tags), initializer="zeros", name=name)

    @property
    def alpha(self) -> Any:
        """Shape of each tag's loss, (1, num_tags); robust kinds only."""
        return alpha_of(self.alpha_latent)

    @property
    def scale(self) -> Any:
        """Scale of each tag's residuals, (1, num_tags); robust kinds only."""
        return scale_of(self.scale_latent)

    def elements(self, labels: Any, logits: Any, step: Any = 0) -> Any:
        """Loss of each tag and picture, (batch, num_tags); labels 0..1 of a float type."""
        if self.kind == "asl":
            return asymmetric(labels, logits, *self.asl)
        if self.kind == "hill":
            return hill(labels, logits)
        if self.kind == "splc":
            return splc(labels, logits, step >= self.splc_start, self.splc_threshold)
        if "focal" in self.kind:
            loss = focal(labels, logits, self.focal_alpha, self.focal_gamma)
        else:
            loss = binary_cross_entropy(labels, logits)
        return inside_robust(loss, self.alpha, self.scale) if self.adaptive else loss

    def call(self, labels: Any, logits: Any, known: Any = None, step: Any = 0) -> Any:
        """Sum (or mean) over tags of the known labels' losses, mean over the batch."""
        logits = ops.cast(logits, self.compute_dtype)
        labels, known = observed(ops.cast(labels, logits.dtype), known)
        loss = self.elements(labels, logits, step)
        loss = ops.where(known, loss, ops.zeros_like(loss))
        total = ops.mean(ops.sum(loss, axis=-1))
        return total / self.num_tags if self.reduction == "mean" else total

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this layer again."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "num_tags": self.num_tags,
            "focal_alpha": self.focal_alpha,
            "focal_gamma": self.focal_gamma,
            "asl": list(self.asl),
            "splc_threshold": self.splc_threshold,
            "splc_start": self.splc_start,
            "reduction": self.reduction,
        }
