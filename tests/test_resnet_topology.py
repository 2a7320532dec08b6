"""ResNets of bottlenecks, of any widths and strides, against formulas and published figures."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_backbones import exported, pictures, resnet_map, stirred
from test_cost import profiled

from e6tag import checkpoints, models, preparation, training
from e6tag.config import TrainConfig
from e6tag.cost import multiply_adds
from e6tag.errors import ConfigError
from e6tag.models.resnet import Topology

SHARES = np.array([0.01, 0.05, 0.2, 0.5, 0.9])
V4 = {
    "depth": (3, 8, 11, 11, 11, 3), "filters": (256, 512, 1024, 1024, 1024, 2048),
    "block": "bottleneck", "stem": "plain",
}  # fmt: skip
"""DeepDanbooru's resnet_custom_v4: one block that makes the map smaller, 2 to 10 more a stage"""
SMALL = {
    "backbone": "resnet", "depth": (2, 1, 2, 1, 1, 1), "filters": (16, 24, 32, 32, 32, 48),
    "block": "bottleneck", "max_stride": 16, "image_size": 64, "vector_size": 12, "heads": 2,
    "key_size": 4, "pooling": "attention", "pooled_stages": 5, "heteroscedastic": True,
}  # fmt: skip


def by_hand(depth, filters, strides, side):
    """Parameters and multiply-adds of a plain-stem ResNet of bottlenecks, one loop per layer."""
    parameters = multiplied = 0

    def convolution(kernel, filters_in, filters_out, cells):
        nonlocal parameters, multiplied
        # Batch normalisation has four numbers a channel.
        parameters += kernel * kernel * filters_in * filters_out + 4 * filters_out
        multiplied += cells * cells * kernel * kernel * filters_in * filters_out

    now, side = filters[0] // 4, math.ceil(side / 2)
    convolution(7, 3, now, side)
    side = math.ceil(side / 2)
    for repeats, wide, stride in zip(depth, filters, strides, strict=True):
        for block in range(repeats):
            before = side
            side = math.ceil(side / stride) if block == 0 else side
            convolution(1, now, wide // 4, before)
            convolution(3, wide // 4, wide // 4, side)
            convolution(1, wide // 4, wide, side)
            if block == 0:
                convolution(1, now, wide, side)
            now = wide
    return parameters, multiplied, side


@pytest.mark.parametrize(
    ("options", "strides", "side"),
    [
        ({**V4}, (1, 2, 2, 2, 2, 2), 224),
        ({**V4, "max_stride": 32}, (1, 2, 2, 2, 1, 1), 224),
        ({**V4, "max_stride": 16}, (1, 2, 2, 1, 1, 1), 96),
        ({**V4, "depth": (1, 2), "filters": (8, 20)}, (1, 2), 75),
        ({**V4, "depth": (2, 1, 1), "filters": (16, 8, 8), "max_stride": 8}, (1, 2, 1), 64),
    ],
)
def test_parameters_multiply_adds_and_map_are_those_of_the_formula(options, strides, side):
    network = resnet_map(size=side, **options)
    parameters, multiplied, cells = by_hand(options["depth"], options["filters"], strides, side)
    assert network.count_params() == parameters
    assert multiply_adds(network) == multiplied
    assert network.output.shape == (None, cells, cells, options["filters"][-1])


@pytest.mark.parametrize("max_stride", [0, 32])
def test_the_topology_of_deepdanbooru_has_its_parameters(max_stride):
    # deepdanbooru 1.0.4, resnet_custom_v4 without its last convolution, built with Keras 3.15:
    # 57,039,808 numbers, 56,893,504 of them trained, 6,221,185,024 multiply-adds at 224 px.
    network = resnet_map(size=224, **V4, max_stride=max_stride)
    assert network.count_params() == 57_039_808
    assert sum(math.prod(w.shape) for w in network.trainable_weights) == 56_893_504
    if max_stride == 0:
        assert multiply_adds(network) == 6_221_185_024


def test_four_stages_of_bottlenecks_are_the_published_resnet_50():
    # torchvision's resnet50, whose 3x3 convolutions have the strides, without its classifier:
    # 25,557,032 - 2,049,000 parameters, and the moving statistics of 26,560 channels; 4.089 * 10^9
    # multiply-adds, 2,048,000 of them the classifier's.
    network = resnet_map(size=224, depth=(3, 4, 6, 3), width=64, block="bottleneck", stem="plain")
    assert network.count_params() == 25_557_032 - 2_049_000 + 2 * 26_560
    assert multiply_adds(network) == pytest.approx(4.089e9 - 2_048_000, rel=1e-3)


@pytest.mark.parametrize("stem", ["d", "plain"])
def test_tensorflow_counts_the_same_multiply_adds(stem):
    network = resnet_map(size=64, **{**V4, "depth": (1, 2, 1), "filters": (16, 32, 40)} | {
        "stem": stem, "max_stride": 8,
    })  # fmt: skip
    assert multiply_adds(network) == profiled(network, 64)


@given(
    st.integers(1, 8),
    st.sampled_from([0, *range(4, 300)]),
    st.sampled_from(["basic", "bottleneck"]),
)
@settings(deadline=None)
def test_strides_stay_within_the_largest_and_reach_it(stages, max_stride, block):
    found = Topology.of((1,) * stages, 8, (), block, max_stride).strides()
    total = 4 * math.prod(found)
    assert found[0] == 1 and found == [1, *sorted(found[1:], reverse=True)]
    if not max_stride:
        assert total == 4 * 2 ** (stages - 1)
    else:
        assert total <= max_stride
        assert 2 * total > max_stride or total == 4 * 2 ** (stages - 1)


@pytest.mark.parametrize("attention", ["none", "se", "eca"])
@pytest.mark.parametrize("stem", ["d", "plain"])
def test_bottlenecks_are_their_shortcuts_at_the_start(stem, attention):
    network = resnet_map(**SMALL | {"stem": stem, "channel_attention": attention})
    for name, before in [
        ("stage1_block1", "stage1_block1_shortcut_bn"),
        ("stage1_block2", "stage1_block1_silu"),
        ("stage4_block1", "stage4_block1_shortcut_bn"),
    ]:
        ends = [network.get_layer(part).output for part in (f"{name}_add", before)]
        added, entered = keras.Model(network.input, ends)(pictures(size=64))
        np.testing.assert_array_equal(added, entered)


def test_stages_of_bottlenecks_have_the_filters_asked_for():
    network = resnet_map(**SMALL)
    for i, wide in enumerate(SMALL["filters"], 1):
        assert network.get_layer(f"stage{i}_block1_silu").output.shape[-1] == wide
        assert network.get_layer(f"stage{i}_block1_second").filters == wide // 4


def test_basic_blocks_can_have_any_filters_too():
    network = resnet_map(depth=(1, 2), filters=(6, 10))
    assert network.output.shape == (None, 8, 8, 10)
    assert network.get_layer("stem_conv3").filters == 6


def test_six_stages_are_frozen_in_turn():
    for freeze in (0, 2, 6):
        network = models.build_tagger(TrainConfig(**SMALL, freeze=freeze), SHARES)
        still = {
            part.name.split("_")[0]
            for part in models.backbone_layers(network) if not part.trainable
        }  # fmt: skip
        assert still == {"stem", *(f"stage{i}" for i in range(1, freeze + 1))} - (
            set() if freeze else {"stem"}
        )


@pytest.mark.parametrize("more", [{"stem": "plain", "max_stride": 32}, {"channel_attention": "se"}])
def test_bottlenecks_are_exported_and_survive_saving(more, tmp_path):
    network = stirred(models.build_tagger(TrainConfig(**SMALL | more), SHARES))
    exported(network, tmp_path, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": (8, 16)}, "--filters needs a number for each of the 4 stages.*Received: 2"),
        (
            {"block": "bottleneck", "filters": (8, 16, 30, 64)},
            "--filters of --block bottleneck must be multiples of 4. Received: 30",
        ),
        ({"max_stride": 2}, "--max-stride must be 0 or at least 4, the stem's. Received: 2"),
        (
            {"backbone": "mobilenetv3-small", "filters": (8,)},
            "--filters is for resnet only, not for mobilenetv3-small",
        ),
        ({"backbone": "mobilenetv3-small", "block": "bottleneck"}, "--block is for resnet only"),
        ({"backbone": "mobilenetv3-small", "max_stride": 32}, "--max-stride is for resnet only"),
    ],
)
def test_topologies_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        models.build_tagger(TrainConfig(**{"backbone": "resnet"} | options), SHARES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block", "bottleneck"), ("filters", (8, 8, 8, 8)), ("max_stride", 8),
        ("momentum", (0.99, 0.99)), ("div_factor", 40.0), ("final_div_factor", 1.0),
    ],
)  # fmt: skip
def test_a_run_is_not_resumed_with_another_topology_or_cycle(name, value, tmp_path):
    begun = training.shaping(TrainConfig())
    del begun[name]  # as of before there was such an option
    state = checkpoints.State(begun, "x")
    checkpoints.check_same(tmp_path, state, training.shaping(TrainConfig()), "x")
    asked = training.shaping(TrainConfig(**{name: value}))
    with pytest.raises(ConfigError, match=f"begun with {name} "):
        checkpoints.check_same(tmp_path, state, asked, "x")


def test_a_joint_likelihood_has_no_mean_over_tags():
    with pytest.raises(ConfigError, match="Use --reduction sum"):
        preparation.check_noise(
            TrainConfig(heteroscedastic=True, likelihood="joint", loss="bce", reduction="mean")
        )
