"""Options of the command that gets data: download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from e6tag.config.base import JobConfig

SiteName = Literal[
    "e621",
    "danbooru",
    "gelbooru",
    "moebooru",
    "philomena",
    "szurubooru",
    "shimmie2",
    "folder",
]


@dataclass(frozen=True, kw_only=True)
class DownloadConfig(JobConfig):
    """Plan a sample of a site's posts, fetch the pictures, write training shards.

    Rerun the same command to resume.  Example: python download.py --contact yourname
    """

    site: SiteName = "e621"
    """kind of source: e621 (and sites that speak like it), another kind of booru, or folder: your
    own pictures"""
    folder: Path | None = None
    """with --site folder: pictures with .txt or .json sidecars, or one CSV of tags"""
    out: Path = Path("data")
    """folder for the plan, the shards and their manifest"""
    base_url: str | None = None
    """address of the site, where it is not the kind's own, or the kind has none"""
    export_dir: Path | None = None
    """read posts.csv.gz, tags.csv.gz, ... from here instead of fetching them"""
    via: Literal["auto", "exports", "api"] = "auto"
    """exports: the site's tables of all posts, where it has them; api: its search, page by page
    (accounts: the environment variables E6TAG_LOGIN and E6TAG_API_KEY)"""
    query: str = ""
    """with the API: list only the posts that the site's own search finds for these words"""
    max_posts: int | None = None
    """with the API: list at most this many posts, the newest first"""
    contact: str | None = None
    """who you are, for the User-Agent: your name on the site, or a mail address"""
    ratings: str = ""
    """ratings to include, by the site's letters: s (safe), q (questionable), e (explicit) on most;
    only what is safe for everybody if none is named"""
    num_tags: int = 1024
    """size of the vocabulary: the most used tags"""
    min_count: int = 1
    """leave out tags with fewer posts than this among those that qualify"""
    min_groups: int = 1
    """leave out tags that fewer groups of near-copies show: they cannot be learnt and measured"""
    categories: tuple[str, ...] = ("general", "copyright", "character", "species")
    """tag categories the vocabulary takes; by default those of these that the site has"""
    tag_list: Path | None = None
    """take these tags for the vocabulary, of whatever category: a file with a name a line, or a
    tags.csv; its order is the order of the columns"""
    exclude_tags: tuple[str, ...] = ()
    """leave these tags out of the vocabulary, by exact name"""
    blacklist: bool = True
    """leave out posts with tags that the site hides from newcomers by default"""
    positives: int = 512
    """training posts wanted for each tag"""
    val_positives: int = 64
    """validation posts wanted for each tag (and as many for test)"""
    strategy: Literal["random", "cover", "quota", "all"] = "random"
    """random: near-uniform given the tag; cover: fewest posts; quota: one tag a post; all posts"""
    budget: int | None = None
    """exactly this many posts, or all there are: tags get positives as evenly as that allows"""
    extra_random: int = 0
    """as many further training posts at random, whatever their tags: unbiased negatives"""
    spare: float = 0.05
    """share of further posts kept in reserve, fetched only where pictures fail"""
    split: Literal["hash", "time", "artist", "stratified"] = "hash"
    """hash: stable for ever; time: the newest are held out; artist: artists never straddle;
    stratified: rare tags in the right shares"""
    near_duplicates: bool = True
    """leave held-out pictures out that look like a picture of another split"""
    variant: Literal["sample", "preview", "original"] = "sample"
    """which file of a post to fetch; the original where the site has no such file"""
    image_size: int = 320
    """longest side that pictures are stored with, in pixels"""
    jpeg_quality: int = 92
    """quality that pictures are stored with"""
    requests_per_second: float = 1.0
    """never more requests than this, all connections together"""
    connections: int = 4
    """pictures under way at once"""
    min_side: int = 16
    """leave out posts whose shorter side is smaller, in pixels"""
    max_aspect: float = 4.0
    """leave out posts longer than this many times their width, either way"""
    update: bool = False
    """compare the data with today's exports; fetch what changed, rewrite only shards it touches"""
    purge: bool = False
    """remove from the data what today's exports say is deleted or no longer allowed"""
    plan_only: bool = False
    """write the plan, say what it would cost, fetch nothing"""
    retry_failed: bool = False
    """try again what failed for good in an earlier run"""
    json: bool = False
    """print the summary as JSON on stdout"""
    seed: int = 0
    """fixes the sample; the same export, options and seed give the same plan"""
