"""The same weights give the same outputs on every backend of Keras."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from conftest import ROOT, run_command

from e6tag import models
from e6tag.config import TrainConfig

SHARES = [0.01, 0.05, 0.2, 0.5, 0.9]
TINY = {
    "backbone": "resnet", "depth": (1, 1), "width": 8, "image_size": 64, "vector_size": 12,
    "heads": 2, "key_size": 4, "pooling": "attention", "pooled_stages": 5, "heteroscedastic": True,
}  # fmt: skip
OPTIONS = {
    "attention, label noise": {},
    "attention to channels, few factors": {"channel_attention": "eca", "rank": 3},
    "a decoder": {"channel_attention": "se", "stem": "plain", "pooling": "ml-decoder"},
    "a plain head (the default)": {"heteroscedastic": False, "pooling": "mean", "pooled_stages": 0},
    "noise in the vector": {"noise": "vector", "learn_temperature": True, "rank": 5},
    "a model of Keras": {"backbone": "mobilenetv3-small"},
}
ELSEWHERE = """
import json, sys
import keras, numpy as np
from e6tag import models
from e6tag.config import TrainConfig
assert keras.backend.backend() == sys.argv[2]
options = json.load(open("options.json"))
options["depth"] = tuple(options["depth"])
network = models.build_tagger(TrainConfig(**options), np.array(json.loads(sys.argv[1])))
network.load_weights("network.weights.h5")
outputs = network(np.load("pictures.npy"), training=False)
np.savez("outputs.npz", **{name: np.asarray(value) for name, value in outputs.items()})
"""
NO_JAX = "JAX is not installed: pip install jax"
JAX = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason=NO_JAX)


def written(options, folder):
    """A network with weights of no pattern, its options and pictures, in a folder."""
    keras.utils.set_random_seed(0)
    network = models.build_tagger(TrainConfig(**options), np.array(SHARES))
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if weight.dtype == "float32":
            weight.assign(weight.numpy() + 0.02 * np.abs(rng.normal(size=weight.shape)))
    network.save_weights(folder / "network.weights.h5")
    (folder / "options.json").write_text(json.dumps(options))
    pictures = rng.integers(0, 256, (4, 64, 64, 3)).astype("float32")
    np.save(folder / "pictures.npy", pictures)
    return network, pictures


# TensorFlow in another process shows that what is compared does not depend on the process.
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=JAX)])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_weights_give_the_same_outputs(name, backend, tmp_path):
    network, pictures = written({**TINY, **OPTIONS[name]}, tmp_path)
    done = run_command(
        ["-c", ELSEWHERE, json.dumps(SHARES), backend], tmp_path,
        environment={"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    theirs = np.load(tmp_path / "outputs.npz")
    for output, ours in network(pictures, training=False).items():
        np.testing.assert_allclose(theirs[output], ours, atol=1e-5, rtol=1e-5, err_msg=output)
