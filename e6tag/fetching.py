"""Everything that a data folder is to hold: pictures fetched, shards written, losses made up for.

A round asks for all that is missing.  When it is over placeholders and look-alikes are known too,
and the reserve makes up for what cannot be had, in a further round.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from e6tag.config import DownloadConfig
from e6tag.incoming import Incoming
from e6tag.lookalikes import find_lookalikes
from e6tag.obtaining import Failed, Obtained, Obtainer, read_from, read_from_disk
from e6tag.placeholders import find_repeated, read_placeholders, refused, write_placeholders
from e6tag.plans import PinnedPlan, plan_options
from e6tag.progress import Progress
from e6tag.purged import read_list
from e6tag.run_log import Fetched
from e6tag.shard_work import ShardWork, plan_shards
from e6tag.sites.base import PostFile
from e6tag.source import Source
from e6tag.splits import SPLITS
from e6tag.summary import size
from e6tag.topup import choose_topup, pin_topup
from e6tag.workers import Workers

MAX_ROUNDS = 10
"""With one post in ten lost the fifth round is for one in 100,000."""


@dataclass(frozen=True)
class Holdings:
    """What a data folder is to hold, and what it has of it."""

    plan: PinnedPlan
    works: Sequence[ShardWork]
    alike: Mapping[int, int]
    """held-out posts that are not used -> the post that their picture looks like"""


def fetch_all(
    source: Source,
    plan: PinnedPlan,
    incoming: Incoming,
    works: Sequence[ShardWork],
    fetched: Fetched,
) -> Holdings:
    """Fetch what is missing, then what makes up for losses, as long as that helps.

    Args:
        source: where pictures come from, and the options.
        plan: with the posts that were taken from its reserve so far.
        incoming: the folder's unfinished part.
        works: every shard with what is there of it.
        fetched: counts what is done.

    Raises:
        FetchError: the site refuses us, or does not answer.
        DataError: a file of the folder is damaged.
    """
    config = source.config
    while True:
        fetch_pictures(source, incoming, works, fetched)
        drop_placeholders(incoming, works, fetched)
        is_compared = config.near_duplicates
        alike = find_lookalikes(config.out, works, config.quiet) if is_compared else {}
        more = next_round(config, plan, works, alike) if fetched.rounds < MAX_ROUNDS else plan
        if more is plan:
            return Holdings(plan, works, alike)
        new = plan_shards(more.table, more.topup)[len(works) :]
        incoming.find(new, retry_failed=False)
        plan, works = more, [*works, *new]
        fetched.rounds += 1


def next_round(
    config: DownloadConfig,
    plan: PinnedPlan,
    works: Sequence[ShardWork],
    alike: Mapping[int, int],
) -> PinnedPlan:
    """The plan with further posts of its reserve, which are pinned; itself, if none would help.

    Only what is lost for good is made up for: other failures may pass by the next run.  Neither
    are posts that were purged, as the reserve knows nothing of what the site says now; `update`
    does.
    """
    posts, options = plan.posts, plan_options(config)
    purged = [*read_list(config.out).causes]
    known = np.concatenate([posts["post_id"].to_numpy(), np.array(purged, np.int64)])
    reserve = plan.reserve[~plan.reserve["post_id"].isin(known)]
    if not len(reserve):
        return plan
    wanted = {split: options.wanted(split) for split in SPLITS}
    chosen = choose_topup(
        posts,
        find_lost(works, alike, len(posts)),
        len(plan.table),
        reserve,
        len(plan.vocabulary),
        wanted if options.budget is None else None,
    )
    if not len(chosen):
        return plan
    names = [work.name for work in works]
    return replace(plan, topup=pin_topup(config.out, plan.topup, chosen, names))


def find_lost(
    works: Sequence[ShardWork], alike: Mapping[int, int], num_posts: int
) -> NDArray[np.bool_]:
    """(posts,): those of the folder that failed for good, or are not used."""
    lost = np.zeros(num_posts, bool)
    unused = np.array([*alike], np.int64)
    for work in works:
        failed = [post_id for post_id, failure in work.failed.items() if failure.permanent]
        lost[work.rows_of(failed)] = True
        lost[work.rows[np.isin(work.ids, unused)]] = True
    return lost


def fetch_pictures(
    source: Source, incoming: Incoming, works: Sequence[ShardWork], fetched: Fetched
) -> None:
    """Obtain every missing picture; write each shard as soon as its last one is there."""
    left = {work.name: int(work.is_missing.sum()) for work in works}
    num_missing = sum(left.values())
    total, homes = sum(len(work.table) for work in works), dict[int, ShardWork]()
    if num_missing:
        fetched.num_asked += num_missing
        results = obtain(source, missing_posts(works, homes))
        with Progress(
            "pictures", total, unit="pictures", done=total - num_missing, quiet=source.config.quiet
        ) as progress:
            for result in results:
                work = homes.pop(result.post_id)
                take(incoming, work, result)
                fetched.count(result)
                left[work.name] -= 1
                if not left[work.name]:
                    incoming.finish_shard(work)
                progress.update(notes=notes(fetched))
    for work in works:
        # Those whose last picture was there before this run.
        incoming.finish_shard(work)


def obtain(source: Source, posts: Iterator[PostFile]) -> Iterator[Obtained | Failed]:
    """Pictures, or why there is none, in the order in which they come."""
    config = source.config
    read = read_from(source.connect()) if source.is_remote else read_from_disk
    obtainer = Obtainer(source.site, config.variant, config.image_size, config.jpeg_quality, read)
    return Workers(obtainer.obtain, config.connections).map(posts)


def missing_posts(works: Sequence[ShardWork], homes: dict[int, ShardWork]) -> Iterator[PostFile]:
    """The posts to ask for, in order; where each belongs is noted as it is handed out."""
    for work in works:
        for post in work.missing:
            homes[post["post_id"]] = work
            yield PostFile.from_row(post)


def take(incoming: Incoming, work: ShardWork, result: Obtained | Failed) -> None:
    """Keep a picture or note a failure."""
    if isinstance(result, Failed):
        incoming.note_failure(work, result)
    else:
        incoming.keep(work, result)


def notes(fetched: Fetched) -> str:
    """What is shown beside the progress."""
    failed = f", {fetched.num_failed} failed" if fetched.num_failed else ""
    return f"{size(fetched.num_bytes)}{failed}"


def drop_placeholders(incoming: Incoming, works: Sequence[ShardWork], fetched: Fetched) -> None:
    """Take placeholders out of the shards; their posts have failed."""
    known = read_placeholders(incoming.out)
    hashes = known | find_repeated(works)
    if hashes != known:
        write_placeholders(incoming.out, hashes)
    for work in works:
        if failed := refused(work, hashes):
            incoming.remove(work, failed)
            for failure in failed:
                fetched.count(failure)
