"""Huge pages for a process's memory, where the kernel gives them to who asks."""

import os
import sys
from pathlib import Path

_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_TUNABLE = "glibc.malloc.hugetlb"


def ask_for_huge_pages() -> None:
    """Starts this process again, from its own command line, with a malloc that asks for huge pages.

    A learner's temporaries are hundreds of megabytes, allocated anew for each update; in pages of 4 kB their first
    touch takes a good part of it (docs/performance.md). glibc reads its tunables when a process starts, and at no other
    time. Does nothing where they are set already (0 keeps this off), where glibc is older than 2.35 or missing, and
    where the kernel gives huge pages to all or to none. Child processes inherit them.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if _TUNABLE in tunables or not _given_to_who_asks():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, f"{_TUNABLE}=1")))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _given_to_who_asks() -> bool:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        recent = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
        return recent and "[madvise]" in _KERNEL.read_text()
    except (ValueError, OSError):
        return False
