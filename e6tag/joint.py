"""Joint likelihood of a picture's labels under correlated label noise.

The marginal loss looks at one tag at a time, so it cannot tell whether the noise of two tags
goes together.  The joint likelihood of the latents u = mu + V e + d e' can (for them see
`HeteroscedasticLogits`): given the factors e the tags are independent, hence

    p(y) = E_e prod_k p(y_k | e),    p(y_k = 1 | e) = E_e' sigmoid((mu_k + (V e)_k + d_k e'_k) / t)

with the mean over e by sampling and the one over e' by quadrature.  (The layer is that of Collier
et al. 2021, arXiv:2105.10305, whose training uses the marginals; nothing published says that the
joint form tags better.)  Only training knows of it: the probabilities of the tags, taken one at a
time, are the marginals either way.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from e6tag.layers import HeteroscedasticLogits
from e6tag.losses import binary_cross_entropy
from e6tag.objective import observed
from e6tag.quadrature import marginal_logits


class StepSeed(keras.random.SeedGenerator):
    """A seed that is a function of (seed, step), so that a resumed run draws what it would have.

    Args:
        seed: 0 to 2^32 - 1.
        step: training steps done, an integer scalar (a tensor inside a traced step).
    """

    def __init__(self, seed: int, step: Any):
        # The base's constructor would make a variable that counts draws: state to lose.
        self.pair = ops.stack([ops.cast(seed, "uint32"), ops.cast(step, "uint32")])

    def next(self, ordered: bool = True) -> Any:
        """The two numbers of the draw, uint32 (2,)."""
        return self.pair


def factor_shifts(multiplier: Any, factors: Any, draws: Any) -> Any:
    """What each draw of the factors adds to the latents: (V e)_k = multiplier_k sum_r F_rk e_r.

    Args:
        multiplier: (batch, num_tags).
        factors: F, (num_factors, num_tags).
        draws: e, (batch, num_samples, num_factors).

    Returns:
        (batch, num_samples, num_tags).
    """
    return ops.expand_dims(multiplier, 1) * ops.matmul(draws, factors)


def conditional_nll(
    labels: Any, counts: Any, means: Any, diagonal: Any, temperature: float, nodes: int
) -> Any:
    """-log prod_k p(y_k | e) of each draw, over the labels that count.

    Args:
        labels: 0..1, (batch, num_tags).
        counts: boolean (batch, num_tags).
        means: mu + V e, (batch, num_samples, num_tags).
        diagonal: d, (batch, num_tags).
        temperature: divides the latents.
        nodes: quadrature points for e'.

    Returns:
        (batch, num_samples).
    """
    logits = marginal_logits(means, ops.expand_dims(diagonal, 1), temperature, nodes)
    loss = binary_cross_entropy(ops.expand_dims(labels, 1), logits)
    return ops.sum(ops.where(ops.expand_dims(counts, 1), loss, ops.zeros_like(loss)), axis=-1)


def mixture_nll(conditional: Any) -> Any:
    """-log of the mean over draws of exp(-conditional): (batch, num_samples) -> (batch,)."""
    return math.log(conditional.shape[1]) - ops.logsumexp(-conditional, axis=1)


@dataclass(frozen=True)
class JointLikelihood:
    """-log p(labels) of a batch, mean over its pictures.

    The mean over draws is inside of the logarithm, so few draws give too high a loss, on average;
    the more they are, the closer it is.  Memory for the numbers of a step grows with batch *
    samples * tags * quadrature points.
    """

    samples: int = 16
    """draws of the factors for each picture and step"""
    seed: int = 0
    """with the step, fixes the draws"""

    def __call__(self, head: HeteroscedasticLogits, labels: Any, vector: Any, step: Any) -> Any:
        """The loss.

        Args:
            head: a built layer with factors.
            labels: (batch, num_tags) of any type, negative where unknown.
            vector: what the head took, (batch, D).
            step: training steps done.

        Returns:
            scalar, float32.
        """
        mu, multiplier, diagonal = head.parts(ops.cast(vector, head.compute_dtype))
        shape = (ops.shape(mu)[0], self.samples, head.num_factors)
        draws = keras.random.normal(shape, dtype=mu.dtype, seed=StepSeed(self.seed, step))
        means = ops.expand_dims(mu, 1) + factor_shifts(multiplier, head.factors, draws)
        labels, counts = observed(ops.cast(labels, mu.dtype))
        conditional = conditional_nll(labels, counts, means, diagonal, head.temperature, head.nodes)
        return ops.mean(mixture_nll(conditional))
