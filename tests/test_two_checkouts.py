"""Two fresh checkouts of the project make the same results."""

from pathlib import Path

import pytest

from tests.checkout import Checkout


def test_two_fresh_checkouts_give_the_same_figures(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    other = Checkout(tmp_path)
    other.snakemake("all")
    results: Path = request.getfixturevalue("results")  # only now: another worker makes it meanwhile
    for pattern in ("figures/**/*.csv", "tables/*.csv", "splits/*.csv", "schedule/*.arrow"):
        assert list(results.glob(pattern)), pattern
        for path in sorted(results.glob(pattern)):
            assert path.read_bytes() == (other.folder / "results" / path.relative_to(results)).read_bytes(), path.name
