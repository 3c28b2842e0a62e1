"""The main job end to end on synthetic data: the stages that the commands call, in a row.

Calling it again finds everything done; a killed run is continued by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows import stages
from flows.comparison import Comparison, compare
from flows.settings import Settings
from flows.timing import StopWatch
from graphstore.sampling.settings import SamplerSettings
from ingest.ingestion import Art500k
from ingest.sampledata import paint_art500k

#: Held-out works that are generated and compared.
HELD_OUT = 64


@dataclass(frozen=True)
class DemoReport:
    """What the demo ends with."""

    report: str
    model_id: str
    headline: str
    data: str
    seconds: float
    changed: bool


def run_demo(out: Path, *, items: int = 1200, config: str | Path = "mini") -> DemoReport:
    """Generate `items` synthetic works, then run the main job on them.

    Parameters
    ----------
    out
        Folder for the synthetic works (`gallery/`), the data root with the graph (`data/`) and `report.html`.
    config
        Training preset, or a configuration file.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(data=str(out / "data"), store=f"ladybug://{(out / 'data' / 'graph.lbug').resolve()}")
    watch = StopWatch(out / "timings.json")
    gallery = out / "gallery"
    works = Art500k(files=(str(gallery / "label_list.csv"),), images=gallery)
    with watch.stage("paint"):
        watch.keep(paint_art500k(gallery, items=items, seed=0))
    with watch.stage("ingest"):
        watch.keep(stages.ingest(settings, works))
    with watch.stage("embed"):
        encoder = watch.keep(stages.embed(settings)).encoder
    with watch.stage("sample"):
        neighbors = watch.keep(stages.sample(settings, SamplerSettings(encoder=encoder))).digest
    with watch.stage("train"):
        model_id = watch.keep(stages.train(settings, config, neighbors)).model_id
    wanted = Comparison(HELD_OUT, mix_label="Artist")
    outcome = compare(settings, model_id, out / "report.html", wanted, "A synthetic gallery", watch)
    return DemoReport(outcome.report, model_id, outcome.headline, settings.data, round(watch.seconds, 1), watch.changed)
