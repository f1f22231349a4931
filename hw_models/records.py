"""Synthesis records: a network layer by layer as it was configured, and what each tool stage reported.

The file format is JSONL, one object a line, schema 2; schema 1, which had other names for two tool stages, is
read too.  In memory a record is typed: `read_record` checks
every field once, where it comes in, and says which one is wrong; laws, fits and reports then rely on it.
Keys that no code reads (a seed, a digest, an accuracy) are kept in `others`, so that a file that is read
and written again loses nothing.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hw_models.errors import ModelError

SCHEMA = 2
#: What schema 1 called tool stages: implementation, and logic synthesis where it was not the vendor's.
_STAGES_OF_SCHEMA_1 = {"impl": "implemented", "synthesized": "vsynth"}
#: Tool stages that a record can carry, in the order of a flow; each is a key of the JSON object.
REPORT_STAGES = (
    "csynth",
    "cosim",
    "vsynth",
    "implemented",
    "emulated",
    "measured",
)

#: Flag of a record whose only report is that of the wrapper around the network.
WRAPPER_FLAG = "the only report is that of the AXI wrapper, not of the network in it"

_TYPE = re.compile(r"^\s*(?:ac_|ap_)?(u?)(fixed|int)\s*<\s*(\d+)\s*(?:,\s*(-?\d+))?")


@dataclass(frozen=True, kw_only=True)
class WordType:
    """Width, integer bits (sign included), signedness and overflow of a fixed-point type."""

    bits: float
    integer_bits: float
    is_signed: bool
    saturates: bool = False

    @property
    def fraction_bits(self) -> float:
        """Bits behind the point."""
        return self.bits - self.integer_bits


@cache
def _parse_type(text: str) -> WordType | None:
    match = _TYPE.match(text)
    if match is None:
        return None
    bits = float(match.group(3))
    integer = float(match.group(4)) if match.group(4) is not None else bits
    return WordType(
        bits=bits,
        integer_bits=integer,
        is_signed=match.group(1) != "u",
        saturates="SAT" in text.upper(),
    )


def parse_type(text: object) -> WordType | None:
    """Parse "ap_fixed<16,6,...>", "fixed<8,3>", "ap_ufixed<6,0>", "ap_uint<1>"; None when it is no such type.

    A mapping ({"default": "fixed<16,6>"}) is read at its "default" key.
    """
    if isinstance(text, Mapping):
        return parse_type(text.get("default"))
    return _parse_type(text) if isinstance(text, str) else None


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What one tool stage reported of a design, or of one module of it; None where it said nothing.

    Attributes:
        latency_cycles_min, latency_cycles_max: from input to output.
        interval_cycles_min, interval_cycles_max: between two inputs.
        lut, ff, dsp, bram_18k, uram: resources, RAMB18 blocks.
        module: name of the module, "" for the whole design.
        others: every other key of the report.
    """

    latency_cycles_min: float | None = None
    latency_cycles_max: float | None = None
    interval_cycles_min: float | None = None
    interval_cycles_max: float | None = None
    lut: float | None = None
    ff: float | None = None
    dsp: float | None = None
    bram_18k: float | None = None
    uram: float | None = None
    module: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """Return a metric by the name that estimates give it (cycles: the largest)."""
        known: float | None = getattr(
            self, f"{metric}_max" if metric in ("latency_cycles", "interval_cycles") else metric
        )
        return known


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """One layer as it was configured.  None: the file does not say.

    Attributes:
        name, type: name in the network, and hls4ml's name of the layer type.
        in_shape, out_shape: without a batch axis.
        units, filters, kernel, stride, pad: of dense, recurrent, convolution and pooling layers.
        activation: function of an activation layer.
        pool_op, implementation, cell: variants of pooling, softmax or kernel, and bidirectional layers.
        strategy, reuse_factor, n_partitions, table_size: configuration.
        *_precision: fixed-point types as text.
        n_weights, n_zeros, n_nonzeros: known counts of weights.
        n_multipliers, n_lut_multipliers, constant_adders, csd_digits, effective_bits: exact counts of known weights
            (`hw_models.weights.layer_counts`).
        adder_cost, delay: of the layer's solved adder graph.
        use_bias: whether a bias is added.
        others: every other key of the layer.
    """

    type: str
    name: str | None = None
    in_shape: tuple[int, ...] | None = None
    out_shape: tuple[int, ...] | None = None
    units: int | None = None
    filters: int | None = None
    kernel: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    pad: tuple[int, ...] | None = None
    activation: str | None = None
    pool_op: str | None = None
    implementation: str | None = None
    cell: str | None = None
    strategy: str | None = None
    reuse_factor: float | None = None
    n_partitions: int | None = None
    table_size: int | None = None
    table_precision: str | None = None
    weight_precision: str | None = None
    bias_precision: str | None = None
    accum_precision: str | None = None
    input_precision: str | None = None
    result_precision: str | None = None
    n_weights: int | None = None
    n_zeros: float | None = None
    n_nonzeros: float | None = None
    n_multipliers: float | None = None
    n_lut_multipliers: float | None = None
    constant_adders: float | None = None
    csd_digits: float | None = None
    effective_bits: float | None = None
    adder_cost: float | None = None
    delay: float | None = None
    use_bias: bool | None = None
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One design: a network with its configuration, and the reports of tool stages.

    Only the network and its configuration are inputs of an estimate; reports are targets.

    Attributes:
        id, source: name of the design, and where it comes from (records are held out by source).
        tool, tool_version, backend, hls4ml_version: what made it.
        part, clock_period_ns, clock_uncertainty_ns: the target.
        strategy, io_type, model_precision: of the whole network.
        family: kind of network ("MLP", "CNN2D", ...).
        flags: warnings of whoever wrote the record.
        layers: in order of the data flow.
        reports: by stage, some of `REPORT_STAGES`.
        modules: of the csynth report.
        latency_cutoff: adder levels per stage of plain RTL.
        adder_cost, register_bits, pipeline_cycles, delay: of a solved adder graph of the whole network.
        layer_index: of a record of one module, the layer that it realises.
        others: every other key of the record.
    """

    id: str | None = None
    source: str = ""
    tool: str | None = None
    tool_version: str | None = None
    backend: str | None = None
    hls4ml_version: str | None = None
    part: str | None = None
    clock_period_ns: float | None = None
    clock_uncertainty_ns: float | None = None
    strategy: str | None = None
    io_type: str | None = None
    model_precision: str | Mapping[str, Any] | None = None
    family: str | None = None
    flags: tuple[str, ...] = ()
    layers: tuple[LayerRecord, ...] = ()
    reports: Mapping[str, StageReport] = field(default_factory=dict)
    modules: tuple[StageReport, ...] = ()
    latency_cutoff: float | None = None
    adder_cost: float | None = None
    register_bits: float | None = None
    pipeline_cycles: float | None = None
    delay: float | None = None
    layer_index: int | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    def report(self, stage: str) -> StageReport | None:
        """Return the report of a stage, None without one."""
        return self.reports.get(stage)


# ---- reading ----------------------------------------------------------------------------------
_T = TypeVar("_T", LayerRecord, Record, StageReport)

#: What each declared type takes, in words.
#: No figure of a design reaches this: whatever does is damaged.
_LARGEST = 1e15

_EXPECTED = {
    "float": "a finite number of at least 0",
    "int": "a whole number of at least 0",
    "str": "text",
    "bool": "true or false",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[str, ...]": "a list of texts",
}


def _fail(where: str, key: str, value: object, expected: str) -> ModelError:
    return ModelError(
        f"{where}: {key} is {value!r}, expected {expected}; correct the record or leave the key out"
    )


def _numbers(where: str, key: str, value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list | tuple):
        raise _fail(where, key, value, _EXPECTED["tuple[int, ...]"])
    # Keras writes the batch axis as None in front
    axes = value[1:] if value and value[0] is None and key.endswith("shape") else value
    if any(n is None for n in axes):
        return None  # an axis that the file does not tell: the shape is not known
    is_whole = [
        isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < _LARGEST and n == n // 1
        for n in axes
    ]
    if not all(is_whole):
        raise _fail(where, key, value, _EXPECTED["tuple[int, ...]"])
    return tuple(int(n) for n in axes)


def _checked(where: str, key: str, kind: str, value: object) -> object:
    """Return a value of a record as its declared type has it.

    Raises:
        ModelError: it has another type or is out of range.
    """
    # a comparison takes whole numbers of any length, which no float can hold, and says no of NaN
    is_number = (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST
    )
    if kind == "float":
        if not is_number:
            raise _fail(where, key, value, _EXPECTED[kind])
        return value
    if kind == "int":
        if not is_number or not float(value).is_integer():  # type: ignore[arg-type]
            raise _fail(where, key, value, _EXPECTED[kind])
        return int(value)  # type: ignore[call-overload]
    if kind == "tuple[int, ...]":
        return _numbers(where, key, value)
    if kind == "tuple[str, ...]":
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise _fail(where, key, value, _EXPECTED[kind])
        return tuple(value)
    if kind == "str | Mapping[str, Any]":
        if not isinstance(value, str | Mapping):
            raise _fail(where, key, value, "text or an object with a 'default'")
        return value
    if not isinstance(value, {"str": str, "bool": bool}[kind]):
        raise _fail(where, key, value, _EXPECTED[kind])
    return value


def _plain_fields(of: type[LayerRecord | Record | StageReport]) -> dict[str, str]:
    """Return the plain fields of a record type with their types, None left out."""
    nested = ("others", "layers", "reports", "modules")
    return {
        f.name: str(getattr(f.type, "__name__", f.type) if isinstance(f.type, type) else f.type)
        .removesuffix(" | None")
        .replace("collections.abc.", "")
        .replace("typing.", "")
        for f in fields(of)
        if f.name not in nested
    }


_DECLARED = {of: _plain_fields(of) for of in (LayerRecord, Record, StageReport)}


def _read(of: type[_T], document: object, where: str, more: Mapping[str, object]) -> _T:
    """Read the plain fields of one object; `more` are the nested ones, read already.

    Raises:
        ModelError: not an object, or a field of another type.
    """
    if not isinstance(document, Mapping):
        raise ModelError(
            f"{where}: {type(document).__name__}, expected an object; correct the record"
        )
    declared = _DECLARED[of]
    values: dict[str, Any] = dict(more)
    others = {}
    for key, value in document.items():
        if key in more:
            continue
        if key in declared:
            if value is not None:
                values[key] = _checked(where, key, declared[key], value)
        else:
            others[key] = value
    return of(**values, others=others)


def read_layer(document: object, *, where: str = "layer") -> LayerRecord:
    """Read one layer of a record.

    Raises:
        ModelError: it has no type, or a field of another type than declared.
    """
    if isinstance(document, Mapping) and not isinstance(document.get("type"), str):
        raise _fail(where, "type", document.get("type"), "the name of a layer type")
    return _read(LayerRecord, document, where, {})


def read_report(document: object, *, where: str = "report") -> StageReport:
    """Read the report of one stage or module.

    Raises:
        ModelError: a field of another type than declared.
    """
    return _read(StageReport, document, where, {})


def _list(document: Mapping[str, Any], key: str, where: str) -> Sequence[object]:
    value = document.get(key)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise _fail(where, key, value, "a list")
    return value


def in_schema_2(document: object, *, where: str) -> Mapping[str, Any]:
    """Return a parsed record as schema 2 has it.

    Raises:
        ModelError: it is no object of schema 1 or 2, or one of schema 1 that names a tool stage twice.
    """
    if not isinstance(document, Mapping) or document.get("schema") not in (1, SCHEMA):
        found = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
        raise ModelError(
            f"{where}: schema {found!r}, expected {SCHEMA} (or 1); convert the record first"
        )
    if document["schema"] == SCHEMA:
        return document
    renamed = {key: value for key, value in document.items() if key not in _STAGES_OF_SCHEMA_1}
    for old, name in _STAGES_OF_SCHEMA_1.items():
        if document.get(old) is not None:
            if renamed.get(name) is not None:
                raise ModelError(f"{where}: two reports of {name}; keep one of them")
            renamed[name] = document[old]
    renamed["schema"] = SCHEMA
    return renamed


def read_record(document: object, *, where: str = "record") -> Record:
    """Read one record, all of it checked.

    Args:
        document: a parsed JSON object.
        where: file and line, for messages.

    Raises:
        ModelError: another schema, or a field of another type than declared, by its path.
    """
    document = in_schema_2(document, where=where)
    layers = tuple(
        read_layer(layer, where=f"{where}: layers[{i}]")
        for i, layer in enumerate(_list(document, "layers", where))
    )
    modules = tuple(
        read_report(module, where=f"{where}: modules[{i}]")
        for i, module in enumerate(_list(document, "modules", where))
    )
    reports = {
        stage: read_report(document[stage], where=f"{where}: {stage}")
        for stage in REPORT_STAGES
        if document.get(stage) is not None
    }
    plain = {
        key: value
        for key, value in document.items()
        if key not in ("schema", "layers", "modules", *reports)
        and not (key in REPORT_STAGES and value is None)
    }
    return _read(Record, plain, where, {"layers": layers, "modules": modules, "reports": reports})


def load_documents(paths: Iterable[Path | str]) -> Iterator[tuple[str, object]]:
    """Read JSONL files line by line: (file and line number, parsed value).

    Raises:
        ModelError: a file is missing, or a line is not JSON.
    """
    for given in paths:
        path = Path(given)
        if not path.is_file():
            raise ModelError(f"{path}: no such file; expected records as JSONL, one object a line")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield f"{path}:{number}", json.loads(line)
                    except json.JSONDecodeError as error:
                        raise ModelError(
                            f"{path}:{number}: not JSON ({error.msg}); expected one object a line"
                        ) from error


def load_records(paths: Iterable[Path | str]) -> list[Record]:
    """Read JSONL files of records; exact duplicates (same id and source) are read once.

    Raises:
        ModelError: a file is missing, a line is not JSON, or a record has another schema.
    """
    records: dict[tuple[object, object], Record] = {}
    for where, document in load_documents(paths):
        record = read_record(document, where=where)
        records.setdefault((record.source, record.id), record)
    return list(records.values())


# ---- writing ----------------------------------------------------------------------------------
def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _written(item: LayerRecord | Record | StageReport) -> dict[str, Any]:
    """Return the fields that say something, then all others, JSON-ready."""
    document: dict[str, Any] = {}
    for f in fields(item):
        value = getattr(item, f.name)
        default = None if f.default is MISSING else f.default
        if f.name in _DECLARED[type(item)] and (value != default or f.default is MISSING):
            document[f.name] = _plain(value)
    return document | dict(item.others)


def record_json(record: Record) -> dict[str, Any]:
    """Return a record as the JSON object that `read_record` reads, unknown fields left out."""
    document = {"schema": SCHEMA, **_written(record)}
    document["layers"] = [_written(layer) for layer in record.layers]
    for stage, report in record.reports.items():
        document[stage] = _written(report)
    if record.modules:
        document["modules"] = [_written(module) for module in record.modules]
    return document
