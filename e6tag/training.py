"""The train job: data folder -> run folder.

Order and augmentation are functions of (seed, epoch, step), and a checkpoint holds all
that a step depends on; so a run that was stopped goes on as if it had not been.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from e6tag import checkpoints, cost, files, models, optimizers, rate_range, runs, shards
from e6tag.batch_parts import check_parts
from e6tag.config import TrainConfig
from e6tag.devices import choose_device
from e6tag.errors import RunError
from e6tag.event_files import EventFiles
from e6tag.preparation import (
    build_learner,
    change_size,
    check_noise,
    keep_one_device,
    open_batches,
    prepare,
    shaping,
)
from e6tag.progress import Progress
from e6tag.replicas import check_share
from e6tag.schedules import exponential
from e6tag.session import Session, is_due, validate, write_run
from e6tag.shards import Dataset
from e6tag.throughput import Clock
from e6tag.time_budget import as_begun, step_seconds, with_epochs

log = logging.getLogger(__name__)

MOST_NAMED = 5
"""pictures that could not be read"""


def train(config: TrainConfig) -> int:
    """Train a tagger; rerun the same command to resume."""
    check_noise(config)
    dataset = shards.open_dataset(shards.default_data(config.data))
    with files.locked(config.run):
        if config.find_rate:
            return find_rate(use_device(config), dataset)
        config = as_begun(config)
        if finished_before(config, dataset):
            log.info("%s is trained already. Evaluate it: python eval.py --run %s",
                     config.run, config.run)  # fmt: skip
            return 0
        config = with_epochs(use_device(config), dataset)
        session = prepare(config, dataset)
        describe(session)
        if config.memory_gb:
            memory = cost.step_memory(session.learner)
            cost.check_fit(memory, config.batch_size, config.accumulate, config.memory_gb)
        if config.dry_run:
            log.info(estimated_time(session))
            return 0
        fit(session)
        keep_one_device(session)
        write_run(session)
    report(session)
    return 1 if session.train.failures or session.val.failures else 0


def use_device(config: TrainConfig) -> TrainConfig:
    """Set the devices up, say which they are, and resolve how many.

    Raises:
        ConfigError: there are not so many, or they cannot be used so.
    """
    words, count = choose_device(
        config.device, config.mixed_precision, config.devices, config.batch_parts
    )
    log.info("device: %s", words)
    check_share(config.batch_size, count)
    check_parts(config.batch_size, config.batch_parts, count)
    return replace(config, devices=count)


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
    log.info(cost.describe_cost(session.learner, config.batch_size))


def estimated_time(session: Session) -> str:
    """Take some steps to see how long they are; what they change is not kept."""
    seconds = step_seconds(session.learner, session.train, session.config.workers)
    # A step takes as long as its pictures have pixels.
    sizes = np.array([session.size_of(epoch) for epoch in range(session.config.epochs)])
    share = float(np.mean((sizes / session.config.image_size) ** 2))
    hours = seconds * share * session.total_steps / 3600
    return (
        f"time: about {hours:.2g} hours on this machine ({seconds:.2g} s a step, validation not "
        "counted)"
    )


def fit(session: Session) -> None:
    """Take the steps that are left, validating after each epoch."""
    config, state = session.config, session.state
    bar = Progress(
        "train", session.total_steps, unit="steps", done=state.step, quiet=config.quiet,
        estimates=False,
    )  # fmt: skip
    session.clock = Clock(state.seconds)
    session.curves = EventFiles(config.run / "tensorboard", state.step)
    with contextlib.closing(session.curves), bar:
        while state.step < session.total_steps and not session.out_of_patience():
            change_size(session)
            fit_size(session, session.size_lasts_until(), bar)
    if state.step < session.total_steps:
        log.info("stopped after %d epochs: the last %d were not better than the best",
                 len(state.history), config.patience)  # fmt: skip


def fit_size(session: Session, last_step: int, bar: Progress) -> None:
    """Take the steps up to `last_step`, or until patience ends."""
    state, clock, first_step = session.state, session.clock, session.state.step
    stream = session.train.training(state.step, last_step, session.config.workers)
    clock.lap()
    with contextlib.closing(stream):
        for pictures, labels in stream:
            rates = session.rates() if session.draws_point() else {}
            loss = session.learner.step(pictures, labels)
            check_finite(session, loss)
            clock.step_done(is_first=state.step == first_step)
            state.step += 1
            state.seconds = clock.seconds()
            if rates:
                session.curves.add(state.step, {"training/loss": loss} | rates)
            bar.update(1, f"loss {loss:.4g}, {session.pace()}")
            is_end = state.step % session.train.steps_per_epoch == 0
            if is_end or time.monotonic() - clock.saved > session.config.checkpoint_seconds:
                epochs_done = state.step // session.train.steps_per_epoch
                due = is_end and is_due(epochs_done, session.config)
                save(session, loss if due else None)
                clock.saving_done(is_end)
            if is_end and session.out_of_patience():
                return


def save(session: Session, loss: float | None) -> None:
    """Write a checkpoint, validating before where an epoch ended with a loss."""
    check_weights(session)
    if loss is not None:
        validate(session, loss)
    # First: what a checkpoint says was done must have been drawn.
    session.curves.flush()
    checkpoints.save_state(session.folder, session.learner, session.state)


def check_finite(session: Session, loss: float) -> None:
    """Stop where the loss is no number, before anything of it is kept.

    Raises:
        RunError: naming the step and what to do.
    """
    if not np.isfinite(loss):
        raise RunError(f"the loss is {loss} at step {session.state.step}. {remedy(session)}")


def check_weights(session: Session) -> None:
    """Stop where a weight is no number: a checkpoint of it would replace the last good one.

    Raises:
        RunError: naming the step and what to do.
    """
    for variable in session.learner.trainable_variables:
        if not np.isfinite(np.asarray(variable)).all():
            raise RunError(
                f"{variable.path} is not finite after step {session.state.step}. {remedy(session)}"
            )


def remedy(session: Session) -> str:
    """What to do about a training that diverged."""
    config, state = session.config, session.state
    kept = f"The checkpoint of step {state.step_saved()} is kept. " if state.weights else ""
    return (
        f"{kept}Lower --learning-rate (now {config.learning_rate:g}; --find-rate proposes one) or "
        f"--clip-norm (now {config.clip_norm:g}), and name another --run."
    )


def find_rate(config: TrainConfig, dataset: Dataset) -> int:
    """Train some steps at rising rates, and say which rate the curve proposes."""
    updates, count = rate_range.NUM_UPDATES, config.accumulate
    schedule = optimizers.range_schedule(updates, rate_range.LOWEST, rate_range.HIGHEST)
    batches, _ = open_batches(config, dataset)
    learner = build_learner(config, batches, schedule)
    stream = batches.training(0, updates * count, config.workers)
    with contextlib.closing(stream), Progress(
        "range test", updates, unit="updates", quiet=config.quiet
    ) as bar:  # fmt: skip

        def losses() -> Iterator[float]:
            for _ in range(updates):
                yield float(np.mean([learner.step(*next(stream)) for _ in range(count)]))
                bar.update()

        found = rate_range.until_divergence(losses())
    report_rate(config, found)
    return 0


def report_rate(config: TrainConfig, losses: Any) -> None:
    """Write the curve and its plot; the proposed rate on stdout, how it was read on stderr.

    Raises:
        RunError: the curve proposes none; the files are there all the same.
    """
    steps = np.arange(len(losses), dtype=np.float64)
    rates = exponential(steps, rate_range.NUM_UPDATES, rate_range.LOWEST, rate_range.HIGHEST)
    rate_range.write_curve(config.run, rates, losses)
    try:
        proposal = rate_range.propose(rates, losses)
    except RunError:
        rate_range.write_plot(config.run, rates, losses, None)
        raise
    rate_range.write_plot(config.run, rates, losses, proposal)
    log.info("the loss falls fastest at %.2g and is lowest at %.2g of %d updates; %s shows it",
             proposal.steepest, proposal.lowest, len(losses), config.run / "lr_range.png",
             )  # fmt: skip
    sys.stdout.write(f"--learning-rate {proposal.rate:.2g}\n")


def report(session: Session) -> None:
    """The result on stdout, what to do next on stderr."""
    config, best = session.config, session.state.best
    failures = session.train.failures | session.val.failures
    for post_id, problem in list(failures.items())[:MOST_NAMED]:
        log.warning("post %d was left out: %s", post_id, problem)
    if len(failures) > MOST_NAMED:
        log.warning("%d pictures were left out in all", len(failures))
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
