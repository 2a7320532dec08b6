"""Which device TensorFlow uses; said aloud, and never a silent fallback."""

import os

from e6tag.errors import ConfigError


def choose_device(wanted: str, mixed_precision: bool) -> str:
    """Set TensorFlow up for the device and describe it.

    GPU memory grows on demand.  The GPU path has not been run: no GPU was at hand.

    Args:
        wanted: auto, cpu or gpu.
        mixed_precision: float16 arithmetic, on a GPU only.

    Raises:
        ConfigError: gpu is wanted and TensorFlow sees none, or float16 without one.
    """
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "gpu" and not gpus:
        raise ConfigError(
            "TensorFlow sees no GPU. Install the driver and `pip install tensorflow[and-cuda]`, "
            "or use --device cpu. `e6tag doctor` shows what is there."
        )
    if wanted == "cpu" or not gpus:
        if mixed_precision:
            raise ConfigError("--mixed-precision needs a GPU: on a CPU it is slower. Leave it out.")
        tf.config.set_visible_devices([], "GPU")
        return f"CPU ({os.cpu_count()} cores)"
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16")
    return f"GPU ({len(gpus)} of them, float{'16' if mixed_precision else '32'})"
