"""Whole downloads, with everything that can happen on the way: nothing too fast, nothing wrong."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flaky_server import FlakyServer, from_server
from tiny_booru import download_config, results, tiny_booru

from e6tag import acquisition
from e6tag.demo.booru import Booru

NUM_POSTS = 120


@pytest.fixture(scope="module")
def booru_folder(tmp_path_factory):
    return tiny_booru(tmp_path_factory.mktemp("booru"), NUM_POSTS, num_large=4)


@pytest.fixture(scope="module")
def clean(booru_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("clean") / "data"
    with Booru(booru_folder, requests_per_second=1e6) as booru:
        assert acquisition.download(download_config(booru.url, out)) == 0
    return results(out)


@contextlib.contextmanager
def on_bad_days(booru_folder, share, seed=0):
    """The booru behind a server that spoils a share of what it answers, exports included."""
    with Booru(booru_folder, requests_per_second=1e6) as booru:
        server = FlakyServer(from_server(booru.url, lambda: server.url), share, seed)
        with server:
            yield server


@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_that_fails_a_fifth_of_all_requests_changes_nothing(
    booru_folder, clean, tmp_path, monkeypatch, seed
):
    monkeypatch.setattr("e6tag.fetch.backoff_seconds", lambda failures, first: 0.001)
    with on_bad_days(booru_folder, 0.2, seed) as server:
        # Five failures in a row of one file are left to the next run of the same command.
        codes = [acquisition.download(download_config(server.url, tmp_path))]
        while codes[-1] != 0 and len(codes) < 4:
            codes.append(acquisition.download(download_config(server.url, tmp_path)))
    assert codes[-1] == 0
    assert sum(server.faults.values()) > 0.1 * NUM_POSTS and len(server.faults) > 8
    assert results(tmp_path) == clean
    assert not (tmp_path / "incoming").exists() and not list(tmp_path.rglob("*.part*"))


def most_within(seconds, times):
    """The most moments that any window of so many seconds holds."""
    times = sorted(times)
    return max(
        sum(start <= t < start + seconds for t in times[i:]) for i, start in enumerate(times)
    )


@pytest.mark.parametrize(("rate", "num_posts"), [(10, 15), (40, 60)])
def test_a_whole_download_never_exceeds_its_rate(tmp_path, rate, num_posts):
    # Index, exports, pictures, redirects, retries and pauses, over eight connections.
    folder = tiny_booru(tmp_path / "booru", num_posts, num_large=2)
    with on_bad_days(folder, 0.3) as server:
        upstream = server.upstream

        def redirecting(path, headers):
            if path.endswith("7.png") and "moved" not in path:
                return "302 Found", {"Location": f"/moved{path}"}, b""
            return upstream(path.removeprefix("/moved"), headers)

        server.upstream = redirecting
        config = download_config(
            server.url, tmp_path / "data", requests_per_second=rate, connections=8
        )
        acquisition.download(config)
        times = [exchange.seconds for exchange in server.exchanges]
    assert sum(server.faults.values()) > 3 and len(times) > num_posts + 6
    # A tenth of a second less than one, as a busy machine may hold a request back.
    assert most_within(0.9, times) <= rate


@pytest.mark.slow
def test_kill_9_changes_nothing_at_any_of_many_moments(root, tmp_path):
    command = [sys.executable, root / "benchmarks" / "kill9.py"]
    done = subprocess.run(
        [*map(str, command), "--num", "600", "--kills", "12", "--folder", str(tmp_path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("all the same bytes") == 2


NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_nginx_as_the_site_gives_the_same(booru_folder, clean, tmp_path):
    with nginx(booru_folder, tmp_path) as url:
        exports = booru_folder / "db_export"
        config = download_config(url, tmp_path / "data", export_dir=exports)
        assert acquisition.download(config) == 0
    found = results(tmp_path / "data")
    assert found == clean


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_nginx_that_limits_requests_is_obeyed(booru_folder, clean, tmp_path):
    # Asked twice as fast as it allows, it answers 429 and how long to wait.
    limit = "limit_req zone=all burst=20 nodelay; add_header Retry-After 1 always;"
    with nginx(booru_folder, tmp_path, limit) as url:
        exports = booru_folder / "db_export"
        config = download_config(
            url, tmp_path / "data", export_dir=exports, requests_per_second=120.0
        )
        assert acquisition.download(config) == 0
    statuses = [int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()]
    assert statuses.count(429) >= 1 and statuses.count(200) == NUM_POSTS
    # Each pause is everybody's: what was under way when it began is all that is refused.
    assert statuses.count(429) <= 0.2 * len(statuses)
    assert results(tmp_path / "data") == clean


@contextlib.contextmanager
def nginx(folder: Path, work: Path, location: str = ""):
    """The folder's files by nginx, with more directives for each request."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    try:
        from made_booru import free_port, wait_for
    finally:
        sys.path.pop(0)
    port = free_port()
    temporary = "".join(
        f"{kind}_temp_path {work}/t;"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (work / "nginx.conf").write_text(
        f"{user} daemon off; error_log stderr crit; pid {work}/nginx.pid; events {{}} "
        f"http {{ {temporary} log_format short '$uri $status'; access_log {work}/log short; "
        "limit_req_zone $server_port zone=all:1m rate=60r/s; limit_req_status 429; "
        f"server {{ listen 127.0.0.1:{port}; location / {{ root {folder}; {location} }} }} }}"
    )
    server = subprocess.Popen(
        [str(NGINX), "-p", str(work), "-c", str(work / "nginx.conf")], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
