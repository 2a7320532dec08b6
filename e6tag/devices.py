"""Which device TensorFlow uses; said aloud, and never a silent fallback."""

import contextlib
import os

from e6tag.errors import ConfigError


def choose_device(
    wanted: str, mixed_precision: bool, devices: int = 1, parts: int = 1
) -> tuple[str, int]:
    """Set TensorFlow up for the devices, describe and count them.

    GPU memory grows on demand.  The GPU path has not been run: no GPU was at hand.

    Args:
        wanted: auto, cpu or gpu.
        mixed_precision: float16 arithmetic, on one GPU only.
        devices: GPUs to use, 0 for all; without a GPU, logical devices of the CPU.
        parts: of a batch, which a CPU computes side by side.

    Raises:
        ConfigError: gpu is wanted and TensorFlow sees none or fewer, or float16 without one.
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
        return use_cpu(max(1, devices), parts)
    count = devices or len(gpus)
    check_gpus(count, len(gpus), mixed_precision)
    tf.config.set_visible_devices(gpus[:count], "GPU")
    for gpu in gpus[:count]:
        tf.config.experimental.set_memory_growth(gpu, True)
    if mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16")
    return f"GPU ({count} of {len(gpus)}, float{'16' if mixed_precision else '32'})", count


def check_gpus(count: int, found: int, mixed_precision: bool) -> None:
    """Refuse what the GPUs cannot do.

    Raises:
        ConfigError: there are fewer, or several are to use float16.
    """
    if count > found:
        raise ConfigError(
            f"TensorFlow sees {found} GPUs, not {count}. Use --devices 0 for all of them."
        )
    if count > 1 and mixed_precision:
        raise ConfigError("--mixed-precision is for one GPU. Leave it or --devices out.")


def use_cpu(count: int, parts: int) -> tuple[str, int]:
    """Set the CPU up, as so many logical devices: to try what several GPUs would do."""
    import tensorflow as tf

    if count == 1:
        share_cores(parts)
        return f"CPU ({os.cpu_count()} cores)", 1
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, devices)
    return f"CPU ({os.cpu_count()} cores, as {count} devices)", count


def share_cores(parts: int) -> None:
    """Let one operation at a time use all cores; of a batch in parts, let each use one core.

    Where operations overlap, three gradients of one tensor are added in the order in which they
    come, so that two runs differ in their last bits.  Of a batch in parts they overlap: its
    gradients are added in pairs (`batch_parts`), which TensorFlow's arithmetic optimisation would
    join again.  A process that has computed before keeps the threads it has.
    """
    import tensorflow as tf

    if parts > 1:
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(parts)
        if parts > 1:
            tf.config.threading.set_intra_op_parallelism_threads(1)
