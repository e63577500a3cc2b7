"""Files of pretraining: `state.pt`, from which training goes on exactly, and `encoder.safetensors`, which leaves the house.

A state is what `torch.load(path, weights_only=True)` reads. It is a zip archive whose comment is the SHA-256 of all bytes before the
comment, so that a truncated or damaged file is recognised.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import nn

from microtome.atomic import atomic_path

CHECKSUM_B = 64  # hexadecimal
PIECE_B = 1 << 24


class DamagedStateError(Exception):
    """A state file is truncated, or its bytes are not those that were written."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) with its checksum, whole or not at all."""
    with atomic_path(path) as part:
        torch.save(state, part)
        with part.open("r+b") as file:
            file.seek(-2, 2)  # a zip archive ends with the length of its comment
            file.write(CHECKSUM_B.to_bytes(2, "little"))
            file.seek(0)
            digest = _sha256(file)
            file.write(digest.encode())


def load_state(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU.

    Raises:
        DamagedStateError: it is not whole.
    """
    checksum(path, verify=True)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def mapped_state(path: Path) -> dict[str, Any]:
    """A state mapped into memory, for who needs a part of it: gigabytes are neither read nor checked, only whether its end is there.

    Raises:
        DamagedStateError: it is cut off.
    """
    checksum(path)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return state


def checksum(path: Path, verify: bool = False) -> str:
    """The checksum that a state carries.

    Raises:
        DamagedStateError: it carries none, or with `verify` another than that of its bytes.
    """
    size_b = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size_b - CHECKSUM_B))
        stated = file.read().decode("ascii", "replace")
        file.seek(0)
        found = _sha256(file, size_b - CHECKSUM_B) if verify else stated
    if size_b <= CHECKSUM_B or len(stated.strip("0123456789abcdef")) > 0 or found != stated:
        raise DamagedStateError(f"{path}: its {size_b} bytes do not have the checksum it was written with")
    return stated


def _sha256(file: BinaryIO, size_b: int | None = None) -> str:
    digest = hashlib.sha256()
    while size_b is None or size_b > 0:
        piece = file.read(PIECE_B if size_b is None else min(PIECE_B, size_b))
        if not piece:
            break
        digest.update(piece)
        size_b = None if size_b is None else size_b - len(piece)
    return digest.hexdigest()


def rolling_states(folder: Path) -> list[Path]:
    """The states that a running pseudo-epoch left in `folder`, the newest first."""
    return sorted(folder.glob("state_*.pt"), reverse=True)


def save_rolling(folder: Path, step: int, state: dict[str, Any], before: Path | None) -> Path:
    """Write a state of `step` to `folder`, and keep of the others only `before`, the last good one."""
    path = folder / f"state_{step:09d}.pt"
    save_state(path, state)
    for other in rolling_states(folder):
        if other not in (path, before):
            other.unlink()
    return path


def keep_end(folder: Path, step: int, state: Path) -> None:
    """Leave in `folder` the finished `state`, under a second name that takes no room (a hard link), and the rolling state before it.

    Where Snakemake was killed meanwhile, it does not know that the job finished, and removes `state` to make it again: here it is found.
    Where `state` is damaged, it is made again from the one before. A file system without hard links keeps both rolling states instead.
    """
    part, end = folder / "end.part", folder / f"state_{step:09d}.pt"
    with suppress(OSError):
        part.unlink(missing_ok=True)
        part.hardlink_to(state)
        part.replace(end)
        last_two = rolling_states(folder)[:2]
        for other in folder.iterdir():
            if other not in last_two:
                other.unlink()


def save_encoder(path: Path, encoder: nn.Module, card: dict[str, Any]) -> None:
    """Write the weights of a timm ViT with a card in the metadata.

    `timm.create_model(card["model"], checkpoint_path=path, img_size=card["img_size"], num_classes=0)` loads them.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    with atomic_path(path) as part:
        part.write_bytes(save(weights, metadata={"card": json.dumps(card, sort_keys=True)}))  # save_file gives mode 600
