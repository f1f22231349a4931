"""A project as data: relative file names and their bytes, deterministic, written in one step."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from codesign.errors import ExportError
from codesign.files import replacing_folder

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]*")


def _check_name(name: str) -> None:
    parts = name.split("/")
    if (
        "\\" in name
        or PurePosixPath(name).is_absolute()
        or not all(_PART.fullmatch(p) for p in parts)
    ):
        raise ExportError(
            f"{name!r} is no file name for a project; use relative names of letters, digits and ._+-,"
            " without '..', parts separated by '/'"
        )


@dataclass(frozen=True, kw_only=True)
class ProjectPlan:
    """Files of a project, not yet on disk.

    Attributes:
        files: content by relative POSIX name, in sorted order.
        executables: names of the files that a person may run.

    Raises:
        ExportError: a name is absolute, leaves the folder, or holds odd characters.
    """

    files: Mapping[str, bytes]
    executables: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in self.files:
            _check_name(name)
        if missing := self.executables - set(self.files):
            raise ExportError(f"executables {sorted(missing)} are not among the project's files")
        object.__setattr__(self, "files", dict(sorted(self.files.items())))

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over names, modes and contents."""
        total = hashlib.sha256()
        for name, content in self.files.items():
            mode = "x" if name in self.executables else "-"
            total.update(f"{mode} {name} {hashlib.sha256(content).hexdigest()}\n".encode())
        return total.hexdigest()[:16]

    def file_digests(self) -> dict[str, str]:
        """Return the full SHA-256 of every file, by name."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}

    def merged(self, other: "ProjectPlan", *, below: str = "") -> "ProjectPlan":
        """Return this plan with the files of another, below a folder.

        Raises:
            ExportError: a file is in both.
        """
        prefix = f"{below}/" if below else ""
        added = {prefix + name: content for name, content in other.files.items()}
        if both := set(added) & set(self.files):
            raise ExportError(f"{min(both)!r} would be written twice; export into separate folders")
        return ProjectPlan(
            files={**self.files, **added},
            executables=self.executables | {prefix + name for name in other.executables},
        )

    def below(self, folder: str) -> "ProjectPlan":
        """Return the files below a folder of this plan, named relative to it.

        Raises:
            ExportError: there are none.
        """
        prefix = f"{folder}/"
        files = {n.removeprefix(prefix): c for n, c in self.files.items() if n.startswith(prefix)}
        if not files:
            raise ExportError(f"the export holds no {folder!r}; export the candidate again")
        executables = {n.removeprefix(prefix) for n in self.executables if n.startswith(prefix)}
        return ProjectPlan(files=files, executables=frozenset(executables))

    @classmethod
    def read(cls, folder: Path, *, ignore: Callable[[str], bool] | None = None) -> "ProjectPlan":
        """Return the files below `folder` as a plan.

        Args:
            folder: a project on disk.
            ignore: says which relative names to leave out.

        Raises:
            ExportError: the folder is missing.
        """
        if not folder.is_dir():
            raise ExportError(f"{folder} is no project folder; export the candidate first")
        files, executables = {}, set()
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not (ignore is not None and ignore(name)):
                files[name] = path.read_bytes()
                if path.stat().st_mode & 0o100:
                    executables.add(name)
        return cls(files=files, executables=frozenset(executables))

    def write(self, folder: Path) -> Path:
        """Write all files, replacing `folder` as a whole: it holds all of the project or none of it.

        Returns:
            The folder.

        Raises:
            FileError: the disk is full or not writable; what was there before is untouched.
        """
        with replacing_folder(folder) as temporary:
            temporary.chmod(0o755)
            for name, content in self.files.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(0o755 if name in self.executables else 0o644)
        return folder
