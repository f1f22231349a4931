"""EMP pattern files: what CMS test stands play into a board and capture from it.

The text format ("EMPv2") has one column per link and one row per clock cycle ("frame"):

    ID: codesign
    Metadata: (strobe,) start of orbit, start of packet, end of packet, valid

          Link              000                     001
    Frame 0000    1101 0123456789abcdef    0001 0000000000000000

The older format ("EMPv1": `Board x`, `Quad/Chan`, `1v0123456789abcdef`) is read too.

Source: the readers and writers of CMSSW's L1Trigger/DemonstratorTools; the tests hold files in both forms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint
from codesign.validate.faults import DeviceFault

METADATA_LINE = "Metadata: (strobe,) start of orbit, start of packet, end of packet, valid"

#: Frames that an EMP buffer holds.
DEPTH_FRAMES = 1024

#: Largest file that is read: 1024 frames of 128 links take 3.4 MB.
MAX_FILE_BYTES = 1 << 23

_V2_TOKEN = re.compile(r"([01])?([01])([01])([01])([01]) ([0-9a-fA-F]{16})")
_V1_TOKEN = re.compile(r"(?:([01])s)?([01])v([0-9a-fA-F]{16})")


@dataclass(frozen=True, kw_only=True)
class PatternFile:
    """The frames of some links.

    Attributes:
        board: identifier in the file.
        links: link number of each column.
        data: uint64[n_frames, n_links].
        valid, start_of_orbit, start_of_packet, end_of_packet: bool[n_frames, n_links].
    """

    board: str
    links: tuple[int, ...]
    data: NDArray[np.uint64]
    valid: NDArray[np.bool_]
    start_of_orbit: NDArray[np.bool_]
    start_of_packet: NDArray[np.bool_]
    end_of_packet: NDArray[np.bool_]

    def to_text(self) -> str:
        """Return the file in the EMPv2 format."""
        lines = [f"ID: {self.board}", METADATA_LINE, ""]
        lines.append(
            "      Link  " + "".join(f"            {link:03d}        " for link in self.links)
        )
        flags = np.stack(
            [self.start_of_orbit, self.start_of_packet, self.end_of_packet, self.valid], axis=-1
        ).astype(int)
        for i_frame, (words, marks) in enumerate(
            zip(self.data.tolist(), flags.tolist(), strict=True)
        ):
            columns = "    ".join(
                f"{a}{b}{c}{d} {word:016x}" for word, (a, b, c, d) in zip(words, marks, strict=True)
            )
            lines.append(f"Frame {i_frame:04d}    {columns}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_text(cls, text: str) -> PatternFile:
        """Read a file in the EMPv2 or EMPv1 format.

        Raises:
            DeviceFault: "garbage" for anything else, "truncated-frame" when rows or columns are
                missing.
        """
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        if lines and lines[0].startswith("ID: "):
            return cls._read(lines, board=lines[0][4:], is_v2=True)
        if lines and lines[0].startswith("Board "):
            return cls._read(lines, board=lines[0][6:], is_v2=False)
        raise DeviceFault("garbage", "no line `ID: ...` or `Board ...` starts the pattern file")

    @classmethod
    def _read(cls, lines: list[str], *, board: str, is_v2: bool) -> PatternFile:
        if is_v2:
            ok = (
                len(lines) > 2
                and lines[1].startswith(METADATA_LINE)
                and lines[2].startswith("Link")
            )
        else:
            ok = (
                len(lines) > 2
                and lines[1].startswith("Quad/Chan :")
                and lines[2].startswith("Link")
            )
        if not ok:
            raise DeviceFault("garbage", "the header of the pattern file is not as expected")
        numbers = lines[2].removeprefix("Link").replace(":", " ").split()
        if not numbers or not all(n.isdigit() and len(n) <= 4 for n in numbers):
            raise DeviceFault("garbage", f"link numbers {lines[2][:60]!r}")
        links = tuple(int(n) for n in numbers)
        rows, flags = [], []
        for i_frame, line in enumerate(lines[3:]):
            head = re.match(r"Frame (\d{4,})(?: :)?\s*", line)
            if head is None or int(head.group(1)) != i_frame:
                raise DeviceFault("garbage", f"expected frame {i_frame:04d}, found {line[:40]!r}")
            tokens = re.split(r"\s\s+" if is_v2 else r"\s+", line[head.end() :])
            if len(tokens) != len(links):
                raise DeviceFault(
                    "truncated-frame", f"frame {i_frame} has {len(tokens)} of {len(links)} links"
                )
            parsed = [cls._token(token, is_v2) for token in tokens]
            rows.append([word for word, _ in parsed])
            flags.append([marks for _, marks in parsed])
        if not rows:
            raise DeviceFault("truncated-frame", "the pattern file holds no frame")
        marks = np.array(flags, dtype=bool)
        return cls(
            board=board,
            links=links,
            data=np.array(rows, dtype=np.uint64),
            start_of_orbit=marks[..., 0],
            start_of_packet=marks[..., 1],
            end_of_packet=marks[..., 2],
            valid=marks[..., 3],
        )

    @staticmethod
    def _token(token: str, is_v2: bool) -> tuple[int, tuple[bool, bool, bool, bool]]:
        match = (_V2_TOKEN if is_v2 else _V1_TOKEN).fullmatch(token)
        if match is None:
            raise DeviceFault("garbage", f"{token[:40]!r} is no frame word")
        if not is_v2:
            return int(match.group(3), 16), (False, False, False, match.group(2) == "1")
        orbit, start, end, valid = (match.group(i) == "1" for i in range(2, 6))
        return int(match.group(6), 16), (orbit, start, end, valid)


def frames_per_event(formats: tuple[FixedPoint, ...], n_links: int) -> int:
    """Return how many frames one event occupies."""
    return -(-sum(f.bits for f in formats) // (64 * n_links))


def pack_events(
    words: NDArray[np.int64], formats: tuple[FixedPoint, ...], n_links: int
) -> NDArray[np.uint64]:
    """Lay events out on links.

    The bits of all ports, port 0 first and each least significant bit first, fill the 64 bits of the
    first link, then of the next, then the next frame.

    Returns:
        uint64[n_events * frames_per_event, n_links].
    """
    n_frames = frames_per_event(formats, n_links)
    bits = np.zeros((len(words), 64 * n_links * n_frames), dtype=np.uint8)
    position = 0
    for port, fmt in enumerate(formats):
        shifts = np.arange(fmt.bits)
        bits[:, position : position + fmt.bits] = words[:, port, None] >> shifts & 1
        position += fmt.bits
    packed = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64).reshape(len(words) * n_frames, n_links)


def unpack_events(
    data: NDArray[np.uint64], formats: tuple[FixedPoint, ...], n_links: int
) -> NDArray[np.int64]:
    """Read what `pack_events` laid out; bits beyond the last port are ignored."""
    n_frames = frames_per_event(formats, n_links)
    raw = np.ascontiguousarray(data.reshape(-1, n_frames * n_links).astype("<u8")).view(np.uint8)
    bits = np.unpackbits(raw, axis=1, bitorder="little").astype(np.int64)
    words = np.empty((len(bits), len(formats)), dtype=np.int64)
    position = 0
    for port, fmt in enumerate(formats):
        weights = np.int64(1) << np.arange(fmt.bits)
        if fmt.signed:
            weights[-1] = -weights[-1]
        words[:, port] = bits[:, position : position + fmt.bits] @ weights
        position += fmt.bits
    return words
