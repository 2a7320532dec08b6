"""An account is shown to its site and to nobody else, and is written nowhere."""

import base64
import gzip
import hashlib
from urllib.parse import quote, quote_plus

import pytest
from api_server import (
    API_KEY,
    LOGIN,
    Answer,
    ApiServer,
    as_json,
    danbooru,
    gelbooru,
    gelbooru_xml,
    make_posts,
    moebooru,
    philomena,
    rule34,
    szurubooru,
)
from conftest import ROOT, run_command, run_here

from e6tag.config import DownloadConfig
from e6tag.credentials import Account, account_from_environment, basic, origin
from e6tag.errors import ConfigError
from e6tag.sites import API_SITES, open_site
from e6tag.source import credentials_for

POSTS = make_posts()[9:16]
ACCOUNT = {"E6TAG_LOGIN": LOGIN, "E6TAG_API_KEY": API_KEY}
KINDS = {
    "danbooru": ("danbooru", danbooru),
    "moebooru": ("moebooru", moebooru),
    "gelbooru": ("gelbooru", gelbooru),
    "rule34": ("gelbooru", rule34),
    "gelbooru_xml": ("gelbooru", gelbooru_xml),
    "philomena": ("philomena", philomena),
    "szurubooru": ("szurubooru", szurubooru),
}
WRITTEN = {
    form.encode()
    for word in (API_KEY, base64.b64encode(f"{LOGIN}:{API_KEY}".encode()).decode())
    for form in (word, quote(word, safe=""), quote_plus(word))
}


@pytest.fixture
def account(monkeypatch):
    """Somebody has an account."""
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)


def arguments(name, url, folder, *more):
    return [
        "--site", name, "--base-url", url, "--out", folder / "data", "--strategy", "all",
        "--requests-per-second", "1000", "--image-size", "64", "--json", *more,
    ]  # fmt: skip


def run(name, url, folder, *more):
    return run_here("download", arguments(name, url, folder, *more))


def assert_nothing_tells(done, folder):
    """Neither output nor any file holds the key, in any way of writing it."""
    texts = [done.stdout, done.stderr]
    texts += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    texts += [str(path).encode() for path in folder.rglob("*")]
    texts += [gzip.decompress(path.read_bytes()) for path in folder.rglob("*.gz")]
    for text in texts:
        assert not [form for form in WRITTEN if form in text]


def is_shown(request):
    """Whether a request carries the key."""
    seen = f"{request.target} {request.headers}".encode()
    return any(form in seen for form in WRITTEN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("account")
def test_with_an_account_it_works_and_nothing_tells(kind, tmp_path):
    name, shape = KINDS[kind]
    with ApiServer(shape, POSTS, needs_account=True) as server:
        done = run(name, server.url, tmp_path)
        assert any(is_shown(request) for request in server.requests)
    assert done.returncode == 0, done.stderr
    assert_nothing_tells(done, tmp_path)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("kind", ["danbooru", "gelbooru"])
def test_a_process_of_its_own_tells_nothing_either(kind, tmp_path):
    name, shape = KINDS[kind]
    with ApiServer(shape, POSTS, needs_account=True) as server:
        command = [ROOT / "download.py", *arguments(name, server.url, tmp_path)]
        done = run_command(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert_nothing_tells(done, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_account_one_line_says_how_to_show_one(kind, tmp_path):
    name, shape = KINDS[kind]
    with ApiServer(shape, POSTS, needs_account=True) as server:
        done = run(name, server.url, tmp_path, "--quiet")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 3 and len(lines) == 1
    assert "set E6TAG_LOGIN and E6TAG_API_KEY" in lines[0]


def echo(request):
    """All that a request showed, as an error might repeat it."""
    return f"{request.target} {request.headers.get('Authorization')} {API_KEY}"


FAULTS = {
    "broken": lambda server, request: Answer(b"", status=500),
    "refused": lambda server, request: Answer(b"", status=401),
    "forbidden": lambda server, request: Answer(b"", status=403),
    "too long": lambda server, request: Answer(b"", status=414),
    "page": lambda server, request: Answer(echo(request).encode(), "text/html"),
    "error": lambda server, request: as_json({"success": False, "message": echo(request)}),
    "to itself": lambda server, request: Answer(
        b"", status=302, headers={"Location": request.target}
    ),
    "nowhere": lambda server, request: Answer(
        b"", status=302, headers={"Location": f"ftp://127.0.0.1{request.target}"}
    ),
    "noai": lambda server, request: Answer(b"[]", headers={"X-Robots-Tag": "noai"}),
}


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("kind", ["danbooru", "gelbooru"])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_nothing_tells(kind, fault, tmp_path):
    name, shape = KINDS[kind]
    # Five attempts take seconds: one kind is enough.
    fault = "refused" if (kind, fault) == ("gelbooru", "broken") else fault
    with ApiServer(shape, POSTS, before=FAULTS[fault]) as server:
        done = run(name, server.url, tmp_path)
    assert done.returncode in (3, 4) and b"Traceback" not in done.stderr
    assert_nothing_tells(done, tmp_path)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("kind", ["danbooru", "gelbooru", "philomena"])
def test_other_hosts_and_redirects_are_shown_nothing(kind, tmp_path):
    """Another port is another site; so is the same one after a redirect, for it may not be."""
    name, shape = KINDS[kind]
    with ApiServer(shape, POSTS) as other:

        def elsewhere(server, request):
            if "redirected" in request.target or "/files/" in request.target:
                return None
            mark = "&redirected=1"
            target = other.url if len(server.requests) % 2 else ""
            return Answer(b"", status=302, headers={"Location": target + request.target + mark})

        with ApiServer(shape, POSTS, before=elsewhere) as server:
            done = run(name, server.url, tmp_path)
            asked = list(server.requests)
        seen_elsewhere = list(other.requests)
    assert done.returncode == 0, done.stderr
    assert seen_elsewhere and not any(is_shown(request) for request in seen_elsewhere)
    redirected = [request for request in asked if "redirected" in request.target]
    assert not any(is_shown(request) for request in redirected)
    assert any(is_shown(request) for request in asked)
    assert_nothing_tells(done, tmp_path)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("status", [403, 404, 418])
def test_pictures_that_fail_on_the_site_itself_tell_nothing(status, tmp_path):
    def fails(server, request):
        return Answer(b"", status=status) if "/files/" in request.target else None

    with ApiServer(gelbooru, POSTS, before=fails) as server:
        done = run("gelbooru", server.url, tmp_path)
        assert all(is_shown(request) for request in server.requests)
    assert done.returncode == 1
    assert f"/files/{POSTS[0].post_id}.".encode() in (tmp_path / "data/download.json").read_bytes()
    assert f"HTTP {status}".encode() in done.stderr
    assert_nothing_tells(done, tmp_path)


@pytest.mark.usefixtures("account")
def test_a_key_in_the_addresses_that_a_site_gives_is_not_kept(tmp_path):
    def signed(server, request):
        answer = danbooru(server, request)
        if answer is None:
            return None
        marked = answer.body.replace(b'.png"', f'.png?key={API_KEY}"'.encode())
        return Answer(marked)

    with ApiServer(danbooru, POSTS, before=signed) as server:
        done = run("danbooru", server.url, tmp_path)
    assert done.returncode in (0, 1)
    assert_nothing_tells(done, tmp_path)


def test_exports_and_folders_are_shown_nothing(monkeypatch, tmp_path):
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    assert credentials_for(open_site("e621")) is None
    assert credentials_for(open_site("folder", folder=tmp_path)) is None
    assert credentials_for(open_site("e621", via="api")) is not None


def test_a_key_is_not_sent_in_the_open_over_the_internet(monkeypatch):
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="https") as problem:
        credentials_for(open_site("danbooru", base_url="http://example.net"))
    assert API_KEY not in str(problem.value)
    assert credentials_for(open_site("danbooru", base_url="http://127.0.0.1:1")) is not None
    with pytest.raises(ConfigError, match="no accounts"):
        credentials_for(open_site("shimmie2", base_url="http://127.0.0.1:1"))


@pytest.mark.parametrize(
    "environment",
    [
        {"E6TAG_LOGIN": "me"}, {"E6TAG_LOGIN": "me", "E6TAG_API_KEY": "se\ncret"},
        {"E6TAG_API_KEY": "café-secret"}, {"E6TAG_LOGIN": "a\rb", "E6TAG_API_KEY": "secret"},
        {"E6TAG_API_KEY": "abc"},
    ],
)  # fmt: skip
def test_half_an_account_or_one_that_no_header_holds_is_refused(environment):
    with pytest.raises(ConfigError, match="E6TAG_") as problem:
        account_from_environment(environment)
    assert "secret" not in str(problem.value)


def test_without_a_key_there_is_no_account():
    assert account_from_environment({}) is None
    assert account_from_environment({"E6TAG_API_KEY": " "}) is None
    assert account_from_environment({"E6TAG_API_KEY": "only-a-key"}) == Account("", "only-a-key")


def test_nothing_printed_of_an_account_tells():
    for site in API_SITES.values():
        if site.name != "shimmie2":
            shown = site("http://127.0.0.1:1").credentials(Account(LOGIN, API_KEY))
            assert API_KEY not in repr(shown) + repr(Account(LOGIN, API_KEY))
            assert all(form.decode() not in repr(shown) for form in WRITTEN)


def test_basic_is_that_of_the_standard():
    # The example of RFC 7617, section 2.
    shown = basic(Account("Aladdin", "open sesame"))
    assert shown == {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}


@pytest.mark.parametrize(
    ("key", "scheme"),
    [("5f3c1a52-90d4-4c0f-9b7e-1a2b3c4d5e6f", "Token"), ("a password", "Basic")],
)
def test_szurubooru_takes_a_token_or_a_password(key, scheme):
    shown = API_SITES["szurubooru"]("http://127.0.0.1:1").credentials(Account("me", key))
    assert shown.headers["Authorization"].startswith(f"{scheme} ")


def test_moebooru_is_shown_the_hash_and_not_the_password():
    """As its API's help says: SHA-1 of the salted password, which its users work out."""
    password_hash = hashlib.sha1(b"choujin-steiner--pass--").hexdigest()
    shown = API_SITES["moebooru"]("http://127.0.0.1:1").credentials(Account("me", password_hash))
    assert shown.params == {"login": "me", "password_hash": password_hash}


def test_an_origin_is_scheme_host_and_port():
    assert origin("https://a/x") == origin("https://a:443") != origin("http://a")
    assert origin("http://a:80") == origin("http://A/") != origin("http://a:8080")


def test_options_have_no_place_for_a_key():
    names = vars(DownloadConfig())
    assert not [name for name in names if "key" in name or "login" in name or "password" in name]
