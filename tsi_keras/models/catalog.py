"""The networks of the papers as data: what each is made of and what it is said to reach.

The figures are the papers' own, none is measured here. `python -m pipelines.doctor
models` prints them beside our parameter counts and costs.
"""

from dataclasses import dataclass
from typing import Any

from tsi_keras.models._arguments import did_you_mean

V1 = "Something-Something V1"
V2 = "Something-Something V2"
K400 = "Kinetics-400"


@dataclass(frozen=True)
class Result:
    """A published accuracy.

    Attributes:
        dataset: its name.
        frames: per clip.
        views: clips x crops averaged over.
        top1: percent.
        top5: percent, or None where it is not published.
        source: where the figure is printed.
    """

    dataset: str
    frames: int
    views: str
    top1: float
    top5: float | None
    source: str

    def __str__(self) -> str:
        accuracy = f"{self.top1}" if self.top5 is None else f"{self.top1}/{self.top5}"
        return f"{self.dataset} {self.frames}f {self.views}: {accuracy} ({self.source})"


@dataclass(frozen=True)
class Preset:
    """A network by name.

    Attributes:
        title: one line.
        reference: paper, and what is ours where it is silent.
        options: arguments of `video_resnet`.
        results: published accuracies.
    """

    title: str
    reference: str
    options: dict[str, Any]
    results: tuple[Result, ...] = ()


def _options(temporal, num_frames=8, **options):
    return {"depth": 50, "temporal": temporal, "num_frames": num_frames, **options}


def _results(source, *rows):
    return tuple(Result(*row, source) for row in rows)


PRESETS: dict[str, Preset] = {
    "tsn_resnet50": Preset(
        "TSN: no temporal module",
        "arXiv 1608.00859",
        _options("none"),
        _results(
            "arXiv 1908.02486, its tables",
            (V1, 8, "1x1", 19.7, 46.6),
            (V2, 8, "1x1", 27.8, 57.6),
            (V1, 16, "1x1", 19.9, 47.3),
            (V2, 16, "1x1", 30.0, 60.5),
        ),
    ),
    "tsm_resnet50": Preset(
        "TSM: a temporal shift at the input of every residual branch",
        "arXiv 1811.08383, official code",
        _options("tsm"),
        _results(
            "TSI Table 1",
            (V1, 8, "1x1", 45.6, 74.2),
            (V2, 8, "1x1", 58.8, 85.4),
            (V1, 16, "1x1", 47.3, 77.1),
            (V2, 16, "1x1", 61.2, 86.9),
        ),
    ),
    "tsm_resnet101": Preset(
        "TSM on ResNet-101, a shift in every second block",
        "arXiv 1811.08383, official code",
        {**_options("tsm", blocks="alternate"), "depth": 101},
    ),
    "teinet_resnet50": Preset(
        "TEINet: motion enhancement, then temporal interaction, at the branch input",
        "arXiv 1911.09435",
        _options("teinet"),
        _results(
            "TSI Table 1",
            (V1, 8, "1x1", 47.4, None),
            (V2, 8, "1x1", 61.3, None),
            (V1, 16, "1x1", 49.9, None),
            (V2, 16, "1x1", 62.1, None),
        )
        + _results(
            "TSI Table 2",
            (K400, 8, "10x3", 74.9, 91.8),
            (K400, 16, "10x3", 76.2, 92.5),
        ),
    ),
    "stm_resnet50": Preset(
        "STM: channel-wise spatio-temporal and motion branches, summed",
        "arXiv 1908.02486; BN and ReLU placement is ours",
        _options("stm"),
        _results(
            "arXiv 1908.02486",
            (V1, 8, "10x3", 49.2, 79.3),
            (V2, 8, "10x3", 62.3, 88.8),
            (V1, 16, "10x3", 50.7, 80.4),
            (V2, 16, "10x3", 64.2, 89.8),
            (K400, 16, "10x3", 73.7, 91.6),
        ),
    ),
    "tea_resnet50": Preset(
        "TEA: motion excitation and multiple temporal aggregation on Res2Net-50",
        "arXiv 2004.01398, official code",
        _options("tea"),
        _results(
            "TSI Tables 1 and 2",
            (V1, 8, "1x1", 48.9, 78.1),
            (V1, 8, "10x3", 51.7, 80.5),
            (V1, 16, "10x3", 52.3, 81.9),
            (V2, 16, "10x3", 65.1, 89.9),
            (K400, 8, "10x3", 75.0, 91.8),
            (K400, 16, "10x3", 76.1, 92.5),
        ),
    ),
    "tcm_resnet50": Preset(
        "TCM: one temporal correlation module after res3 of a TSM-ResNet",
        "arXiv 2202.12116, official code",
        _options("tcm"),
        _results("official README", (V1, 8, "1x1", 52.2, None)),
    ),
    "gtdnet_resnet50": Preset(
        "GTDNet: temporal shift, then global temporal difference, at the branch input",
        "IEEE TMM 2022, from its figures; r = 4 and the average aggregation are ours",
        _options("gtd"),
        _results(
            "its Tables IV and VI",
            (V1, 8, "1x1", 49.9, 78.9),
            (V2, 8, "1x1", 62.2, 87.9),
            (K400, 8, "1x1", 73.0, 90.5),
            (V1, 16, "1x1", 52.2, 80.9),
            (V2, 16, "1x1", 63.5, 89.0),
            (K400, 16, "1x1", 74.9, 92.2),
        ),
    ),
    "ata_resnet50": Preset(
        "ATA after res4 and res5 (the published figures are of ViT-B, not of this)",
        "arXiv 2210.00132; its place in a ResNet is ours",
        _options("ata"),
    ),
    "tanet_resnet50": Preset(
        "TANet: temporal adaptive module before the spatial convolution",
        "arXiv 2005.06803, official code",
        _options("tanet"),
        _results(
            "official README",
            (V1, 8, "1x1", 46.5, 75.8),
            (V2, 8, "2x3", 62.7, 88.0),
            (V1, 16, "1x1", 47.6, 77.7),
            (V2, 16, "2x3", 64.6, 89.5),
            (K400, 8, "10x3", 76.1, 92.3),
            (K400, 16, "10x3", 76.9, 92.9),
        ),
    ),
    "gsm_resnet50": Preset(
        "GSM at TSM's place (the published figures are of InceptionV3, not of this)",
        "arXiv 1912.00381; its place in a ResNet is ours",
        _options("gsm"),
    ),
    "tim_resnet50": Preset(
        "Res50+TIM, the baseline of TSI's ablations",
        "arXiv 2106.01088, Tables 4 and 5",
        _options("tim"),
        _results("TSI Table 4", (V1, 8, "1x1", 46.1, 74.7)),
    ),
    "cti_resnet50": Preset(
        "Res50+CTI",
        "arXiv 2106.01088, Tables 4 and 5",
        _options("cti"),
        _results("TSI Table 4", (V1, 8, "1x1", 48.4, 77.7)),
    ),
    "tsi_resnet50": Preset(
        "TSI: SME and CTI in all 16 blocks",
        "arXiv 2106.01088, section 3.4",
        _options("tsi"),
        _results(
            "TSI Tables 1 and 2",
            (V1, 8, "1x1", 50.2, 80.1),
            (V2, 8, "1x1", 62.2, 88.5),
            (V1, 8, "10x3", 53.0, 82.1),
            (V2, 8, "10x3", 64.9, 89.8),
            (K400, 8, "10x3", 75.9, 92.6),
            (V1, 16, "1x1", 53.3, 82.5),
            (V2, 16, "1x1", 63.2, 89.1),
            (V1, 16, "10x3", 54.3, 83.2),
            (V2, 16, "10x3", 66.1, 90.9),
            (K400, 16, "10x3", 77.1, 93.7),
        ),
    ),
}


def _row(table, title, temporal, top1, top5, num_frames=8, **options) -> Preset:
    """One row of an ablation table: Something-Something V1, one clip, centre crop."""
    return Preset(
        f"TSI Table {table}: {title}",
        f"arXiv 2106.01088, Table {table}",
        _options(temporal, num_frames, **options),
        _results(f"TSI Table {table}", (V1, num_frames, "1x1", top1, top5)),
    )


def _without(**sme):
    return {"temporal_options": {"sme": sme}}


def _first_of(stages):
    return {"num_frames": 16, "stages": stages, "blocks": "first"}


PRESETS |= {
    "table4_baseline": _row(4, "baseline, Res50 + TIM", "tim", 46.1, 74.7),
    "table4_sme_without_alignment": _row(
        4, "+ SME (w/o SA)", "tim+sme", 48.3, 77.9, **_without(alignment="none")
    ),
    "table4_sme_without_attention": _row(
        4, "+ SME (w/o CA)", "tim+sme", 47.5, 77.0, **_without(attention="none")
    ),
    "table4_sme": _row(4, "+ SME", "tim+sme", 49.2, 79.1),
    "table4_cti": _row(4, "Res50 + CTI", "cti", 48.4, 77.7),
    "table4_tsi": _row(4, "TSI (Res50 + SME + CTI)", "tsi", 50.2, 80.1),
    "table5_baseline": _row(5, "baseline, Res50 + TIM", "tim", 46.1, 74.7),
    "table5_me": _row(5, "+ ME", "tim+me", 48.4, 77.5),
    "table5_sme": _row(5, "+ SME", "tim+sme", 49.2, 79.1),
    "table5_mta": _row(5, "Res50 + MTA", "mta", 47.5, 76.4),
    "table5_cti": _row(5, "Res50 + CTI", "cti", 48.4, 77.7),
    "table6_res2": _row(6, "first block of res2", "tsi", 42.7, 72.7, **_first_of((2,))),
    "table6_res3": _row(6, "first block of res3", "tsi", 44.5, 74.4, **_first_of((3,))),
    "table6_res4": _row(6, "first block of res4", "tsi", 45.4, 75.3, **_first_of((4,))),
    "table6_res5": _row(6, "first block of res5", "tsi", 45.5, 75.0, **_first_of((5,))),
    "table6_4_blocks": _row(
        6, "first block of every stage", "tsi", 51.8, 81.2, **_first_of((2, 3, 4, 5))
    ),
    "table6_16_blocks": _row(6, "all blocks", "tsi", 53.3, 82.5, 16),
    "table7_sum": _row(7, "summation", "tsi", 51.2, 80.3, 16, fusion="sum"),
    "table7_concat": _row(7, "concatenation", "tsi", 52.1, 81.0, 16, fusion="concat"),
    "table7_cascade": _row(7, "cascade", "tsi", 53.3, 82.5, 16, fusion="cascade"),
}


def get_preset(name: str) -> Preset:
    """Look a preset up.

    Raises:
        ValueError: no preset has this name; the message lists near matches.
    """
    if name not in PRESETS:
        raise ValueError(
            f"`preset` must be a registered name. Received: {name!r}. "
            f"{did_you_mean(name, PRESETS)}"
            f"Registered: {', '.join(sorted(PRESETS))}."
        )
    return PRESETS[name]


def list_presets() -> dict[str, str]:
    """All preset names with one line each, in the order of the papers."""
    return {name: preset.title for name, preset in PRESETS.items()}
