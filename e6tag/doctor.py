"""What this installation can do, one line a thing, and what to do about what is missing."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from e6tag import __version__, trees
from e6tag.config import DoctorConfig
from e6tag.errors import E6TagError
from e6tag.index import current_version
from e6tag.runs import default_run, open_run
from e6tag.shards import default_data, open_dataset
from e6tag.vectors import default_index

BASE_PACKAGES = ("numpy", "pandas", "pyarrow", "pillow", "requests", "tqdm", "tyro", "onnxruntime")
"""what downloading, tagging and exact search need"""
TRAIN_PACKAGES = ("keras", "scikit-learn", "scipy", "tf2onnx", "matplotlib")
"""what training needs beside TensorFlow"""
TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-cpu")
"""distributions that bring the module tensorflow"""
COMPILERS = ("c++", "g++", "clang++", "cl")
LEAST_MEMORY_BYTES = 2 << 30
LEAST_DISK_BYTES = 5 << 30
NVIDIA_SECONDS = 10.0
"""nvidia-smi hangs where a driver is broken"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    """version, size or path"""
    remedy: str = ""
    """what to do, and what goes on working without; for things that are not ok"""


def doctor(config: DoctorConfig) -> int:
    """Print what was found; missing parts are no failure of this command."""
    checks = [*python_checks(), *package_checks(), *machine_checks(), *folder_checks()]
    sys.stdout.write(as_json(checks) if config.json else as_lines(checks))
    return 0


def as_json(checks: Sequence[Check]) -> str:
    """An object with every check, and whether all are ok."""
    everything = {"ok": all(check.ok for check in checks), "checks": [asdict(c) for c in checks]}
    return json.dumps(everything, indent=2, ensure_ascii=False) + "\n"


def as_lines(checks: Sequence[Check]) -> str:
    """Aligned lines: state, name, what was found, what to do."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        state = "ok     " if check.ok else "missing"
        lines.append(f"{state}  {check.name:{width}s}  {check.found}".rstrip())
        if not check.ok:
            lines.append(f"{'':{width + 11}s}-> {check.remedy}")
    return "\n".join(lines) + "\n"


def python_checks() -> list[Check]:
    """This Python, and e6tag itself."""
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    return [
        Check("e6tag", True, __version__),
        Check("python", fits, platform.python_version(), "Use Python 3.11, 3.12 or 3.13."),
    ]


def version_of(distribution: str) -> str | None:
    """Version of an installed package, without importing it; None where it is absent."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_check(distribution: str, extra: str) -> Check:
    """Whether a package is installed, and which extra of e6tag brings it."""
    version = version_of(distribution)
    wanted = f"e6tag[{extra}]" if extra else "e6tag"
    return Check(distribution, version is not None, version or "", f'Run: pip install "{wanted}"')


def package_checks() -> list[Check]:
    """Packages of each side of e6tag."""
    return [
        *(package_check(name, "") for name in BASE_PACKAGES),
        annoy_check(),
        tensorflow_check(),
        *(package_check(name, "train") for name in TRAIN_PACKAGES),
    ]


def tensorflow_check() -> Check:
    """TensorFlow is looked for, not imported: that takes seconds and gigabytes."""
    remedy = 'Needed for training only. Run: pip install "e6tag[train]"'
    if importlib.util.find_spec("tensorflow") is None:
        return Check("tensorflow", False, "", remedy)
    versions = [f"{name} {version_of(name)}" for name in TENSORFLOW_PACKAGES if version_of(name)]
    return Check("tensorflow", True, ", ".join(versions) or "version unknown", remedy)


def machine_checks() -> list[Check]:
    """Compiler, GPU, cores, memory and disk."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    free_bytes = shutil.disk_usage(Path.cwd()).free
    return [
        Check(
            "compiler",
            compiler is not None,
            compiler or "",
            "Only Annoy needs one: install g++ or clang. Exact search works without.",
        ),
        gpu_check(),
        Check("cores", True, str(num_cores())),
        memory_check(),
        Check(
            "free disk",
            free_bytes >= LEAST_DISK_BYTES,
            f"{free_bytes / 1e9:.1f} GB in {Path.cwd()}",
            f"Free some space: the demo wants {LEAST_DISK_BYTES / 1e9:.0f} GB.",
        ),
    ]


def gpu_check() -> Check:
    """Ask the NVIDIA driver, in a process of its own, for its GPUs."""
    remedy = "Training works without, slower. For a GPU install the NVIDIA driver."
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check("gpu", False, "no nvidia-smi", remedy)
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return Check("gpu", False, f"{program} failed: {type(problem).__name__}", remedy)
    names = "; ".join(answer.stdout.split("\n")).strip("; ")
    return Check("gpu", answer.returncode == 0 and bool(names), names or "none visible", remedy)


def num_cores() -> int:
    """Cores this process may use (fewer than the machine's in a container)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_check() -> Check:
    """Physical memory, where the system tells."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return Check("memory", True, "unknown")
    remedy = "Tagging works; training wants 2 GB or more."
    return Check("memory", total >= LEAST_MEMORY_BYTES, f"{total / 1e9:.1f} GB", remedy)


def annoy_check() -> Check:
    """Whether Annoy passes its self-test, in a process of its own: some builds crash."""
    problem = trees.self_test()
    remedy = f"Search goes on, exactly. {trees.INSTALL}"
    if problem is None:
        return Check("annoy", True, f"{version_of('annoy')}, passes its self-test", remedy)
    version = version_of("annoy")
    return Check("annoy", False, f"{version}, fails its self-test" if version else "", remedy)


def folder_checks() -> list[Check]:
    """The folders that commands use when none is named."""
    run, data, index = default_run(None), default_data(None), default_index(None)
    return [
        folder_check("default run", run, lambda: open_run(run)),
        folder_check("default data", data, lambda: open_dataset(data)),
        folder_check("default index", index, lambda: current_version(index)),
    ]


def folder_check(name: str, path: Path, open_folder: Callable[[], object]) -> Check:
    """Open a folder as the commands do; what they would say of it is what is wrong."""
    try:
        open_folder()
    except E6TagError as problem:
        return Check(name, False, str(path), str(problem))
    return Check(name, True, str(path))
