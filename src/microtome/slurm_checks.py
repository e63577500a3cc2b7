"""Checks of a Slurm cluster against a profile: partitions (limits, GPUs, preemption), accounts, how long ended jobs are remembered."""

import getpass
import re

from microtome.findings import Finding, ask, some
from microtome.project import Profile

EDIT = "edit the lines marked EDIT in {file}"
INIT_KEY = "slurm-init-seconds-before-status-checks"


def partitions(profile: Profile) -> Finding:
    """Whether each rule's partition exists, lets a job run so long, and has GPUs where it asks for them."""
    listed = ask("sinfo", "--noheader", "--format", "%R|%l|%G")
    if not listed:
        return Finding("warning", "no answer from sinfo: partitions were not checked", "run `make doctor` on the cluster's login node")
    known: dict[str, list[tuple[float, str]]] = {}
    for line in listed.splitlines():
        name, limit, gres = (part.strip() for part in line.split("|"))
        known.setdefault(name, []).append((minutes(limit), gres))
    wrong = [fault for rule in ["the others", *profile.rules()] if (fault := _fault(rule, profile, known))]
    if wrong:
        return Finding("wrong", "; ".join(wrong), EDIT.format(file=profile.file) + f" (sinfo lists {some(sorted(known), 8)})")
    return Finding("ok", f"partitions {some(sorted({profile.needs(rule).partition for rule in profile.rules()}), 8)}")


def _fault(rule: str, profile: Profile, known: dict[str, list[tuple[float, str]]]) -> str:
    needs = profile.needs(rule)
    if not needs.partition:
        return ""  # the cluster's default
    if needs.partition not in known:
        return f"{rule}: no partition {needs.partition!r}"
    limit = max(limit for limit, _ in known[needs.partition])
    if needs.runtime_min > limit:
        return f"{rule}: {needs.runtime_min} minutes, partition {needs.partition} ends jobs after {limit:.0f}"
    if needs.gpus and not any("gpu" in gres for _, gres in known[needs.partition]):
        return f"{rule}: partition {needs.partition} has no GPUs"
    return ""


def preemption(profile: Profile) -> Finding:
    """Whether a partition ends preempted jobs for good instead of requeueing them."""
    listed = ask("scontrol", "show", "partition", "--oneliner")
    modes = dict(re.findall(r"^PartitionName=(\S+) .*?\bPreemptMode=(\S+)", listed or "", re.MULTILINE))
    if not modes:
        return Finding("warning", "no answer from scontrol: PreemptMode was not checked", "`scontrol show partition` on the cluster")
    named = {profile.needs(rule).partition for rule in ["the others", *profile.rules()]}
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
    named = {profile.needs(rule).account for rule in ["the others", *profile.rules()]} - {""}
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
