"""From one planned post to one stored picture: candidates in order, verified, normalised once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from e6tag import images
from e6tag.fetch import FileFailure, PoliteClient
from e6tag.images import BadPicture
from e6tag.posts import Candidate
from e6tag.sites.base import PostFile, Site, Variant

Read = Callable[[Candidate, bool], bytes]
"""the file of a candidate; if the second argument is true, past all caches"""

MAX_PICTURE_BYTES = 128 << 20
SIZE_TOLERANCE_PX = 2
"""Sites compute the sizes of samples and previews by roundings of their own."""


@dataclass(frozen=True)
class Obtained:
    """A picture as it will be kept."""

    post_id: int
    variant: str
    jpeg: bytes
    num_bytes: int
    """length of the file that it was made from"""


@dataclass(frozen=True)
class Failed:
    """Why there is no picture of a post."""

    post_id: int
    reason: str
    """one short word to count by"""
    message: str
    permanent: bool
    """whether another run would only hear the same"""


@dataclass(frozen=True)
class Obtainer:
    """Obtains pictures; any number of threads may use it."""

    site: Site
    variant: Variant
    image_size: int
    jpeg_quality: int
    read: Read

    def obtain(self, post: PostFile) -> Obtained | Failed:
        """Try the post's candidates in order until one is right.

        Raises:
            FetchError: the run must stop (`FileFailure` is not raised).
            Stopped: the run is being stopped.
        """
        failed = Failed(post.post_id, "no_file", f"post {post.post_id}: no file of it.", True)
        for candidate in self.site.candidates(post, self.variant):
            try:
                return self.obtain_candidate(post.post_id, candidate)
            except FileFailure as problem:
                reason, permanent = problem.reason, problem.permanent
                failed = Failed(post.post_id, reason, f"post {post.post_id}: {problem}", permanent)
            except BadPicture as problem:
                message = f"post {post.post_id}: {candidate.url}: {problem}"
                # A page or nothing in place of a picture may be the network's, and gone tomorrow.
                permanent = problem.reason not in ("not_an_image", "empty")
                failed = Failed(post.post_id, problem.reason, message, permanent)
            if not failed.permanent:
                # Which file a post is shown by must not depend on a moment's luck.
                break
        return failed

    def obtain_candidate(self, post_id: int, candidate: Candidate) -> Obtained:
        """Fetch, verify and normalise one file; once more where what came is not what it must be.

        Raises:
            FileFailure, BadPicture: it cannot be had, or is not right.
        """
        content = self.read(candidate, False)
        try:
            picture = verified(content, candidate, self.image_size)
        except BadPicture:
            if candidate.expected_hash is not None and has_expected_hash(content, candidate):
                raise
            content = self.read(candidate, True)
            picture = verified(content, candidate, self.image_size)
        jpeg, _ = images.store(picture, self.image_size, self.jpeg_quality)
        return Obtained(post_id, candidate.variant, jpeg, len(content))


def verified(content: bytes, candidate: Candidate, longest_side: int) -> Image.Image:
    """The picture at the size it is kept in, if the file is what the site says it is.

    Raises:
        BadPicture: hash_mismatch, wrong_size, or why it cannot be decoded.
    """
    if not has_expected_hash(content, candidate):
        # What came instead often says why: an error page, an empty file.
        images.picture_size(content)
        raise BadPicture(
            "hash_mismatch",
            f"{len(content)} bytes of another hash than {candidate.md5 or candidate.other_hash} "
            f"({candidate.size_bytes} bytes).",
        )
    check_size(images.picture_size(content), candidate)
    return images.decode_fitted(content, longest_side, enlarge=False)


def check_size(size: tuple[int, int], candidate: Candidate) -> None:
    """Compare a header's size with the expected one, either way round."""
    if not candidate.width or not candidate.height:
        return
    tolerance = 0 if candidate.variant == "original" else SIZE_TOLERANCE_PX
    found, expected = sorted(size), sorted((candidate.width, candidate.height))
    if any(abs(a - b) > tolerance for a, b in zip(found, expected, strict=True)):
        raise BadPicture(
            "wrong_size",
            f"{size[0]} x {size[1]} pixels, expected {candidate.width} x {candidate.height}.",
        )


def has_expected_hash(content: bytes, candidate: Candidate) -> bool:
    """Whether these are the bytes that the site says; True where it says nothing of them."""
    if candidate.expected_hash is None:
        return True
    algorithm, digits = candidate.expected_hash
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == digits


def read_from(client: PoliteClient) -> Read:
    """Candidates over HTTP."""
    return lambda candidate, fresh: client.get(candidate.url, MAX_PICTURE_BYTES, fresh)


def read_from_disk(candidate: Candidate, fresh: bool) -> bytes:
    """Candidates that are local files.

    Raises:
        FileFailure: the file has gone or cannot be read.
    """
    try:
        return Path(candidate.url).read_bytes()
    except OSError as problem:
        message = f"{candidate.url}: {problem.strerror}."
        raise FileFailure("unreadable", message, permanent=False) from None
