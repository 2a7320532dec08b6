"""The train job: data folder -> run folder.

Order and augmentation are functions of (seed, epoch, step), and a checkpoint holds all
that a step depends on; so a run that was stopped goes on as if it had not been.
"""

import logging
import os
import sys
import time
from dataclasses import asdict
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from e6tag import checkpoints, files, models, runs, shards
from e6tag.batches import Augmentation, Batches
from e6tag.config import TrainConfig
from e6tag.devices import choose_device
from e6tag.errors import ConfigError, DataError, RunError
from e6tag.joint import JointLikelihood
from e6tag.learner import Learner, make_optimizer, make_schedule
from e6tag.objective import Objective
from e6tag.progress import Progress
from e6tag.session import Session, training_shares, validate, write_run
from e6tag.shards import Dataset

log = logging.getLogger(__name__)

NOT_SHAPING = {
    "config", "quiet", "run", "data", "device", "workers", "checkpoint_seconds", "dry_run", "json",
}  # fmt: skip
"""Options that do not change what is learnt: they may differ when a run is resumed."""


def train(config: TrainConfig) -> int:
    """Train a tagger; rerun the same command to resume."""
    check_likelihood(config)
    dataset = shards.open_dataset(shards.default_data(config.data))
    with files.locked(config.run):
        if finished_before(config, dataset):
            log.info("%s is trained already. Evaluate it: python eval.py --run %s",
                     config.run, config.run)  # fmt: skip
            return 0
        log.info("device: %s", choose_device(config.device, config.mixed_precision))
        session = prepare(config, dataset)
        describe(session)
        if config.dry_run:
            return 0
        fit(session)
        write_run(session)
    report(session)
    return 1 if session.train.failures or session.val.failures else 0


def check_likelihood(config: TrainConfig) -> None:
    """Refuse a joint likelihood where there is none, or where it would change nothing.

    Raises:
        ConfigError: naming the option that is in its way.
    """
    if config.likelihood == "marginal":
        return
    if not config.heteroscedastic or not config.factors:
        raise ConfigError(
            "--likelihood joint needs correlated label noise: "
            "leave --heteroscedastic on, and --factors above 0."
        )
    if config.loss != "bce":
        raise ConfigError(
            f"--likelihood joint is a likelihood of labels, which --loss {config.loss} is not. "
            "Add --loss bce."
        )


def shaping(config: TrainConfig) -> dict[str, Any]:
    """The options that shape the result, as JSON values."""
    values = {name: v for name, v in asdict(config).items() if name not in NOT_SHAPING}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def finished_before(config: TrainConfig, dataset: Dataset) -> bool:
    """Whether the run folder holds the finished result of these options on this data.

    Raises:
        ConfigError: it holds that of others.
        RunError: it is damaged.
    """
    if not (config.run / "run.json").exists():
        return False
    info = runs.open_run(config.run).info
    made = checkpoints.State(info["config"], info["data"]["fingerprint"])
    checkpoints.check_same(config.run, made, shaping(config), dataset.info["fingerprint"])
    return True


def prepare(config: TrainConfig, dataset: Dataset) -> Session:
    """Batches, model and state; weights of the last checkpoint where there is one."""
    import keras

    keras.utils.set_random_seed(config.seed)
    augmentation = Augmentation(config.flip, config.crop)
    train_batches = Batches(
        dataset, "train", config.image_size, config.batch_size,
        augmentation=augmentation, seed=config.seed,
    )  # fmt: skip
    val_batches = Batches(dataset, "val", config.image_size, config.batch_size)
    check_splits(dataset, train_batches, val_batches)
    learner = build_learner(config, train_batches)
    state = checkpoints.load_state(
        config.run / "checkpoints", shaping(config), dataset.info["fingerprint"]
    )
    session = Session(config, dataset, train_batches, val_batches, learner, state)
    if state.weights:
        checkpoints.load_weights(learner, session.folder / state.weights)
        log.info("resuming at step %d of %d", state.step, session.total_steps)
    return session


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


def build_learner(config: TrainConfig, batches: Batches) -> Learner:
    """Network, objective and optimiser with their initial values."""
    shares = training_shares(batches)
    network = models.build_tagger(config, shares)
    objective = build_objective(config, len(shares), batches.steps_per_epoch)
    joint = JointLikelihood(config.factor_samples, config.seed)
    learner = Learner(network, objective, joint if config.likelihood == "joint" else None)
    slow = models.backbone_paths(network) if models.is_pretrained(config) else []
    total_steps = config.epochs * batches.steps_per_epoch
    schedule = make_schedule(config.schedule, config.learning_rate, total_steps, config.warmup)
    optimizer = make_optimizer(
        config.optimizer, schedule, weight_decay=config.weight_decay, clip_norm=config.clip_norm,
        ema=config.ema, slow=(slow, config.backbone_rate),
    )  # fmt: skip
    learner.compile(optimizer=optimizer, jit_compile="auto")
    learner.prepare(config.image_size)
    return learner


def build_objective(config: TrainConfig, num_tags: int, steps_per_epoch: int) -> Objective:
    """The loss that the options name."""
    return Objective(
        config.loss, num_tags, config.focal_alpha, config.focal_gamma,
        asl=(config.asl_gamma_positive, config.asl_gamma_negative, config.asl_margin),
        splc_threshold=config.splc_threshold, splc_start=config.splc_epochs * steps_per_epoch,
    )  # fmt: skip


def describe(session: Session) -> None:
    """Say what is about to be trained."""
    config, network = session.config, session.learner.network
    trainable = sum(int(np.prod(w.shape)) for w in session.learner.trainable_variables)
    origin = "ImageNet weights" if models.is_pretrained(config) else "from scratch"
    log.info(
        "model: %s (%s), %d tags, %s parameters, %s of them trained; loss %s%s, optimiser %s",
        config.backbone, origin,
        len(session.dataset.vocabulary), f"{network.count_params():,}", f"{trainable:,}",
        config.loss, " (joint)" if config.likelihood == "joint" else "", config.optimizer,
    )  # fmt: skip
    log.info(
        "data: %s, %d training and %d validation pictures at %d px; %d epochs of %d steps",
        session.dataset.path, len(session.train), len(session.val), config.image_size,
        config.epochs, session.train.steps_per_epoch,
    )  # fmt: skip


def fit(session: Session) -> None:
    """Take the steps that are left, validating after each epoch."""
    config, state = session.config, session.state
    per_epoch, last_saved, started = session.train.steps_per_epoch, time.monotonic(), state.seconds
    begin = time.monotonic()
    stream = session.train.training(state.step, session.total_steps, config.workers)
    bar = Progress("train", session.total_steps, unit="steps", done=state.step, quiet=config.quiet)
    with bar:
        for pictures, labels in stream:
            loss = session.learner.step(pictures, labels)
            if not np.isfinite(loss):
                raise RunError(
                    f"the loss is {loss} at step {state.step}. Lower --learning-rate "
                    f"(now {config.learning_rate:g}); the last good checkpoint is kept."
                )
            state.step += 1
            state.seconds = started + time.monotonic() - begin
            bar.update(1, f"loss {loss:.4g}")
            if state.step % per_epoch == 0:
                validate(session, loss)
            if (
                state.step % per_epoch == 0
                or time.monotonic() - last_saved > config.checkpoint_seconds
            ):
                checkpoints.save_state(session.folder, session.learner, state)
                last_saved = time.monotonic()


def report(session: Session) -> None:
    """The result on stdout, what to do next on stderr."""
    config, best = session.config, session.state.best
    for post_id, problem in list(session.train.failures.items())[:5]:
        log.warning("post %d was left out: %s", post_id, problem)
    if config.json:
        sys.stdout.write(files.json_line(best))
    else:
        sys.stdout.write(
            f"{config.run}: val macro AP {best['macro_ap']:.4f} (prior only "
            f"{best['prior_macro_ap']:.4f}), macro AUC {best['macro_auc']:.4f}\n"
        )
    log.info(
        "next: python eval.py --run %s; python test.py PICTURE --run %s", config.run, config.run
    )
