"""CPU and GPU latency of networks from look-up tables measured on the spot, operator by operator.

A table holds the time of each operator at a grid of widths and batch sizes; a network's time is the
sum over its operators, interpolated in the logarithms (the approach of FBNet and ProxylessNAS: Wu et
al. 2019, arXiv:1812.03443, section 3.3; Cai et al. 2019, arXiv:1812.00332).
"""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from codesign.errors import ConfigError, DataError, DesignError, DeviceError, unknown_name

if TYPE_CHECKING:
    import torch

SCHEMA = 1
#: Widths of the grid; a network's layers should lie inside.
WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512)
BATCH_SIZES = (1, 64, 1024)
#: Operators on two widths (in, out) and on one.
TWO_WIDTHS = ("dense",)
ONE_WIDTH = ("relu", "leaky_relu", "sigmoid", "tanh", "softmax", "batch_norm", "add", "concat")
NS_PER_S = 1e9


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Measured operator times.

    Attributes:
        device: what they were measured on.
        torch_version: of the library.
        n_threads: CPU threads used.
        batch_sizes: grid of events per call.
        widths: grid of widths.
        time_ns: per operator float[n_batch, n_widths] or, for two widths, [n_batch, n_in, n_out].
    """

    device: str
    torch_version: str
    n_threads: int
    batch_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    time_ns: Mapping[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; every time is labelled as measured."""
        return {
            "schema": SCHEMA,
            "stage": "measured",
            "device": self.device,
            "torch_version": self.torch_version,
            "n_threads": self.n_threads,
            "batch_sizes": list(self.batch_sizes),
            "widths": list(self.widths),
            "time_ns": {
                name: np.round(values, 1).tolist() for name, values in self.time_ns.items()
            },
        }

    @classmethod
    def from_json(cls, value: Any, *, origin: str) -> "LatencyTable":
        """Read what `to_json` wrote.

        Raises:
            DataError: another schema, or a table of the wrong shape.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise DataError(
                f"{origin}: no latency table of schema {SCHEMA}; measure it again with `codesign profile`"
            )
        try:
            batches, widths = (
                tuple(map(int, value["batch_sizes"])),
                tuple(map(int, value["widths"])),
            )
            tables = {
                str(name): np.asarray(rows, dtype=np.float64)
                for name, rows in value["time_ns"].items()
            }
            table = cls(
                device=str(value["device"]), torch_version=str(value["torch_version"]),
                n_threads=int(value["n_threads"]), batch_sizes=batches, widths=widths, time_ns=tables,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{origin}: damaged latency table ({error!r}); measure it again"
            ) from error
        for name, times in tables.items():
            shape = (len(batches), *(len(widths),) * (2 if name in TWO_WIDTHS else 1))
            if times.shape != shape or not (times > 0).all():
                raise DataError(
                    f"{origin}: {name} has shape {times.shape}, expected {shape} of times above zero; measure it again"
                )
        return table


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of a network: its name, width in and width out (equal where it has one)."""

    name: str
    n_in: int
    n_out: int


def _torch_device(device: str) -> "torch.device":
    import torch

    if device == "cpu":
        return torch.device("cpu")
    if device == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("no CUDA device answers torch; use --device cpu")
        return torch.device("cuda")
    raise ConfigError(unknown_name("device", device, ("cpu", "cuda")))


def _operation(
    name: str, n_in: int, n_out: int, batch: int, device: "torch.device"
) -> Callable[[], object]:
    import torch
    from torch.nn import functional

    x = torch.randn(batch, n_in, device=device)
    if name == "dense":
        weight, bias = torch.randn(n_out, n_in, device=device), torch.randn(n_out, device=device)
        return lambda: functional.linear(x, weight, bias)
    if name == "batch_norm":
        ones = torch.ones(n_in, device=device)
        return lambda: functional.batch_norm(x, ones, ones, ones, ones)
    y = torch.randn(batch, n_in, device=device)
    plain: dict[str, Callable[[], object]] = {
        "relu": lambda: functional.relu(x),
        "leaky_relu": lambda: functional.leaky_relu(x, 0.125),
        "sigmoid": lambda: torch.sigmoid(x),
        "tanh": lambda: torch.tanh(x),
        "softmax": lambda: functional.softmax(x, dim=1),
        "add": lambda: x + y,
        "concat": lambda: torch.cat((x, y), dim=1),
    }
    if name not in plain:
        raise DesignError(unknown_name("operator", name, (*TWO_WIDTHS, *ONE_WIDTH)))
    return plain[name]


def block_time_ns(
    call: Callable[[], object], *, device: "torch.device", budget_s: float, n_blocks: int = 9
) -> float:
    """Measure the time of one call: the best of several blocks of calls.

    The best block, as in Python's timeit: what else runs on a machine only ever adds time.

    Args:
        call: what is timed.
        device: synchronised around each block when it is a GPU.
        budget_s: about how long to measure.
        n_blocks: blocks.
    """
    import torch

    def block(n_calls: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start_s = time.perf_counter()
        for _ in range(n_calls):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start_s

    with torch.inference_mode():
        block(3)
        n_calls = max(1, int(budget_s / n_blocks / max(block(1), 1e-7)))
        best_s = min(block(n_calls) / n_calls for _ in range(n_blocks))
    return best_s * NS_PER_S


def measure_table(
    *,
    device: str = "cpu",
    widths: Sequence[int] = WIDTHS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    budget_s: float = 0.02,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """Measure every operator on the grid.

    Args:
        device: "cpu" or "cuda".
        widths: at least two, rising.
        batch_sizes: at least two, rising.
        budget_s: about how long each point is measured.
        progress: told (points done, points in all).

    Raises:
        ConfigError: an unknown device or a grid that does not rise.
        DeviceError: no such device.
    """
    import torch

    for name, grid in (("widths", widths), ("batch sizes", batch_sizes)):
        if (
            len(grid) < 2
            or min(grid) < 1
            or any(b <= a for a, b in zip(grid[:-1], grid[1:], strict=True))
        ):
            raise ConfigError(
                f"{name} {list(grid)}: expected at least two rising numbers above zero; correct them"
            )
    target = _torch_device(device)
    n_total = len(batch_sizes) * (len(widths) ** 2 * len(TWO_WIDTHS) + len(widths) * len(ONE_WIDTH))
    n_done = 0
    tables: dict[str, np.ndarray] = {}
    for name in (*TWO_WIDTHS, *ONE_WIDTH):
        shape = (len(batch_sizes), *(len(widths),) * (2 if name in TWO_WIDTHS else 1))
        tables[name] = np.empty(shape)
        for index in np.ndindex(*shape):
            n_in, n_out = widths[index[1]], widths[index[-1]]
            call = _operation(name, n_in, n_out, batch_sizes[index[0]], target)
            tables[name][index] = block_time_ns(call, device=target, budget_s=budget_s)
            n_done += 1
            if progress is not None and (n_done % 25 == 0 or n_done == n_total):
                progress(n_done, n_total)
    description = (
        torch.cuda.get_device_name(target)
        if target.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return LatencyTable(
        device=f"{target.type}: {description}",
        torch_version=torch.__version__,
        n_threads=torch.get_num_threads(),
        batch_sizes=tuple(batch_sizes),
        widths=tuple(widths),
        time_ns=tables,
    )


def operator_time_ns(table: LatencyTable, operator: Operator, *, batch_size: int) -> float:
    """Interpolate one operator's time in the logarithms of widths and batch size.

    Raises:
        DesignError: the table lacks the operator, or the widths or the batch lie outside its grid.
    """
    if operator.name not in table.time_ns:
        raise DesignError(unknown_name("operator", operator.name, table.time_ns))
    ends = (table.widths[0], table.widths[-1])
    if not all(ends[0] <= n <= ends[1] for n in (operator.n_in, operator.n_out)):
        raise DesignError(
            f"{operator.name} of widths {operator.n_in} and {operator.n_out} lies outside the measured {ends[0]} to "
            f"{ends[1]}; measure a wider table"
        )
    if not table.batch_sizes[0] <= batch_size <= table.batch_sizes[-1]:
        raise DesignError(
            f"batch size {batch_size} lies outside the measured {table.batch_sizes[0]} to {table.batch_sizes[-1]}; "
            "measure a wider table"
        )
    point = [batch_size, operator.n_in]
    axes = [np.log(table.batch_sizes), np.log(table.widths)]
    if operator.name in TWO_WIDTHS:
        point.append(operator.n_out)
        axes.append(np.log(table.widths))
    interpolate = RegularGridInterpolator(axes, np.log(table.time_ns[operator.name]))
    return float(np.exp(interpolate([np.log(point)])[0]))


def network_time_ns(
    table: LatencyTable, operators: Sequence[Operator], *, batch_size: int
) -> float:
    """Add up the operators of a network."""
    return sum(operator_time_ns(table, operator, batch_size=batch_size) for operator in operators)


def mlp_operators(widths: Sequence[int]) -> list[Operator]:
    """List the operators of a ReLU MLP of the given widths, input first."""
    if len(widths) < 2 or min(widths) < 1:
        raise DesignError(
            f"network {list(widths)}: expected two or more widths above zero, as in 16-64-32-5"
        )
    operators: list[Operator] = []
    for i, (n_in, n_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        operators.append(Operator(name="dense", n_in=n_in, n_out=n_out))
        if i < len(widths) - 2:
            operators.append(Operator(name="relu", n_in=n_out, n_out=n_out))
    return operators


def measure_network_ns(
    operators: Sequence[Operator], *, device: str, batch_size: int, budget_s: float = 0.2
) -> float:
    """Measure a chain of operators as a whole, each fed with data of its own: the check on the sum."""
    target = _torch_device(device)
    calls = [_operation(o.name, o.n_in, o.n_out, batch_size, target) for o in operators]

    def run() -> None:
        for call in calls:
            call()

    return block_time_ns(run, device=target, budget_s=budget_s)


def load_table(path: Path) -> LatencyTable:
    """Read a latency table.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); measure a table with `codesign profile`"
        ) from error
    return LatencyTable.from_json(value, origin=str(path))
