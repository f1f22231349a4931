"""Options of tasks: strict, frozen, with the key path in every message."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codesign.errors import ConfigError


class TaskOptions(BaseModel):
    """Options that every task has.

    Attributes:
        features: keep these features only, in this order; all when left out.
        class_names: the label order wanted; the source's own when left out.
        n_train_max: keep the first so many training rows (after the split); all when left out.
        n_test_max: keep the first so many test rows; all when left out.
        non_finite: "error" refuses rows with NaN or infinity, "drop" removes and counts them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[str, ...] | None = Field(default=None, min_length=1)
    class_names: tuple[str, ...] | None = Field(default=None, min_length=2)
    n_train_max: int | None = Field(default=None, ge=1)
    n_test_max: int | None = Field(default=None, ge=1)
    non_finite: Literal["error", "drop"] = "error"


class SplitOptions(TaskOptions):
    """Options of sources that come as one table.

    Attributes:
        split: "stratified" keeps the class shares equal; "sklearn" gives the very rows of
            scikit-learn's `train_test_split(test_size=..., random_state=seed)`, which the hls4ml
            tutorial uses with 0.2 and 42.
        test_fraction: share of rows in the test set.
        seed: of the split.
    """

    split: Literal["stratified", "sklearn"] = "stratified"
    test_fraction: float = Field(default=0.2, gt=0.0, lt=1.0)
    seed: int = Field(default=42, ge=0, lt=2**32)


class FileOptions(SplitOptions):
    """Options of tasks that read a file or folder of one's own.

    Attributes:
        path: the file or folder.
        benchmark: an id for the data; made from its digest when left out.
    """

    path: Path
    benchmark: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def parse_options(
    options_type: type[OptionsT], options: Mapping[str, Any], *, where: str
) -> OptionsT:
    """Make `options_type` of a mapping as it stands in YAML.

    Raises:
        ConfigError: an unknown key, a missing key or a wrong value; the message gives the key path.
    """
    try:
        return options_type.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *(str(part) for part in first["loc"])])
        known = ", ".join(options_type.model_fields)
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{key}: unknown option; expected one of: {known}") from error
        if first["type"] == "missing":
            raise ConfigError(f"{key}: missing; set it (options: {known})") from error
        raise ConfigError(f"{key}: {first['msg']}, got {first['input']!r}; correct it") from error
