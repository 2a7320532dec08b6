"""From a backbone's maps to the vector: means, attention, maps before the last."""

from typing import Any

import keras
from keras import layers

from e6tag.config import TrainConfig
from e6tag.decoder_pooling import DecoderPooling
from e6tag.layers import AttentionPooling
from e6tag.models.stages import STAGE_NAME

DECODED = 256
"""numbers that the decoder makes where the vector has no length of its own"""


def pool_stages(pictures: Any, features: Any, options: TrainConfig) -> Any:
    """All that is pooled: the last map (`pool`), and the means of what stages before it put out.

    What a tag needs may be gone from the last map: colours, lines, texture.  Means of maps before
    it keep them (as Head2Toe does for frozen networks: Evci et al. 2022, arXiv:2201.03529), and
    their gradient has a short way to these stages.

    Args:
        pictures: Keras tensor that the network begins with.
        features: (batch, height, width, channels), the last map.
        options: pooling, heads, key_size, vector_size, queries, join, and `pooled_stages`: how
            many stages before the last, or as many as there are.

    Returns:
        (batch, numbers).
    """
    pooled = pool(
        features, options.pooling, options.heads, options.key_size,
        outputs=options.vector_size or DECODED, queries=options.queries, join=options.join,
    )  # fmt: skip
    wanted = options.pooled_stages
    maps = earlier_maps(pictures, features)[-wanted:] if wanted else []
    if not maps:
        return pooled
    means = [layers.GlobalAveragePooling2D(name=f"{stage}_mean")(found) for stage, found in maps]
    return layers.Concatenate(name="stages")([pooled, *means])


def earlier_maps(pictures: Any, features: Any) -> list[tuple[str, Any]]:
    """(name of a stage, what enters it) in order: what the stages before the last put out.

    Not what enters the first: the pictures themselves, where there is no stem.
    """
    entered: dict[str, Any] = {}
    for layer in keras.Model(pictures, features).layers:
        stage = STAGE_NAME.match(layer.name)
        if stage and stage[1] not in ("stem", "stage1"):
            entered.setdefault(stage[1], layer.input)
    return [(f"before_{stage}", found) for stage, found in entered.items()]


def pool(
    features: Any, pooling: str, heads: int, key_size: int,
    *, outputs: int, queries: int, join: str = "concat",
) -> Any:  # fmt: skip
    """Feature map to its mean and, after it, what attention finds.

    Args:
        features: (batch, height, width, channels).
        pooling: mean alone, attention of the cells to each other, or ml-decoder.
        heads, key_size: of the attention; without heads, the mean alone.
        outputs: numbers that the decoder makes.
        queries: that the decoder asks.
        join: concat or sum of the mean and what attention found.

    Returns:
        (batch, channels), and heads * key_size (attention, unless summed) or outputs (ml-decoder)
        more.
    """
    if pooling == "attention" and heads:
        pooled = AttentionPooling(heads, key_size, name="pooling")(features)
        return pooled if join == "concat" else added(pooled, int(features.shape[-1]))
    mean = layers.GlobalAveragePooling2D(name="pooling")(features)
    if pooling != "ml-decoder":
        return mean
    decoder = DecoderPooling(outputs, queries, heads, key_size, name="decoder")
    return layers.Concatenate(name="pooled")([mean, decoder(features)])


def added(pooled: Any, channels: int) -> Any:
    """[mean ; attended] to mean + A attended, (batch, channels): a transformer's residual sum."""
    mean, attended = pooled[:, :channels], pooled[:, channels:]
    return layers.Add(name="pooled")([mean, layers.Dense(channels, name="attended")(attended)])


def summarise(pooled: Any, vector_size: int) -> Any:
    """Pooled map (batch, numbers) to vector: itself, or projected to `vector_size` numbers.

    What is projected is standardised before, and layer-normalised after: high rates stay stable.

    Returns:
        (batch, vector_size or numbers), float32.
    """
    if not vector_size:
        return layers.Activation("linear", dtype="float32", name="vector")(pooled)
    x = layers.BatchNormalization(momentum=0.97, dtype="float32", name="pooled_bn")(pooled)
    x = layers.Dense(vector_size, dtype="float32", name="projection")(x)
    return layers.LayerNormalization(epsilon=1e-5, dtype="float32", name="vector")(x)
