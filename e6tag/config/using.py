"""Options of the commands that use a model, of the demo and the doctor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from e6tag.config.base import JobConfig

K = arg(aliases=["-k"])
T = arg(aliases=["-t"])


@dataclass(frozen=True, kw_only=True)
class TagConfig(JobConfig):
    """Print the tags of pictures.

    Examples: python test.py picture.png; python test.py folder --recursive -t per-tag --format txt
    """

    paths: Positional[tuple[str, ...]]
    """pictures, folders, http(s) addresses, or - for a picture on standard input"""
    run: Path | None = None
    """run folder (default: runs/default, else the demo's)"""
    head: str | None = None
    """use this head of the run, made by `e6tag transfer` (its name, or its folder)"""
    top: Annotated[int, K] = 20
    """at most this many tags a picture; 0 for all"""
    threshold: Annotated[str, T] = "0"
    """leave out tags below this probability, or per-tag: each tag's own cut-off"""
    format: Literal["lines", "json", "jsonl", "csv", "txt"] = "lines"
    """what is printed; txt writes `picture.txt` beside each picture instead"""
    on_existing: Literal["skip", "overwrite", "append"] = "skip"
    """with --format txt: what to do where the .txt exists"""
    recursive: bool = False
    """look into folders inside folders"""
    exclude: tuple[str, ...] = ()
    """tags to leave out: names, or patterns with * and ?"""
    spaces: bool = False
    """write spaces for underscores (kaomoji such as ^_^ keep theirs)"""
    escape: bool = False
    r"""write \( and \) for brackets, as caption files for image generators want"""
    raw: bool = False
    """print the model's own probabilities, not those that eval.py calibrated"""
    uncertainty: bool = False
    """with --format json and jsonl: the standard deviation of each tag's logit too"""
    batch_size: int = 16
    """pictures under way at once"""
    threads: int = 0
    """threads of the model; 0 for all cores"""


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(JobConfig):
    """Turn pictures into vectors and build a search index of them.

    Examples: python embed.py; python embed.py my_pictures --out index
    """

    paths: Positional[tuple[Path, ...]] = ()
    """pictures or folders (default: the pictures of --data)"""
    run: Path | None = None
    """run folder (default: runs/default, else the demo's)"""
    data: Path | None = None
    """folder that download.py wrote (default: the one the run was trained on)"""
    out: Path = Path("index")
    """folder of the index"""
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    """with --data: which pictures"""
    pca: int = 128
    """dimensions of the search trees; candidates are re-ranked with the full vectors"""
    trees: int = 50
    """trees of the Annoy index: more are larger and find more"""
    engine: Literal["auto", "annoy", "exact"] = "auto"
    """auto: Annoy where it is installed and passes its self-test, else exact search"""
    recursive: bool = True
    """look into folders inside folders"""
    batch_size: int = 32
    """pictures under way at once"""
    threads: int = 0
    """threads of the model; 0 for all cores"""
    seed: int = 0
    """fixes the trees"""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(JobConfig):
    """Find the pictures of an index that are nearest to a picture.

    Example: e6tag search picture.png -k 5
    """

    picture: Positional[Path]
    """the query"""
    index: Path | None = None
    """folder that embed.py wrote (default: index, else the demo's)"""
    run: Path | None = None
    """run folder that made the index (default: the one it names)"""
    top: Annotated[int, K] = 10
    """how many neighbours"""
    search_k: str = "auto"
    """tree nodes to look at; auto takes what was measured to find 95% of the true neighbours"""
    exact: bool = False
    """compare with every picture instead of asking the trees"""
    json: bool = False
    """print JSON"""
    threads: int = 0
    """threads of the model; 0 for all cores"""


@dataclass(frozen=True, kw_only=True)
class TransferConfig(JobConfig):
    """Train a new head on a run's vectors: your own labels, in seconds.

    Examples: e6tag transfer my_classes --name style; e6tag transfer labels.csv --name quality
    """

    source: Positional[Path]
    """a folder with a folder per class, or a CSV with columns path,labels (separated by spaces)"""
    name: str
    """name of the head; `test.py --head NAME` uses it"""
    run: Path | None = None
    """run folder (default: runs/default, else the demo's)"""
    folds: int = 5
    """cross-validation folds"""
    l2: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    """strengths of the ridge penalty to choose from"""
    batch_size: int = 32
    """pictures under way at once"""
    threads: int = 0
    """threads of the model; 0 for all cores"""
    json: bool = False
    """print the figures as JSON"""
    seed: int = 0
    """fixes the folds"""


@dataclass(frozen=True, kw_only=True)
class DemoConfig(JobConfig):
    """Download, train, evaluate, tag and search real pictures, on this machine alone.

    Rerun it to resume.  Examples: e6tag demo; e6tag demo --serve
    """

    full: bool = False
    """add the pictures of npm packages (needs Node): 18,000 in several styles; takes longer"""
    data: Path | None = None
    """folder for the pictures (default: data/demo, or data/demo-full)"""
    run: Path | None = None
    """folder for the model (default: runs/demo, or runs/demo-full)"""
    train_config: Path | None = None
    """recipe for train.py (default: configs/demo.toml)"""
    port: int = 0
    """port of the local booru; 0 for any free one"""
    build_only: bool = False
    """build the local booru, then stop"""
    serve: bool = False
    """build the local booru and serve it until Ctrl-C"""
    requests_per_second: float = 200.0
    """the local booru's limit; above it, it answers 429 and 503 as the real one does"""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(JobConfig):
    """Say what this installation can do: packages, devices, compiler, folders."""

    json: bool = False
    """print JSON"""
