"""The main job end to end: on the painted gallery (`graph2image demo`), or from any ingested data on (`run_main_job`).

The demo is the same stages that the commands call, in a row, with the time and memory of each kept for the report.
Calling it again finds everything done.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flows import requests, stages
from flows.mixing import EntityWorks
from flows.report import build_report
from flows.settings import Settings
from flows.timing import StopWatch
from graphstore.sampling import SamplerSettings
from ingest.datasets import DataRoot
from ingest.sampledata import paint_art500k
from model.config import load_train_config
from model.generate import GenerationSettings

log = logging.getLogger(__name__)

#: Held-out works of the demo that are generated and compared.
HELD_OUT = 64
#: Works of the mixing strips.
MIXED = 3

Report = TypeVar("Report")


@dataclass(frozen=True)
class DemoReport:
    """What the demo ends with."""

    report: Path
    model_id: str
    headline: str
    query_command: str
    seconds: float
    changed: bool


@dataclass(frozen=True)
class EvaluationOutcome:
    """Pictures and figures of a model, and where the report is."""

    model_id: str
    pictures_new: int
    report: Path
    headline: str
    changed: bool


def run_demo(out: Path, items: int = 1200, preset: str = "mini") -> DemoReport:
    """Paint the gallery, then run the main job on it under `out`.

    Parameters
    ----------
    out
        Folder for the gallery (`gallery/`), the data root and graph (`data/`) and `report.html`.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(data=str(out / "data"), store=None)
    watch = StopWatch(out / "timings.json")
    gallery = out / "gallery"
    with watch.stage("paint the gallery"):
        watch.keep(paint_art500k(gallery, items=items, seed=0))
    with watch.stage("ingest"):
        watch.keep(stages.ingest_art500k(settings, gallery / "label_list.csv", gallery))
    with watch.stage("encode"):
        encoder = watch.keep(stages.embed(settings)).encoder
    with watch.stage("sample"):
        neighbors = watch.keep(stages.sample(settings, SamplerSettings(encoder=encoder))).digest
    with watch.stage("train"):
        model_id = watch.keep(stages.train(settings, load_train_config(preset), neighbors)).model_id
    outcome = evaluate_model(settings, model_id, out / "report.html", HELD_OUT, "Artist", watch)
    return DemoReport(
        outcome.report, model_id, outcome.headline, watch.total, watch.changed
    )
