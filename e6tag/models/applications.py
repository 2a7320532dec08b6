"""Backbones of keras.applications: pictures in their convention, layers named after stages.

Their ImageNet weights are fetched by Keras itself, checked by the checksums that it knows, and
kept in its own folder (~/.keras, or KERAS_HOME).
"""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from e6tag.batch_norm import BatchNormalization
from e6tag.errors import ConfigError, FetchError

MOMENTUM = 0.97
"""of batch statistics where training starts from scratch: see `e6tag.models.resnet`"""
MAX_NAMES = 12
MAX_REASON = 200
"""characters of Keras' explanations that are passed on"""
DIGITS = 9
"""of what was found by trying in single precision"""


class Convention(NamedTuple):
    """What a network wants pictures to be: scale * value + offset in each channel."""

    is_bgr: bool
    scale: list[float]
    """(3,), in the order of the channels that the network wants"""
    offset: list[float]
    """(3,)"""


def names() -> list[str]:
    """Models that keras.applications has."""
    return [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]


def application(name: str) -> Callable[..., Any]:
    """The function of keras.applications that makes a model.

    Raises:
        ConfigError: there is none of that name.
    """
    known = names()
    if name not in known:
        alike = [other for other in known if other.lower().startswith(name.lower()[:3])] or known
        some = ", ".join(alike[:MAX_NAMES])
        raise ConfigError(
            f"keras.applications has no {name or 'model without a name'}. There are: {some}, ..."
        )
    function: Callable[..., Any] = getattr(keras.applications, name)
    return function


def convention(function: Callable[..., Any]) -> Convention:
    """What a model's own `preprocess_input` does to pictures, found by trying it.

    It is linear in each channel, with red and blue swapped in some: black and the three colours
    tell it all.  Models that scale pictures inside leave them as they are.
    """
    preprocess = importlib.import_module(function.__module__).preprocess_input
    tried = np.zeros((1, 1, 4, 3), np.float32)
    tried[0, 0, 1:] = 255 * np.eye(3)
    done = np.asarray(preprocess(tried.astype(np.float64)), np.float64)[0, 0]
    slopes = (done[1:] - done[0]) / 255
    is_bgr = bool(slopes[0, 0] == 0)
    scale = slopes[::-1].diagonal() if is_bgr else slopes.diagonal()
    return Convention(is_bgr, scale.round(DIGITS).tolist(), done[0].round(DIGITS).tolist())


def prepare(pictures: Any, wanted: Convention) -> Any:
    """Pictures (batch, height, width, 3) of 0..255, red first, as a network wants them."""
    if wanted.is_bgr:
        pictures = ops.take(pictures, [2, 1, 0], axis=-1)
    if wanted.scale == [1, 1, 1] and wanted.offset == [0, 0, 0]:
        return pictures
    return layers.Rescaling(wanted.scale, wanted.offset, name="rescale")(pictures)


def feature_map(
    pictures: Any, name: str, is_pretrained: bool, stage_of: Callable[[str], str]
) -> Any:
    """Feature map of a model of keras.applications.

    Args:
        pictures: Keras tensor (batch, height, width, 3), values 0..255.
        name: of the model.
        is_pretrained: with ImageNet weights, else from scratch.
        stage_of: name of a layer with weights -> stem, stage1, ..., head.

    Returns:
        Keras tensor (batch, height / 32, width / 32, channels) with most of them.

    Raises:
        ConfigError: there is none of that name, or it needs larger pictures.
        FetchError: its weights cannot be fetched.
    """
    function = application(name)
    prepared = prepare(pictures, convention(function))
    network = make(function, prepared, "imagenet" if is_pretrained else None)
    for layer in network.layers:
        if layer.weights:
            adapt(layer, is_pretrained)
            layer.name = f"{stage_of(layer.name)}_{layer.name}"
    return network.output


def make(function: Callable[..., Any], prepared: Any, weights: str | None) -> Any:
    """The model without its classifier.

    Raises:
        ConfigError: it cannot be made for pictures of this size.
        FetchError: its weights cannot be fetched.
    """
    name, side = function.__name__, prepared.shape[1]
    try:
        # Keras tells of its downloads on stdout, where results belong.
        with contextlib.redirect_stdout(sys.stderr):
            return function(
                include_top=False, weights=weights, input_tensor=prepared,
                input_shape=tuple(prepared.shape[1:]),
            )  # fmt: skip
    except Exception as problem:  # noqa: BLE001 (nothing narrower is raised by a lost download)
        raise explain(problem, name, side, weights) from None


def explain(problem: Exception, name: str, side: int, weights: str | None) -> Exception:
    """What a failure of Keras means to who asked for the model; itself where it is no usual one.

    A download that fails raises a plain Exception, one that is damaged a ValueError.
    """
    reason = " ".join(str(problem).split())[:MAX_REASON]
    is_download = type(problem) is Exception or isinstance(problem, OSError)
    if weights and (is_download or "corrupted" in reason):
        return FetchError(
            f"the ImageNet weights of {name} cannot be fetched ({reason}). Try again with a "
            "network, or use --weights none."
        )
    if isinstance(problem, ValueError):
        return ConfigError(f"keras:{name} cannot be made for pictures of {side} px: {reason}")
    return problem


def adapt(layer: Any, is_pretrained: bool) -> None:
    """Fused batch normalisation, whose statistics follow fast where they start from nothing.

    (Theirs take 1,000s of steps.)
    """
    if type(layer) is not layers.BatchNormalization:
        return
    # Only the way of computing differs, and Keras lets nobody exchange a layer of a made model.
    layer.__class__ = BatchNormalization
    if not is_pretrained:
        layer.momentum = MOMENTUM
