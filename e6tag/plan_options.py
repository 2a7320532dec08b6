"""What a plan depends on besides the collection, and what of it cannot be."""

from dataclasses import dataclass
from typing import get_args

from e6tag.errors import ConfigError
from e6tag.sampling import Strategy
from e6tag.sites.base import Site
from e6tag.splits import SplitKind

LEAST = {
    "num_tags": 1,
    "min_groups": 1,
    "positives": 1,
    "val_positives": 0,
    "budget": 1,
    "extra_random": 0,
    "spare": 0,
    "max_aspect": 1,
}
MOST_SPARE = 1.0


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What the plan depends on, besides the collection; named as in `DownloadConfig`."""

    ratings: str = "s"
    num_tags: int = 1024
    min_count: int = 1
    min_groups: int = 1
    categories: tuple[str, ...] = ("general", "copyright", "character", "species")
    tag_list: tuple[str, ...] | None = None
    """the vocabulary's names in order, in place of the most frequent ones"""
    exclude_tags: tuple[str, ...] = ()
    blacklist: bool = True
    positives: int = 512
    val_positives: int = 64
    strategy: Strategy = "random"
    budget: int | None = None
    extra_random: int = 0
    spare: float = 0.05
    split: SplitKind = "hash"
    min_side: int = 16
    max_aspect: float = 4.0
    seed: int = 0

    def wanted(self, split: str) -> int:
        """Positives wanted for each tag in a split; 0 where every post is taken anyway."""
        if self.strategy == "all":
            return 0
        return self.positives if split == "train" else self.val_positives

    @property
    def has_demands(self) -> bool:
        """Whether the numbers of positives alone decide how many posts are taken."""
        return self.strategy != "all" and self.budget is None


def check_options(site: Site, options: PlanOptions) -> frozenset[str]:
    """The letters of the ratings asked for.

    Raises:
        ConfigError: a rating, category, kind or number that cannot be.
    """
    ratings = rating_letters(options)
    if not ratings or not ratings <= site.ratings.keys():
        raise ConfigError(
            f"--ratings {options.ratings!r}: expected letters of "
            f"{', '.join(f'{letter} ({word})' for letter, word in site.ratings.items())}."
        )
    unknown = set(options.categories) - set(site.categories.values())
    if unknown or not options.categories:
        raise ConfigError(
            f"--categories: {site.name} has no {', '.join(sorted(unknown)) or 'empty choice'}. "
            f"Known: {', '.join(site.categories.values())}."
        )
    if options.split not in get_args(SplitKind):
        raise ConfigError(f"--split {options.split}: expected {', '.join(get_args(SplitKind))}.")
    check_numbers(options)
    return ratings


def check_numbers(options: PlanOptions) -> None:
    """Refuse numbers that are out of range.

    Raises:
        ConfigError: naming the option.
    """
    for name, smallest in LEAST.items():
        value = getattr(options, name)
        # Not value < smallest: nothing is less than a NaN.
        if value is not None and not value >= smallest:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: expected {smallest} or more.")
    if options.budget is not None and options.extra_random > options.budget:
        raise ConfigError(
            f"--extra-random {options.extra_random} is more than --budget {options.budget}, "
            "which counts all posts."
        )
    if options.spare > MOST_SPARE:
        raise ConfigError(f"--spare {options.spare:g}: a share, {MOST_SPARE:g} at most.")


def rating_letters(options: PlanOptions) -> frozenset[str]:
    """The ratings asked for: s,q is sq."""
    return frozenset(options.ratings) - {",", " "}
