"""Keras model -> model.onnx, checked against each other, and the run.json that vouches for it.

The tagging side runs this file with ONNX Runtime and never meets TensorFlow.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from e6tag.errors import RunError
from e6tag.files import finished, sha256
from e6tag.inference import OUTPUTS

log = logging.getLogger(__name__)

OPSET = 17
INPUT = "pictures"
BATCH = "batch"
"""name of the first dimension, which may be of any size"""
TOLERANCE = 1e-3
"""Largest difference allowed between Keras and ONNX Runtime, relative to a vector's size."""


def export_onnx(network: Any, path: Path, image_size: int) -> dict[str, Any]:
    """Write model.onnx: input `pictures` float32 (N, S, S, 3) of 0..255, three named outputs.

    Args:
        network: Keras model with a dictionary of outputs.
        path: file to write, finished or absent.
        image_size: S.

    Returns:
        sha256 and bytes of the file.

    Raises:
        RunError: ONNX Runtime computes something else than Keras; nothing is written.
    """
    with finished(path) as part:
        convert(network, part, image_size)
        difference = compare(network, part, image_size)
        if not difference < TOLERANCE:
            raise RunError(
                f"{path}: ONNX Runtime differs from Keras by {difference:.2g} (relative). "
                "Please report this with the versions that `e6tag doctor` prints."
            )
    log.info("exported %s (differs from Keras by %.1g)", path, difference)
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def convert(network: Any, path: Path, image_size: int) -> None:
    """Trace the network for inference and write it as ONNX."""
    import tensorflow as tf
    import tf2onnx

    settle_constants(network)
    signature = [tf.TensorSpec((None, image_size, image_size, 3), tf.float32, name=INPUT)]

    def infer(pictures: Any) -> dict[str, Any]:
        outputs = network(pictures, training=False)
        return {name: tf.identity(tf.cast(outputs[name], tf.float32)) for name in OUTPUTS}

    traced = tf.function(infer, input_signature=signature)
    model, _ = tf2onnx.convert.from_function(traced, signature, opset=OPSET)
    path.write_bytes(rename(model).SerializeToString())


def settle_constants(network: Any) -> None:
    """Let tracing see constants where Keras' Normalization keeps tensors.

    Tensors from outside of the traced function would become inputs of the ONNX model.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def rename(model: Any) -> Any:
    """Give input and outputs their documented names; no training machine's paths stay inside."""
    graph = model.graph
    if sorted(output.name for output in graph.output) != sorted(OUTPUTS):
        raise RunError(f"unexpected ONNX outputs: {[output.name for output in graph.output]}.")
    old = graph.input[0].name
    graph.input[0].name = INPUT
    for node in graph.node:
        node.input[:] = [INPUT if name == old else name for name in node.input]
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    model.doc_string = ""
    return model


def compare(network: Any, path: Path, image_size: int) -> float:
    """Largest relative difference between Keras and ONNX Runtime over all outputs."""
    import onnxruntime

    pictures = np.random.default_rng(0).uniform(0, 255, (2, image_size, image_size, 3))
    pictures = pictures.astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    theirs = session.run(list(OUTPUTS), {INPUT: pictures})
    ours = network(pictures, training=False)
    worst = 0.0
    for name, other in zip(OUTPUTS, theirs, strict=True):
        one = np.asarray(ours[name], np.float32)
        worst = max(worst, float(np.max(np.abs(one - other)) / (1e-6 + np.max(np.abs(one)))))
    return worst
