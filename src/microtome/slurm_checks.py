"""Checks of a Slurm cluster against a profile: partitions (limits, nodes, preemption), accounts, how long ended jobs are remembered."""

import getpass
import re
from typing import NamedTuple

from microtome.findings import Finding, ask, some
from microtome.project import Profile

EDIT = "edit the lines marked EDIT in {file}"
INIT_KEY = "slurm-init-seconds-before-status-checks"


class Nodes(NamedTuple):
    """Nodes of one partition that are alike: its time limit in minutes, and what each node has."""

    limit_min: float
    gres: str
    cores: int
    mem_mb: int


def rules(profile: Profile) -> list[str]:
    """The profile's rules, and what stands for those that it does not name."""
    return ["default-resources", *profile.rules()]


def partitions(profile: Profile) -> Finding:
    """Whether each rule's partition exists, lets a job run so long, and has nodes with the cores, memory and GPUs that it asks for."""
    listed = ask("sinfo", "--noheader", "--exact", "--format", "%R|%l|%G|%c|%m")
    if not listed:
        return Finding("warning", "no answer from sinfo: partitions were not checked", "run `make doctor` on the cluster's login node")
    known: dict[str, list[Nodes]] = {}
    for line in listed.splitlines():
        name, limit, gres, cores, mem_mb = (part.strip() for part in line.split("|"))
        known.setdefault(name, []).append(Nodes(minutes(limit), gres, int(cores), int(mem_mb)))
    wrong = [fault for rule in rules(profile) if (fault := _fault(rule, profile, known))]
    if wrong:
        remedy = f"{EDIT.format(file=profile.file)}, `set-threads` and `set-resources` (sinfo lists {some(sorted(known), 8)})"
        return Finding("wrong", "; ".join(wrong), remedy)
    return Finding("ok", f"partitions {some(sorted({profile.needs(rule).partition for rule in profile.rules()}), 8)}")


def _fault(rule: str, profile: Profile, known: dict[str, list[Nodes]]) -> str:
    needs = profile.needs(rule)
    if not needs.partition:
        return ""  # the cluster's default
    if needs.partition not in known:
        return f"{rule}: no partition {needs.partition!r}"
    nodes = known[needs.partition]
    limit = max(node.limit_min for node in nodes)
    if needs.runtime_min > limit:
        return f"{rule}: {needs.runtime_min} minutes, partition {needs.partition} ends jobs after {limit:.0f}"
    if needs.gpus:
        nodes = [node for node in nodes if "gpu" in node.gres]
        if not nodes:
            return f"{rule}: partition {needs.partition} has no GPUs"
    cores = needs.threads * needs.processes
    if not any(node.cores >= cores and node.mem_mb >= needs.mem_mb for node in nodes):
        most = max(nodes, key=lambda node: (node.cores, node.mem_mb))
        asked = f"{cores} cores and {needs.mem_mb:,} MB on a node"
        return f"{rule}: {asked}, the largest of partition {needs.partition} has {most.cores} and {most.mem_mb:,} MB"
    return ""


def preemption(profile: Profile) -> Finding:
    """Whether a partition ends preempted jobs for good instead of requeueing them."""
    listed = ask("scontrol", "show", "partition", "--oneliner")
    modes = dict(re.findall(r"^PartitionName=(\S+) .*?\bPreemptMode=(\S+)", listed or "", re.MULTILINE))
    if not modes:
        return Finding("warning", "no answer from scontrol: PreemptMode was not checked", "`scontrol show partition` on the cluster")
    named = {profile.needs(rule).partition for rule in rules(profile)}
    if ending := sorted(name for name in named if "CANCEL" in modes.get(name, "").split(",")):
        remedy = "a job preempted there is not requeued, and counts as failed after 15 minutes: " + EDIT.format(file=profile.file)
        return Finding("warning", f"PreemptMode=CANCEL in partition {some(ending)}", f"{remedy} (scontrol show partition)")
    return Finding("ok", "no partition of the profile cancels jobs that it preempts")


def minutes(limit: str) -> float:
    """Slurm's time limit (`infinite`, `D-HH:MM:SS`, `HH:MM:SS`, `MM:SS`) in minutes."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if not found:
        return float("inf")
    days, hours, mins, seconds = (int(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60


def accounts(profile: Profile) -> Finding:
    """Whether the user may submit under the profile's accounts."""
    listed = ask("sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}", "format=account")
    if not listed:
        return Finding(
            "warning", "no answer from sacctmgr: accounts were not checked", "`sacctmgr show associations user=$USER` on the cluster"
        )
    mine = sorted({line.strip() for line in listed.splitlines() if line.strip()})
    named = {profile.needs(rule).account for rule in rules(profile)} - {""}
    if unknown := sorted(named - set(mine)):
        return Finding(
            "wrong", f"accounts that are not yours: {some(unknown)}", EDIT.format(file=profile.file) + f" (yours: {some(mine, 8)})"
        )
    return Finding("ok", f"accounts {some(sorted(named))}")


def job_age(profile: Profile) -> Finding:
    """Whether Slurm remembers an ended job until Snakemake first asks for it."""
    found = re.search(r"MinJobAge\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    wait_s = int(profile.values.get(INIT_KEY, 40))
    if not found:
        return Finding("warning", "no answer from scontrol: MinJobAge was not checked", f"it must be at least {3 * wait_s} s")
    if int(found[1]) == 0:  # Slurm purges no job's record then
        return Finding("ok", "Slurm remembers ended jobs for ever")
    if int(found[1]) < 3 * wait_s:
        return Finding(
            "wrong", f"MinJobAge of the cluster is {found[1]} s, {INIT_KEY} {wait_s} s", f"set {INIT_KEY} to {int(found[1]) // 3}"
        )
    return Finding("ok", f"Slurm remembers an ended job for {found[1]} s")
