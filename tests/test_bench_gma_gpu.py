"""What measures a GPU runs on a CPU, at a tiny size."""

import pytest
import torch

from tests.benchmarks.bench_gma_gpu import GMA, Task, draw, main, measure
from tests.test_gma_training import CPU


def test_a_few_epochs_and_steps_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything runs; the clock alone is set: 60 s for one epoch and 100 s for two, 1 s a plain step, half a second a judgement."""
    took = iter([9.0, 60.0, 100.0, 8.0, 4.0])
    monkeypatch.setattr("tests.benchmarks.bench_gma_gpu.seconds", lambda function: (function(), next(took))[1])
    row = measure(Task(20, 20, 8, 2), GMA.model_copy(update={"hidden": 16, "attention": 8}), CPU, plain_steps=8)
    assert (row["name"], row["unit"], row["runs"], row["epochs"], row["tf32"]) == ("gma_gpu", "min", 4, 50, True)
    assert row["value"] == pytest.approx((60 + 49 * 40) / 60, abs=0.01)
    assert row["plain_value"] == pytest.approx((50 * 4 * 16 * 1.0 + 51 * 4 * 4 * 0.5) / 60, abs=0.01)
    assert row["ratio"] == pytest.approx(1.79, abs=0.01)


def test_what_is_drawn() -> None:
    bags, runs = draw(Task(10, 3, 8, 2), 2, CPU)
    assert bags.features.shape == (30, 8)
    assert [(run.split.number, run.replica) for run in runs] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for run in runs:
        assert sorted([*run.split.train, *run.split.val]) == list(range(10))
        assert len(run.split.val) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="`make bench` measures it")
def test_no_row_without_a_gpu() -> None:
    assert main() == []
