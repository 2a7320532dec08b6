"""Losses made for labels of which many are missing: asymmetric, Hill, and SPLC.

A booru's tags are positives that somebody bothered to type: a tag that is not there is often
one that was forgotten.  These losses trust a 0 less than a 1, each in its own way.  Elementwise
functions of (labels, logits), finite with finite gradients for float32 logits of any size.
"""

import math
from typing import Any

import keras
from keras import ops

from e6tag.losses import faded, focal

MARGIN = 1.0
"""Hill and SPLC: what is taken off the logit of a positive, which asks for surer ones"""
GAMMA = 2.0
"""Hill and SPLC: how fast well-predicted labels fade"""
HILL_LAMBDA = 1.5
"""Hill: makes a negative's slope by its logit 3 p^2 (1 - p)^2, which is largest at p = 1/2"""


def asymmetric(
    labels: Any,
    logits: Any,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> Any:
    """Asymmetric loss of Ridnik et al. 2021 (arXiv:2009.14119), elementwise.

    Positives: (1 - p)^gamma_positive CE(p).  Negatives: q^gamma_negative CE(q) with the
    probability q = max(p - margin, 0), so that those below the margin have no loss at all.  The
    weights have gradients too (the paper's code can stop them).  Without gammas and margin it
    is cross-entropy; without a margin and with equal gammas, focal loss without alpha.

    Args:
        labels: 0..1, same shape as the logits and of a float type.
        logits: any shape.
        gamma_positive: how fast well-predicted positives fade; the paper trains with 0.
        gamma_negative: how fast well-predicted negatives fade.
        margin: probability that negatives may have for free, in [0, 1).
    """
    present = ops.softplus(-logits)
    if gamma_positive:
        present = present * faded(ops.sigmoid(-logits), gamma_positive)
    absent = shifted_cross_entropy(logits, margin)
    if gamma_negative:
        absent = absent * faded(ops.relu(ops.sigmoid(logits) - margin), gamma_negative)
    return labels * present + (1.0 - labels) * absent


def shifted_cross_entropy(logits: Any, margin: float) -> Any:
    """-log(1 - max(sigmoid(z) - margin, 0)), elementwise.

    As -log(sigmoid(-z) + margin) in logarithms: sigmoid(-z) alone has no digits left at z > 100.
    """
    if not margin:
        return ops.softplus(logits)
    dtype = keras.backend.standardize_dtype(logits.dtype)
    free = ops.convert_to_tensor(math.log(margin), dtype=dtype)
    return ops.relu(-ops.logaddexp(-ops.softplus(logits), free))


def hill(labels: Any, logits: Any) -> Any:
    """Hill loss of Zhang et al. 2021 (arXiv:2112.07368), elementwise.

    Negatives: (1.5 - p) p^2, whose slope shrinks where p is high: a sure prediction may well be
    a forgotten tag.  Positives: focal loss of the logit less MARGIN.

    Args:
        labels: 0..1, same shape as the logits and of a float type.
        logits: any shape.
    """
    p = ops.sigmoid(logits)
    present = focal(ops.ones_like(logits), logits - MARGIN, None, GAMMA)
    return labels * present + (1.0 - labels) * (HILL_LAMBDA - p) * ops.square(p)


def splc(labels: Any, logits: Any, correcting: Any = True, threshold: float = 0.6) -> Any:
    """Self-paced loss correction (SPLC) of Zhang et al. 2021 (arXiv:2112.07368), elementwise.

    Focal loss without alpha, of the logit less MARGIN for positives.  While `correcting`, a 0
    whose probability exceeds the threshold counts as a 1 (without the margin, as in the
    authors' code); which ones do has no gradient.

    Args:
        labels: 0 or 1, same shape as the logits and of a float type.
        logits: any shape.
        correcting: boolean scalar; the paper begins after the first epoch, when the model is
            right about most of what it is sure of.
        threshold: probability above which a 0 is taken for a forgotten tag, in (0, 1).
    """
    shifted = logits - MARGIN * labels
    sure = shifted > math.log(threshold) - math.log1p(-threshold)
    forgotten = ops.logical_and(sure, correcting)
    return focal(ops.where(forgotten, ops.ones_like(labels), labels), shifted, None, GAMMA)
