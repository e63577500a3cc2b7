"""Snakemake (9.27.1) looks for no reason to run in jobs behind one that runs, for they will run anyway.

Behind an `ancient()` input they will not, and what has changed is left for the next run: a setting edited together with the slide table.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from snakemake.dag import DAG


def look_behind_ancient() -> None:
    """Before the graph is made: have Snakemake pass over those jobs alone that others will make run."""
    walk: Callable[..., Iterable[Any]] = DAG.bfs

    def bfs(dag: Any, direction: Any, *jobs: Any, **how: Any) -> Iterable[Any]:
        of_omitted = dag.omitrules or dag.omitfiles  # --omit-from asks for all that follow
        return walk(dag, direction, *jobs, **how) if of_omitted or direction is not dag.depending else _moved_by(dag, jobs)

    DAG.bfs = bfs


def _moved_by(dag: Any, jobs: Iterable[Any]) -> Iterator[Any]:
    """These jobs, and all that run because they do."""
    queue = deque(jobs)
    seen = set(queue)
    while queue:
        yield (job := queue.popleft())
        for follower, files in dag.depending[job].items():
            if follower not in seen and not all(file.is_ancient and Path(file).exists() for file in files):
                seen.add(follower)
                queue.append(follower)
