"""From options and a data folder to all that a training run holds."""

import contextlib
import logging
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from e6tag import checkpoints, models
from e6tag.augmentation import Augmentation
from e6tag.batches import Batches
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError, DataError
from e6tag.joint import JointLikelihood
from e6tag.learner import Learner
from e6tag.objective import Objective
from e6tag.optimizers import make_optimizer, make_schedule
from e6tag.replicas import make_strategy
from e6tag.session import Session, training_shares
from e6tag.shards import Dataset

log = logging.getLogger(__name__)

NOT_SHAPING = {
    "config", "quiet", "run", "data", "device", "devices", "workers", "checkpoint_seconds",
    "dry_run", "find_rate", "memory_gb", "json",
}  # fmt: skip
"""Options that do not change what is learnt: they may differ when a run is resumed."""


def shaping(config: TrainConfig) -> dict[str, Any]:
    """The options that shape the result, as JSON values."""
    values = {name: v for name, v in asdict(config).items() if name not in NOT_SHAPING}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def check_noise(config: TrainConfig) -> None:
    """Refuse label noise and likelihoods that do not go together, or would change nothing.

    Raises:
        ConfigError: naming the option that is in its way.
    """
    if config.noise == "vector" and not config.heteroscedastic:
        raise ConfigError("--noise vector needs label noise: add --heteroscedastic.")
    if config.learn_temperature and config.noise != "vector":
        raise ConfigError("--learn-temperature needs --noise vector.")
    if config.likelihood == "marginal":
        return
    if config.noise == "vector":
        raise ConfigError("--likelihood joint needs --noise tags. Received: vector.")
    if not config.heteroscedastic or not config.factors:
        raise ConfigError(
            "--likelihood joint needs correlated label noise: "
            "add --heteroscedastic, and leave --factors above 0."
        )
    if config.loss != "bce":
        raise ConfigError(
            f"--likelihood joint is a likelihood of labels, which --loss {config.loss} is not. "
            "Add --loss bce."
        )
    if config.reduction != "sum":
        raise ConfigError(
            "--likelihood joint has no mean over tags. Use --reduction sum. "
            f"Received: {config.reduction}."
        )


def prepare(config: TrainConfig, dataset: Dataset) -> Session:
    """Batches, model and state; weights of the last checkpoint where there is one."""
    train_batches, val_batches = open_batches(config, dataset)
    learner = build_learner(config, train_batches)
    state = checkpoints.load_state(
        config.run / "checkpoints", shaping(config), dataset.info["fingerprint"]
    )
    session = Session(config, dataset, train_batches, val_batches, learner, state)
    load_last(session)
    if state.weights:
        log.info("resuming at step %d of %d", state.step, session.total_steps)
    return session


def load_last(session: Session) -> None:
    """Give the learner the weights of the last checkpoint, where there is one."""
    if session.state.weights:
        checkpoints.load_weights(session.learner, session.folder / session.state.weights)


def change_size(session: Session) -> None:
    """Go on from the last checkpoint with a network for pictures of the present epoch's size.

    Weights do not depend on the size, compiled steps do.  To change the size and to resume are one
    thing, so a run that was stopped at the change goes on as if it had not been.
    """
    size = session.size_of(session.state.step // session.train.steps_per_epoch)
    if size == session.train.image_size:
        return
    # Names count up otherwise, and checkpoints are read by name.
    keras.utils.clear_session()
    session.learner = build_learner(replace(session.config, image_size=size), session.train)
    load_last(session)
    session.train.image_size = session.val.image_size = size
    log.info("pictures are %d px now", size)


def open_batches(config: TrainConfig, dataset: Dataset) -> tuple[Batches, Batches]:
    """Training and validation batches.

    Raises:
        DataError: nothing can be learnt of this data.
    """
    augmentation = Augmentation(
        config.flip, config.crop, config.colour_jitter, config.trivial_augment,
        config.mixup, config.cutmix,
    )  # fmt: skip
    train = Batches(
        dataset, "train", config.image_size, config.batch_size,
        augmentation=augmentation, repeat_factor=config.repeat_factor, seed=config.seed,
    )  # fmt: skip
    val = Batches(dataset, "val", config.image_size, config.batch_size)
    check_splits(dataset, train, val)
    return train, val


def check_splits(dataset: Dataset, train_batches: Batches, val_batches: Batches) -> None:
    """Refuse an empty split or vocabulary; say which tags nothing can be learnt of."""
    for name, batches in [("train", train_batches), ("val", val_batches)]:
        if not len(batches):
            raise DataError(
                f"{dataset.path} has no pictures in split {name}. Download more posts, "
                "or run download.py with a larger --positives and --val-positives."
            )
    if not len(dataset.vocabulary):
        raise DataError(f"{dataset.path / 'tags.csv'} has no tags. Run download.py again.")
    barren = np.flatnonzero(train_batches.labels.sum(axis=0) == 0)
    if len(barren):
        names = [dataset.vocabulary.names[column] for column in barren[:5]]
        log.warning("%d tags have no training pictures (%s ...)", len(barren), ", ".join(names))


def build_learner(config: TrainConfig, batches: Batches, schedule: Any = None) -> Learner:
    """Network, objective and optimiser with their initial values.

    Args:
        config: the options of the run.
        batches: of the training split.
        schedule: learning rate (default: the options').
    """
    return assemble(config, training_shares(batches), batches.steps_per_epoch, schedule)


def assemble(
    config: TrainConfig, shares: NDArray[np.float64], steps_per_epoch: int, schedule: Any = None
) -> Learner:
    """`build_learner` of what it needs to know of the data.

    Args:
        config: the options of the run.
        shares: (num_tags,) share of the training pictures with each tag, in (0, 1).
        steps_per_epoch: batches in one pass.
        schedule: learning rate (default: the options').
    """
    keras.utils.set_random_seed(config.seed)
    strategy = make_strategy(config.devices)
    with strategy.scope() if strategy else contextlib.nullcontext():
        return put_together(config, shares, steps_per_epoch, schedule, strategy)


def put_together(
    config: TrainConfig,
    shares: NDArray[np.float64],
    steps_per_epoch: int,
    schedule: Any,
    strategy: Any,
) -> Learner:
    """`assemble` with a seed set, in the scope of the strategy, if there is one."""
    network = models.build_tagger(config, shares)
    objective = build_objective(config, len(shares), steps_per_epoch)
    likelihood = JointLikelihood(config.factor_samples, config.seed)
    joint = likelihood if config.likelihood == "joint" else None
    learner = Learner(network, objective, joint, strategy, config.batch_parts)
    slow = models.backbone_paths(network) if models.is_pretrained(config) else []
    optimizer = make_optimizer(
        config.optimizer, schedule or schedule_of(config, steps_per_epoch),
        weight_decay=config.weight_decay, clip_norm=config.clip_norm, ema=config.ema,
        slow=(slow, config.backbone_rate), accumulate=config.accumulate,
    )  # fmt: skip
    learner.compile(optimizer=optimizer, jit_compile="auto")
    learner.prepare(config.image_size)
    return learner


def keep_one_device(session: Session) -> None:
    """Go on with a learner of one device: what is exported must not know of several."""
    if session.learner.num_devices == 1:
        return
    keras.utils.clear_session()
    session.learner = build_learner(replace(session.config, devices=1), session.train)


def build_objective(config: TrainConfig, num_tags: int, steps_per_epoch: int) -> Objective:
    """The loss that the options name."""
    return Objective(
        config.loss, num_tags, config.focal_alpha, config.focal_gamma,
        asl=(config.asl_gamma_positive, config.asl_gamma_negative, config.asl_margin),
        splc_threshold=config.splc_threshold,
        splc_start=config.splc_epochs * steps_per_epoch // config.accumulate,
        reduction=config.reduction,
    )  # fmt: skip


def schedule_of(config: TrainConfig, steps_per_epoch: int) -> Any:
    """The options' learning rate, over the updates of the run."""
    updates = config.epochs * steps_per_epoch // config.accumulate
    return make_schedule(
        config.schedule, config.learning_rate, max(1, updates), config.warmup, config.anneal,
        (config.div_factor, config.final_div_factor), config.momentum,
    )  # fmt: skip
