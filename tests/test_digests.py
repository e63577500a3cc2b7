"""Short digests are those that sha256sum begins with."""

import subprocess

from microtome.digests import short_digest


def test_digests_are_the_beginning_of_sha256sums() -> None:
    printed = subprocess.run(["sha256sum"], input="µm/px".encode(), capture_output=True, check=True).stdout.decode()
    assert short_digest("µm/px") == short_digest("µm/px".encode()) == printed[:16]
