"""The processes that train together, as torchrun or Slurm started them (RANK, WORLD_SIZE, LOCAL_RANK); alone where they are not set."""

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from microtome.errors import StoppedError, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together, and its device."""

    rank: int
    world: int
    device: torch.device


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the group (nccl on GPUs, gloo on CPUs) and leave it at the end. A GPU a process, the LOCAL_RANK-th of the machine.

    A process that fails does not leave nccl's group: that is left by all together, and the others may be waiting for this one. What uses
    the group (DistributedDataParallel) must have no owner by then but an error's frames, which are cleared: as its last owner it would
    wait, and hold Python's lock, for gloo's threads, one of which may be waiting for that lock (pytorch/pytorch#56297).

    Raises:
        UserError: there are more processes on this machine than GPUs.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if torch.cuda.is_available():
        local_rank, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if local_rank >= gpus:
            raise UserError(
                f"Expected a GPU for each process of this machine, found {gpus} for process {local_rank + 1}. Set `processes` of "
                "`pretrain` in the profile to the GPUs that a job sees (on Slurm `gpus`; CUDA_VISIBLE_DEVICES hides some)."
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", device_id=device if device.type == "cuda" else None)
    together = True
    try:
        yield Processes(rank, world, device)
    except BaseException as error:
        together = isinstance(error, StoppedError)  # in all of them, after the same step
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if world > 1 and (together or device.type == "cpu"):
            gc.collect()
            dist.destroy_process_group()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """`values` (changed in place) summed over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def gathered(value: T) -> list[T]:
    """The `value` of every process, by rank."""
    values = [value]
    if dist.is_initialized():
        values *= dist.get_world_size()
        dist.all_gather_object(values, value)
    return values


def wait_for_one_another() -> None:
    """Return when all processes have come here."""
    if dist.is_initialized():
        dist.barrier()
