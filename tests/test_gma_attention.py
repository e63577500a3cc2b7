from pathlib import Path

import numpy as np
import pandas as pd

from microtome.gma_attention import MeanAttention


def test_means_of_slides_that_validate_unequally_often(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    first = [0, 3, 7, 9]
    sums = MeanAttention(["a", "b", "c"], first)
    a, b = (random.dirichlet(np.ones(tiles), 2).astype(np.float32) for tiles in (3, 4))
    sums.add(np.array([1, 0]), np.concatenate([b[0], a[0]]))
    sums.add(np.array([1]), b[1])
    sums.write(tmp_path / "attention.parquet")
    table = pd.read_parquet(tmp_path / "attention.parquet")
    assert table["slide"].tolist() == ["a"] * 3 + ["b"] * 4, "c never validates"
    assert table["tile"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert table["runs"].tolist() == [1] * 3 + [2] * 4
    np.testing.assert_allclose(table["attention"], np.concatenate([a[0], b.mean(axis=0)]), rtol=1e-6)


def test_a_published_task_is_small_on_disk(tmp_path: Path) -> None:
    """200 slides of 7,600 tiles: 5 bytes a tile at most."""
    slides, tiles = 200, 7600
    sums = MeanAttention([f"slide_{n}" for n in range(slides)], [tiles * n for n in range(slides + 1)])
    sums.add(np.arange(slides), np.random.default_rng(0).dirichlet(np.ones(tiles), slides).astype(np.float32).ravel())
    sums.write(tmp_path / "attention.parquet")
    assert (tmp_path / "attention.parquet").stat().st_size < 5 * slides * tiles
