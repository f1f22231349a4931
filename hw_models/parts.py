"""What a device holds, by the head of its part number, and what becomes of a design that asks for more.

Sources: AMD product tables DS190 (Zynq-7000), DS180 (7 series), DS890 (UltraScale and UltraScale+), DS891
(Zynq UltraScale+), DS962, DS963, DS973 (Alveo).  LUTs are of six inputs, BRAM in blocks of 18 Kbit.
"""

import re
from collections.abc import Mapping

import numpy as np

from hw_models.formula import RESOURCES
from hw_models.primitives.base import Array
from hw_models.types import Estimate

#: LUTs of a 16-bit product by a constant that finds no DSP: 100,000 more for 1,578 products in one project.
LUT_PER_DSP = 64.0

#: LUT, FF, DSP, RAMB18 of each device.
CAPACITIES: Mapping[str, tuple[int, int, int, int]] = {
    "xc7z007s": (14_400, 28_800, 66, 100), "xc7z012s": (34_400, 68_800, 120, 144), "xc7z014s": (40_600, 81_200, 170, 214),
    "xc7z010": (17_600, 35_200, 80, 120), "xc7z015": (46_200, 92_400, 160, 190), "xc7z020": (53_200, 106_400, 220, 280),
    "xc7z030": (78_600, 157_200, 400, 530), "xc7z035": (171_900, 343_800, 900, 1_000), "xc7z045": (218_600, 437_200, 900, 1_090),
    "xc7z100": (277_400, 554_800, 2_020, 1_510),
    "xc7a35t": (20_800, 41_600, 90, 100), "xc7a50t": (32_600, 65_200, 120, 150), "xc7a75t": (47_200, 94_400, 180, 210),
    "xc7a100t": (63_400, 126_800, 240, 270), "xc7a200t": (134_600, 269_200, 740, 730),
    "xc7k70t": (41_000, 82_000, 240, 270), "xc7k160t": (101_400, 202_800, 600, 650), "xc7k325t": (203_800, 407_600, 840, 890),
    "xc7k410t": (254_200, 508_400, 1_540, 1_590), "xc7k420t": (260_600, 521_200, 1_680, 1_670), "xc7k480t": (298_600, 597_200, 1_920, 1_910),
    "xc7vx485t": (303_600, 607_200, 2_800, 2_060), "xc7vx690t": (433_200, 866_400, 3_600, 2_940), "xc7vx980t": (612_000, 1_224_000, 3_600, 3_000),
    "xcku035": (203_128, 406_256, 1_700, 1_080), "xcku040": (242_400, 484_800, 1_920, 1_200), "xcku060": (331_680, 663_360, 2_760, 2_160),
    "xcku085": (497_520, 995_040, 4_100, 3_240), "xcku115": (663_360, 1_326_720, 5_520, 4_320),
    "xcvu095": (537_600, 1_075_200, 768, 3_456), "xcku3p": (162_720, 325_440, 1_368, 720), "xcku5p": (216_960, 433_920, 1_824, 960),
    "xcku11p": (298_560, 597_120, 2_928, 1_200), "xcku15p": (522_720, 1_045_440, 1_968, 1_968),
    "xcvu3p": (394_080, 788_160, 2_280, 1_440), "xcvu5p": (600_577, 1_201_154, 3_474, 2_048), "xcvu7p": (788_160, 1_576_320, 4_560, 2_880),
    "xcvu9p": (1_182_240, 2_364_480, 6_840, 4_320), "xcvu11p": (1_296_000, 2_592_000, 9_216, 4_032), "xcvu13p": (1_728_000, 3_456_000, 12_288, 5_376),
    "xcvu35p": (871_680, 1_743_360, 5_952, 2_688), "xcvu37p": (1_303_680, 2_607_360, 9_024, 4_032),
    "xcu50": (871_680, 1_743_360, 5_952, 2_688), "xcu55c": (1_303_680, 2_607_360, 9_024, 4_032), "xcu200": (1_182_240, 2_364_480, 6_840, 4_320),
    "xcu250": (1_728_000, 3_456_000, 12_288, 5_376), "xcu280": (1_303_680, 2_607_360, 9_024, 4_032),
    "xczu2": (47_232, 94_464, 240, 300), "xczu3": (70_560, 141_120, 360, 432), "xczu4": (87_840, 175_680, 728, 256),
    "xczu5": (117_120, 234_240, 1_248, 288), "xczu6": (214_604, 429_208, 1_973, 1_428), "xczu7": (230_400, 460_800, 1_728, 624),
    "xczu9": (274_080, 548_160, 2_520, 1_824), "xczu11": (298_560, 597_120, 2_928, 1_200), "xczu15": (341_280, 682_560, 3_528, 1_488),
    "xczu17": (423_403, 846_806, 1_590, 1_592), "xczu19": (522_720, 1_045_440, 1_968, 1_968), "xczu28": (425_280, 850_560, 4_272, 2_160),
    "xczu48": (425_280, 850_560, 4_272, 2_160), "xck26": (117_120, 234_240, 1_248, 288),
}  # fmt: skip


def capacity_of(part: str) -> dict[str, int] | None:
    """Return what a part holds, by resource; None where its table is not known.

    Args:
        part: part number, "xczu7ev-ffvc1156-2-e"; letters behind the device's number (cg, eg, ev, t) do not count.
    """
    text = part.strip().lower()
    # the longest head that fits and does not stop inside a number
    heads = [
        head
        for head in CAPACITIES
        if re.match(re.escape(head) + r"(?!\d)", text)
        or (head[-1].isalpha() and text.startswith(head))
    ]
    if not heads:
        return None
    return dict(zip(RESOURCES, CAPACITIES[max(heads, key=len)], strict=True))


def within(metrics: Mapping[str, Estimate], capacity: Mapping[str, int]) -> dict[str, Estimate]:
    """Return what changes where the device holds less than is asked for, once logic synthesis has run.

    Vivado builds products in LUTs when the DSPs are used up (`LUT_PER_DSP` each); memory ends at what is there.
    """
    dsp, lut = metrics["dsp"], metrics["lut"]

    def moved(asked: Array) -> Array:
        return LUT_PER_DSP * np.maximum(asked - capacity["dsp"], 0.0)

    changed = {
        "lut": Estimate(
            value=lut.value + moved(dsp.value), low=lut.low, high=lut.high + moved(dsp.high)
        )
    }
    for name in ("dsp", "bram_18k"):
        known = metrics[name]
        changed[name] = Estimate(
            **{
                end: np.minimum(getattr(known, end), capacity[name])
                for end in ("value", "low", "high")
            }
        )
    return changed


def fit_note(part: str, utilization: Mapping[str, Array], stage: str, i: int) -> str:
    """Say which share of its part a design takes, what is over, and what the tool will then do."""
    if not utilization:
        return f"capacity of {part} is not known: whether the design fits is not said"
    shares = ", ".join(f"{r.upper()} {100 * v[i]:.3g} %" for r, v in utilization.items())
    over = [r.upper() for r, v in utilization.items() if v[i] > 1]
    text = f"share of {part}: {shares}"
    if not over:
        return text
    text += f"; does not fit, over: {', '.join(over)}"
    if stage == "csynth" and "DSP" in over:
        text += f"; logic synthesis builds products in LUTs once the DSPs are used up, about {LUT_PER_DSP:g} LUT each"
    return text
