"""Pooling by a decoder: group queries look at a feature map, and each makes a part of a vector.

ML-Decoder (Ridnik et al. 2021, arXiv:2111.12933) decodes tags; here the outputs are the numbers of
a vector of fixed length, of which the tags are functions, so that it can be searched by too.
"""

from typing import Any

import keras
from keras import ops

from e6tag.layers import attend

EXPANSION = 4
"""width of the hidden layer behind the attention, over that of the queries"""


def group_linear(tokens: Any, kernel: Any, bias: Any) -> Any:
    """Each group's numbers from its own token: y[g, j] = sum_d tokens[g, d] kernel[g, d, j].

    Args:
        tokens: (batch, groups, width).
        kernel: (groups, width, outputs of a group).
        bias: (outputs,); outputs of the last groups that are too many are cut off.

    Returns:
        (batch, outputs).
    """
    groups, _, each = kernel.shape
    mixed = ops.transpose(ops.matmul(ops.transpose(tokens, (1, 0, 2)), kernel), (1, 0, 2))
    return ops.reshape(mixed, (-1, groups * each))[:, : bias.shape[0]] + bias


@keras.saving.register_keras_serializable("e6tag")
class DecoderPooling(keras.layers.Layer):
    """A feature map to a vector, by queries that attend to its cells.

    Cells are embedded by a linear layer and ReLU; the queries are fixed random vectors, as in the
    paper (training them gains nothing, for what reads them is trained); then one decoder layer
    without self-attention: attention, addition and normalisation, hidden layer, addition and
    normalisation; then a linear layer for each group.  With width w and G queries the parameters
    are about (C + 4 w + 2 hidden + outputs) w, whatever the number of tags.

    Args:
        outputs: numbers in the vector.
        queries: G, groups; each makes outputs / G numbers, rounded up.
        heads, key_size: of the attention; their product is the width.
        hidden: width of the hidden layer; None for 4 times the width.

    Call: feature map (batch, height, width, C) -> (batch, outputs).
    """

    def __init__(
        self,
        outputs: int,
        queries: int = 16,
        heads: int = 4,
        key_size: int = 32,
        hidden: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.outputs, self.queries, self.hidden = outputs, queries, hidden
        self.heads, self.key_size = heads, key_size
        width = heads * key_size
        self.embed = self.linear(width, "embed", "relu")
        # A bias of the keys would add the same to all of a query's scores: softmax ignores it.
        self.key = self.linear(width, "key", use_bias=False)
        self.query, self.value = self.linear(width, "query"), self.linear(width, "value")
        self.mix = self.linear(width, "mix")
        self.expand = self.linear(hidden or EXPANSION * width, "expand", "relu")
        self.contract = self.linear(width, "contract")
        self.norms = [self.norm(f"norm{i}") for i in (1, 2, 3)]

    def linear(self, size: int, name: str, activation: str | None = None, **options: Any) -> Any:
        """A linear layer of this layer's precision."""
        return keras.layers.Dense(size, activation, name=name, dtype=self.dtype_policy, **options)

    def norm(self, name: str) -> Any:
        """A layer normalisation of this layer's precision."""
        return keras.layers.LayerNormalization(epsilon=1e-5, name=name, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for maps of input_shape[-1] channels."""
        width, each = self.heads * self.key_size, -(-self.outputs // self.queries)
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.fixed = self.add_weight(
            shape=(self.queries, width), initializer=normal, trainable=False, name="queries"
        )
        # Glorot's rule would take the groups for a receptive field.
        small = keras.initializers.RandomNormal(stddev=width**-0.5)
        self.kernel = self.add_weight(
            shape=(self.queries, width, each), initializer=small, name="group_kernel"
        )
        self.bias = self.add_weight(shape=(self.outputs,), initializer="zeros", name="group_bias")
        self.embed.build((input_shape[0], None, input_shape[-1]))
        for layer in (self.query, self.key, self.value, self.mix, self.expand, *self.norms):
            layer.build((input_shape[0], None, width))
        self.contract.build((input_shape[0], None, self.expand.units))

    def call(self, features: Any) -> Any:
        """What the queries find, group by group."""
        _, height, width, channels = features.shape
        cells = self.embed(ops.reshape(features, (-1, height * width, channels)))
        # Twice: in the paper's code queries are added to themselves, for want of self-attention.
        asked = self.norms[0](ops.expand_dims(2 * self.fixed, 0))
        found = attend(self.query(asked), self.key(cells), self.value(cells), self.heads)
        tokens = self.norms[1](asked + self.mix(found))
        tokens = self.norms[2](tokens + self.contract(self.expand(tokens)))
        return group_linear(tokens, self.kernel, self.bias)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(batch, outputs)."""
        return input_shape[0], self.outputs

    def get_config(self) -> dict[str, Any]:
        """Arguments to make this layer again."""
        return {
            **super().get_config(),
            "outputs": self.outputs,
            "queries": self.queries,
            "heads": self.heads,
            "key_size": self.key_size,
            "hidden": self.hidden,
        }
