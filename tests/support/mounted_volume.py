"""A directory as the kubelet mounts a ConfigMap or a Secret: files behind one symlink, swapped at once.

Owns what the directory looks like. `..data` leads to a folder of one moment, each file leads
through `..data`; a change makes a new folder and renames a new symlink over the old one.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

DATA = "..data"


class MountedVolume:
    """One volume of a pod."""

    def __init__(self, folder: Path, files: Mapping[str, str] | None = None) -> None:
        """files: None = an optional Secret that is not there: the directory has no files yet."""
        self._folder = folder
        self._moments = itertools.count()
        folder.mkdir(parents=True)
        self.replace(files or {})

    def replace(self, files: Mapping[str, str]) -> None:
        """What the kubelet does when the object was changed, made or deleted."""
        moment = self._folder / f"..2026_01_01_{next(self._moments)}"
        moment.mkdir()
        for name, text in files.items():
            (moment / name).write_text(text)
        before = (self._folder / DATA).resolve() if (self._folder / DATA).exists() else None
        temporary = self._folder / "..data_tmp"
        temporary.symlink_to(moment.name)
        temporary.rename(self._folder / DATA)
        self._link(files)
        if before is not None:
            shutil.rmtree(before)

    def _link(self, files: Mapping[str, str]) -> None:
        shown = {path.name for path in self._folder.iterdir() if not path.name.startswith("..")}
        for name in shown - files.keys():
            (self._folder / name).unlink()
        for name in files.keys() - shown:
            (self._folder / name).symlink_to(f"{DATA}/{name}")
