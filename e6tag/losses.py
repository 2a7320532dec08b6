"""Losses over tags: cross-entropy, focal, and the adaptive robust form of either.

Pure elementwise functions of (labels, logits), and `Objective`, the layer that owns what is
trained along (a shape and a scale per tag) and reduces: sum over tags, mean over the batch.
"""

import math
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

ALPHA_RANGE = (0.001, 1.999)
"""shapes that training may choose: from nearly Cauchy to nearly normal"""
SMALLEST_SCALE = 0.3
"""Lower bound of a tag's residual scale c.

Most residuals of a rare tag are tiny, so its likelihood pulls c towards 0.  There the weight of an
example, up to 1 / c^2, grows without limit and what remains is the logarithm of the loss: every
easy negative is as loud as a missed positive.  On synthetic tags (128, prevalence 0.3 to 0.006,
SGD until c had settled) macro AP was .332 with a bound of 1e-5, .406 with .02, .440 with .1, .471
with .3; summed cross-entropy reached .485.
"""
INITIAL_SCALE = 1.0
QUADRATURE_END, QUADRATURE_NODES = 3.2, 40

Kind = Literal["focal-robust", "focal", "robust", "bce"]
KINDS: tuple[Kind, ...] = ("focal-robust", "focal", "robust", "bce")


def binary_cross_entropy(labels: Any, logits: Any) -> Any:
    """-log sigmoid(z) for y = 1, -log(1 - sigmoid(z)) for y = 0, elementwise.

    Args:
        labels: 0..1, same shape as the logits and of a float type.
        logits: any shape.
    """
    return ops.softplus(logits) - labels * logits


def focal(labels: Any, logits: Any, alpha: float | None = 0.25, gamma: float = 2.0) -> Any:
    """Focal loss a_t (1 - p_t)^gamma CE of Lin et al. (arXiv:1708.02002), elementwise.

    p_t is the probability of the truth; a_t is alpha for positives and 1 - alpha for negatives.
    1 - p_t is computed from the logits, so well-predicted labels lose no digits.

    Args:
        labels: 0..1, same shape as the logits and of a float type.
        logits: any shape.
        alpha: weight of positives; None weighs both sides 1.
        gamma: how fast well-predicted labels fade; 0 with alpha None is cross-entropy.
    """
    missed = labels * ops.sigmoid(-logits) + (1.0 - labels) * ops.sigmoid(logits)
    # The floor keeps the gradient of the power finite for gamma < 1.
    loss = ops.power(ops.maximum(missed, 1e-12), gamma) * binary_cross_entropy(labels, logits)
    if alpha is None:
        return loss
    return loss * (labels * alpha + (1.0 - labels) * (1.0 - alpha))


def robust(x_squared: Any, alpha: Any, scale: Any) -> Any:
    """Barron's general robust loss rho(x, alpha, scale) (arXiv:1701.03077), elementwise.

    alpha 2 is half the square, 1 Charbonnier's, 0 Cauchy's, -2 Geman and McClure's, -inf
    Welsch's.  Takes the square of the residual: no root, so no infinite gradient at 0.

    Args:
        x_squared: squared residuals, not negative.
        alpha: shape of the loss, any real number or an infinity; broadcast.
        scale: size of residuals at which the loss bends, positive; broadcast.
    """
    dtype = keras.backend.standardize_dtype(x_squared.dtype)
    alpha = ops.convert_to_tensor(alpha, dtype=dtype)
    squared = x_squared / ops.square(ops.convert_to_tensor(scale, dtype=dtype))
    limits = (
        (alpha == 2.0, 0.5 * squared),
        (alpha == 0.0, ops.log1p(0.5 * squared)),
        (alpha == -math.inf, -ops.expm1(-0.5 * squared)),
        (alpha == math.inf, ops.expm1(0.5 * ops.minimum(squared, 160.0))),
    )
    # Where a limit applies the general form is still computed: give it a harmless shape, or
    # its gradient is not a number.
    special = limits[0][0] | limits[1][0] | limits[2][0] | limits[3][0]
    shape = ops.where(special, ops.ones_like(alpha), alpha)
    bend = ops.abs(shape - 2.0)
    result = bend / shape * ops.expm1(0.5 * shape * ops.log1p(squared / bend))
    for applies, value in limits:
        result = ops.where(applies, value, result)
    return result


def partition_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Double-exponential quadrature over the real line for even functions.

    Returns:
        squared points and logarithms of their weights, float64 (QUADRATURE_NODES,).
    """
    u = np.linspace(0.0, QUADRATURE_END, QUADRATURE_NODES)
    inner = 0.5 * np.pi * np.sinh(u)
    weights = 2.0 * (u[1] - u[0]) * 0.5 * np.pi * np.cosh(u) * np.cosh(inner)
    weights[0] /= 2.0
    return np.sinh(inner) ** 2, np.log(weights)


def log_partition(alpha: Any) -> Any:
    """log Z(alpha), Z the integral of exp(-rho(x, alpha, 1)) over the real line.

    Makes the robust loss a likelihood, so that its shape can be trained: a small alpha forgives
    outliers but must pay for its heavy tails.  Computed on the spot by 40-point quadrature (x =
    sinh(pi/2 sinh u)), within 1e-6 for alpha in [0.001, 2] and smooth, instead of the table of
    splines that the paper's code brings along.

    Args:
        alpha: shapes in [0.001, 2], any shape.
    """
    x_squared, log_weights = partition_nodes()
    alpha = ops.expand_dims(alpha, -1)
    dtype = keras.backend.standardize_dtype(alpha.dtype)
    rho = robust(ops.convert_to_tensor(x_squared.astype(dtype)), alpha, 1.0)
    return ops.logsumexp(log_weights.astype(dtype) - rho, axis=-1)


def robust_nll(x_squared: Any, alpha: Any, scale: Any) -> Any:
    """Negative log-likelihood rho(x, alpha, scale) + log scale + log Z(alpha), elementwise.

    Args:
        x_squared: squared residuals, (..., num_tags).
        alpha: shapes in [0.001, 2], broadcast.
        scale: positive, broadcast.
    """
    return robust(x_squared, alpha, scale) + ops.log(scale) + log_partition(alpha)


def alpha_of(latent: Any) -> Any:
    """Shape in ALPHA_RANGE of an unconstrained latent; 0 gives 1."""
    low, high = ALPHA_RANGE
    return low + (high - low) * ops.sigmoid(latent)


def scale_of(latent: Any, lowest: float = SMALLEST_SCALE) -> Any:
    """Scale above `lowest` of an unconstrained latent; 0 gives INITIAL_SCALE."""
    shift = math.log(math.e - 1.0)
    return lowest + (INITIAL_SCALE - lowest) * ops.softplus(latent + shift)


def focal_robust(
    labels: Any,
    logits: Any,
    alpha: Any,
    scale: Any,
    focal_alpha: float | None = 0.25,
    focal_gamma: float = 2.0,
) -> Any:
    """Adaptive robust likelihood of the residuals x = sign(y - p) sqrt(2 focal), elementwise.

    At alpha 2 and scale 1 it is the focal loss plus a constant.  Smaller alphas forgive labels
    that the picture contradicts (a booru's missing tags); the scale weighs the tags.

    Args:
        labels, logits: (batch, num_tags).
        alpha, scale: one of each per tag, (1, num_tags).
        focal_alpha, focal_gamma: as in `focal`.
    """
    return robust_nll(2.0 * focal(labels, logits, focal_alpha, focal_gamma), alpha, scale)


@keras.saving.register_keras_serializable("e6tag")
class Objective(keras.layers.Layer):
    """What training minimises: one loss per tag and picture, summed over tags, mean over batch.

    A layer, because the robust kinds train a shape and a scale per tag along with the model:
    give its `trainable_variables` to the optimiser too, and save it with the checkpoint.

    Args:
        kind: "bce", "focal", or "robust" and "focal-robust", which put either inside the
            adaptive robust likelihood.
        num_tags: columns of the labels.
        focal_alpha: weight of positives in the focal kinds; None or a negative number for none.
        focal_gamma: how fast well-predicted labels fade in the focal kinds.

    Call: labels (batch, num_tags) of any type, logits (batch, num_tags), known (batch, num_tags)
    that is 0 where a label is unknown (None: all are known) -> scalar.
    """

    def __init__(
        self,
        kind: Kind,
        num_tags: int,
        focal_alpha: float | None = 0.25,
        focal_gamma: float = 2.0,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}. Received: {kind!r}")
        self.kind, self.num_tags = kind, num_tags
        self.focal_alpha = None if focal_alpha is None or focal_alpha < 0 else focal_alpha
        self.focal_gamma = focal_gamma
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

    def elements(self, labels: Any, logits: Any) -> Any:
        """Loss of each tag and picture, (batch, num_tags); labels of a float type."""
        if "focal" in self.kind:
            loss = focal(labels, logits, self.focal_alpha, self.focal_gamma)
        else:
            loss = binary_cross_entropy(labels, logits)
        return robust_nll(2.0 * loss, self.alpha, self.scale) if self.adaptive else loss

    def call(self, labels: Any, logits: Any, known: Any = None) -> Any:
        """Sum over tags of the known labels' losses, mean over the batch."""
        logits = ops.cast(logits, self.compute_dtype)
        loss = self.elements(ops.cast(labels, logits.dtype), logits)
        if known is not None:
            loss = ops.where(ops.cast(known, "bool"), loss, ops.zeros_like(loss))
        return ops.mean(ops.sum(loss, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this layer again."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "num_tags": self.num_tags,
            "focal_alpha": self.focal_alpha,
            "focal_gamma": self.focal_gamma,
        }
