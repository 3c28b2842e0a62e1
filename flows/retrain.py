"""Retrain when enough has changed, and promote the candidate only through the gate.

One story: sample, freeze a snapshot, see whether it is time, train, let the gate judge, promote or keep. Every part
finds what an earlier run has done, so a run that was killed is called again and ends with the same result.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows import stages
from flows.gate import GateSettings, Verdict, as_table, judge
from flows.settings import Settings
from flows.snapshots import Changes, Frozen, changes, freeze, item_digests
from graphstore import registry
from graphstore.sampling.settings import SamplerSettings
from ingest.datasets.root import digest
from ingest.errors import Graph2ImageError
from model.record import has_model, model_ids, read_model_record
from model.training.config import load_train_config

log = logging.getLogger(__name__)


class Retraining(BaseModel):
    """What is trained, when, and what it must be better at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str = Field("mini", description="Training configuration: a preset or a file.")
    item_share: float = Field(
        0.05, ge=0, le=1, description="Retrain when this share of the training items is new, changed or gone."
    )
    neighbor_share: float = Field(
        0.2, ge=0, le=1, description="Retrain when this share of the training items has other neighbors."
    )
    force: bool = Field(False, description="Retrain whatever has changed.")
    gate: GateSettings = Field(GateSettings(), description="What the candidate is judged by.")


@dataclass(frozen=True)
class RetrainReport:
    """What became of a retraining.

    Attributes
    ----------
    decision
        `promoted`; `kept`: the current model stays; `not due`: nothing was trained.
    trigger
        Why it was trained, or why not.
    markdown
        All of it for people.
    """

    decision: Literal["promoted", "kept", "not due"]
    trigger: tuple[str, ...]
    candidate: str | None
    current: str | None
    snapshot: Frozen
    changes: Changes | None
    verdict: Verdict | None
    markdown: str
    changed: bool


def retrain(settings: Settings, wanted: Retraining, sampler: SamplerSettings | None = None) -> RetrainReport:
    """Train a candidate if enough has changed, and promote it if it is better than the current model.

    The current model is the promoted one; before the first promotion, the newest. The decision is kept as
    `retrainings/<id>.json`, and what was measured with the candidate in the registry.

    Parameters
    ----------
    sampler
        How neighbors are sampled; by default the usual way, with the newest encoder.

    Raises
    ------
    Graph2ImageError
        If a configuration is wrong, a stage fails, or too few items are held out to judge by.
    """
    load_train_config(wanted.config)  # what is wrong with it is told before any work
    data = settings.data_root
    stages.register(settings)
    samples = stages.sample(settings, sampler or stages.sampler_settings(settings))
    frozen = freeze(data, samples.digest)
    current, stale = _current(settings)
    moved = None if current is None else changes(data, read_model_record(data, current).neighbors, frozen.neighbors)
    due, trigger = is_due(settings, wanted, current, moved, stale=stale)
    if not due:
        text = _markdown("not due", trigger, None, current, frozen, None, ())
        return RetrainReport(
            "not due", tuple(trigger), None, current, frozen, moved, None, text, frozen.changed or samples.changed
        )
    trained = stages.train(settings, wanted.config, samples.digest)
    candidate = trained.model_id
    if candidate == current:
        trigger = [*trigger, "training gives the current model again"]
        text = _markdown("not due", trigger, candidate, current, frozen, None, ())
        return RetrainReport("not due", tuple(trigger), candidate, current, frozen, moved, None, text, trained.changed)
    verdict = judge(settings, candidate, current, samples.digest, wanted.gate, stale=stale)
    decision, reasons = _decision(settings, candidate, verdict)
    if item_digests(data) != frozen.datasets:
        reasons.append("items have changed since they were sampled: they count the next time")
    text = _markdown(decision, trigger, candidate, current, frozen, verdict, tuple(reasons))
    # Before anything is promoted, so that no promotion is without its record.
    name = f"retrainings/{digest(frozen.digest, candidate, current, verdict.comparison_id)}.json"
    record = {"decision": decision, "trigger": trigger, "candidate": candidate, "current": current}
    data.write_json(name, {**record, "snapshot": asdict(frozen), "verdict": asdict(verdict), "markdown": text})
    acted = _act(settings, decision, candidate, current, verdict)
    log.info("%s is %s: %s", candidate, decision, "; ".join(reasons))
    changed = trained.changed or acted
    return RetrainReport(decision, tuple(trigger), candidate, current, frozen, moved, verdict, text, changed)


def is_due(
    settings: Settings, wanted: Retraining, current: str | None, moved: Changes | None, *, stale: bool
) -> tuple[bool, list[str]]:
    """Whether it is time to retrain, and why or why not."""
    if current is None:
        return True, ["there is no model yet"]
    reasons = []
    if wanted.force:
        reasons.append("it was asked for")
    if stale:
        reasons.append(f"{current} is stale: it was trained on items that have been withdrawn since")
    config = load_train_config(wanted.config).model_dump(mode="json")
    if read_model_record(settings.data_root, current).config.model_dump(mode="json") != config:
        reasons.append(f"{current} was trained by another configuration")
    if moved is None:
        reasons.append(f"it is not recorded what {current} was trained on")
        return True, reasons
    items = (
        f"{moved.item_share:.1%} of the training items are new ({moved.new:,}), changed ({moved.changed:,}) "
        f"or gone ({moved.gone:,})"
    )
    neighbors = f"{moved.neighbor_share:.1%} of them have other neighbors"
    if moved.item_share >= wanted.item_share and moved.new + moved.changed + moved.gone:
        reasons.append(f"{items}: at least {wanted.item_share:.1%}")
    if moved.neighbor_share >= wanted.neighbor_share and moved.neighbors:
        reasons.append(f"{neighbors}: at least {wanted.neighbor_share:.1%}")
    if reasons:
        return True, reasons
    return False, [
        f"{items}: fewer than {wanted.item_share:.1%}",
        f"{neighbors}: fewer than {wanted.neighbor_share:.1%}",
    ]


def _current(settings: Settings) -> tuple[str | None, bool]:
    """The model in use, and whether it is stale."""
    data = settings.data_root
    with settings.open_graph(read_only=True) as store:
        promoted = registry.promoted_models(store)
        usable = {m.model_id for m in registry.registered_models(store) if m.status in ("candidate", "promoted")}
        if promoted:
            if not has_model(data, promoted[-1]):
                raise Graph2ImageError(
                    f"the promoted model {promoted[-1]} is not under {settings.data}",
                    "Restore it from a backup, or promote another one with `graph2image promote MODEL`.",
                )
            return promoted[-1], registry.is_stale(store, promoted[-1])
        if not usable.intersection(model_ids(data)):
            return None, False
        newest = stages.newest(settings, "models")
        return newest, registry.is_stale(store, newest)


def _decision(settings: Settings, candidate: str, verdict: Verdict) -> tuple[Literal["promoted", "kept"], list[str]]:
    """What the verdict comes to: what a person has rolled back is not promoted again."""
    reasons = [*verdict.reasons]
    with settings.open_graph(read_only=True) as store:
        (model,) = (model for model in registry.registered_models(store) if model.model_id == candidate)
    if verdict.promote and model.status == "rolled-back":
        return "kept", [*reasons, "it was rolled back by hand, which only `graph2image promote` undoes"]
    if verdict.promote and model.stale:
        return "kept", [*reasons, "works that it was trained on have been withdrawn meanwhile"]
    return "promoted" if verdict.promote else "kept", reasons


def _act(settings: Settings, decision: str, candidate: str, current: str | None, verdict: Verdict) -> bool:
    """Promote the candidate, or keep the current model; returns whether anything was to do."""
    metrics: dict[str, Any] = {name: asdict(found) for name, found in verdict.measures.items()}
    with settings.open_graph() as store:
        before = registry.promoted_models(store)
        if before and before[-1] != current:
            raise Graph2ImageError(
                f"{before[-1]} was promoted while {candidate} was compared with {current}", "Run the same again."
            )
        if current is not None and not before:
            registry.promote(store, current, "in use before the first retraining", allow_stale=True)
        if decision == "promoted":
            return registry.promote(store, candidate, "; ".join(verdict.reasons), metrics=metrics).changed
        (model,) = (model for model in registry.registered_models(store) if model.model_id == candidate)
        registry.reject(store, candidate, metrics)
        return model.status == "candidate"


def _markdown(
    decision: str,
    trigger: list[str],
    candidate: str | None,
    current: str | None,
    frozen: Frozen,
    verdict: Verdict | None,
    reasons: tuple[str, ...],
) -> str:
    head = {
        "promoted": f"## Promoted {candidate}",
        "kept": f"## Kept {current}; {candidate} is not promoted",
        "not due": "## No retraining",
    }[decision]
    lines = [head, "", "**Why now:** " if decision != "not due" else "**Why not:** "]
    lines[-1] += "; ".join(trigger) + "."
    if reasons:
        lines += ["", f"**Decision:** {'; '.join(reasons)}."]
    if verdict is not None:
        rows = as_table(verdict.measures)
        columns = list(rows[0])
        lines += ["", f"On {verdict.items:,} held-out items, each paired:", "", f"| {' | '.join(columns)} |"]
        lines.append(f"|{'---|' * len(columns)}")
        lines += [f"| {' | '.join(str(value) for value in row.values())} |" for row in rows]
    version = frozen.graph_version or "unknown"
    lines += ["", f"Graph version `{version}`, snapshot `snapshots/{frozen.neighbors}` of {frozen.items:,} items."]
    return "\n".join(lines) + "\n"
