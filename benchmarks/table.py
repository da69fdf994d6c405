"""The measurements as a table and as JSON, and the machine they were made on."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import statistics
from collections.abc import Iterable

from benchmarks.timing import Row
from fid_med.utils.files import versions


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One comparison.

    Attributes:
      case: name of the case, as for `--cases`.
      title: the work and its sizes.
      rows: results of the contenders, fid_med first.
      unit: unit of the rate per second, such as "images"; empty without a rate.
      note: explanation of the values, or empty.
    """

    case: str
    title: str
    rows: list[Row]
    unit: str = ""
    note: str = ""

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        return dataclasses.asdict(self)


def machine() -> dict:
    """Describes the machine: processor, cores, memory, system, and the present load."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": _memory(),
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory():
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return round(pages / 2**30, 1)


def machine_lines(found: dict, peers: dict[str, str]) -> list[str]:
    """Formats machine and versions, one line each."""
    shown = versions() | {f"{name} (peer)": version for name, version in peers.items()}
    return [
        f"machine: {found['processor']}, {found['cores']} cores, {found['memory_gb']} GB, "
        f"{found['system']}, load {found['load']} before",
        "versions: " + ", ".join(f"{name} {version}" for name, version in shown.items()),
    ]


def to_lines(measurement: Measurement) -> list[str]:
    """Formats a heading and a row for each contender: seconds, rate, ratio, difference, note."""
    unit = f"{measurement.unit}/s" if measurement.unit else ""
    table = [("", "seconds", unit, "times fid_med", "differs by", "")]
    table += [_cells(row) for row in measurement.rows]
    lines = [f"{measurement.case}: {measurement.title}", *_aligned(table)]
    return [*lines, f"  {measurement.note}"] if measurement.note else lines


def _aligned(table):
    """Aligns columns, to the left without a heading; columns with only a heading are left out."""
    columns = [column for column in zip(*table, strict=True) if any(column[1:])]
    for number, column in enumerate(columns):
        width = max(map(len, column))
        align = str.rjust if column[0] else str.ljust
        columns[number] = [align(cell, width) for cell in column]
    return [("  " + "  ".join(cells)).rstrip() for cells in zip(*columns, strict=True)]


def _cells(row):
    if row.unavailable:
        return row.name, "", "", "", "", row.unavailable
    ratio = difference = rate = ""
    if row.ratio is not None:
        ratio = "{:.3g} ({:.3g} to {:.3g})".format(row.ratio, *row.ratio_range)
    if row.difference is not None:
        difference = f"{row.difference:.1e}"
    if row.per_second is not None:
        rate = f"{row.per_second:.4g}"
    return row.name, f"{statistics.median(row.seconds):.3g}", rate, ratio, difference, row.note


def to_dict(
    found: dict, peers: dict[str, str], settings: dict, measurements: Iterable[Measurement]
) -> dict:
    """Returns the whole run as JSON types."""
    return {
        "machine": found,
        "versions": versions(),
        "peers": peers,
        "settings": settings,
        "measurements": [measurement.to_dict() for measurement in measurements],
    }
