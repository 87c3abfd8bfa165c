"""Free and peak main memory."""

import os
import resource
import sys
from pathlib import Path


def peak_memory() -> int:
    """Peak resident bytes of this process, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def free_memory() -> int:
    """Bytes that this process can still allocate, within the limit of its control group.

    On systems without /proc (macOS) it is all memory of the machine.
    """
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = (line.split() for line in meminfo.read_text(encoding="utf-8").splitlines())
    free = {name: int(kib) * 1024 for name, kib, *_ in lines}["MemAvailable:"]
    groups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return min([free, *cgroup_free_bytes(groups, Path("/sys/fs/cgroup"))])


def cgroup_free_bytes(groups: str, root: Path) -> list[int]:
    """Return the free bytes below the memory limit of each control group of this process.

    Args:
        groups: content of /proc/self/cgroup, lines "number:controllers:path".
        root: where control groups are mounted.
    """
    free: list[int] = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "memory"
        else:
            continue
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            free += _free_in(group, *names)
            if group == top:
                break
    return free


def _free_in(group: Path, limit_file: str, usage_file: str, reclaimable: str) -> list[int]:
    file = group / limit_file
    limit = file.read_text(encoding="utf-8").strip() if file.is_file() else "max"
    if limit == "max":
        return []
    usage = int((group / usage_file).read_text(encoding="utf-8"))
    stat = (group / "memory.stat").read_text(encoding="utf-8").split()
    freed = int(stat[stat.index(reclaimable) + 1]) if reclaimable in stat else 0
    return [max(int(limit) - usage + freed, 0)]
