"""What each stage did, in a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.timing import duration

if TYPE_CHECKING:
    from flows.comparison import ComparisonReport
    from flows.demo import DemoReport
    from flows.deployments.deploy import DeployReport
    from flows.model_comparison import ModelComparisonReport
    from flows.runs import RunList
    from flows.stages import EmbedOutcome, GenerateOutcome, IngestOutcome
    from flows.study.run import StudyPlan, StudyReport
    from flows.verify import VerifyReport
    from graphstore.sampling.dataset import SampleReport
    from graphstore.sampling.explanation import NeighborExplanation
    from graphstore.search.images import SimilarItems
    from graphstore.search.titles import FoundItems
    from ingest.pipeline import MostImagesMissing
    from ingest.sampledata import SampleReport as PaintReport
    from ingest.writers.instructg2i import ExportReport
    from model.training.train import TrainReport


def count(number: int, thing: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def sample_data_made(report: PaintReport) -> str:
    defects = ", ".join(f"{name.replace('_', ' ')} {times}" for name, times in sorted(report.defects.items()))
    head = "Generated" if report.changed else "Unchanged:"
    return f"{head} {count(report.items, 'item')} in {report.folder} (defects on purpose: {defects})."


def ingested(outcome: IngestOutcome) -> str:
    report, loaded = outcome.ingest, outcome.load
    rejected = sum(report.rejected.values())
    lines = [
        f"{report.source}: {count(report.rows_read, 'row')} = {count(report.items, 'item')} + "
        f"{count(report.duplicates, 'duplicate')} + {count(rejected, 'reject')}"
        + (f" ({by_reason(report.rejected)})" if rejected else "")
        + (f" + {count(report.auxiliary_rows, 'auxiliary row')}" if report.auxiliary_rows else "")
        + f", from {count(report.files, 'file')}"
        + (f" ({report.files_unchanged:,} as before)." if report.files_unchanged else "."),
        f"Now {count(report.items_total, 'item')}, {report.entities:,} entities, {count(report.relations, 'relation')} "
        f"({loaded.pending:,} pending), {count(report.images_new, 'new image')}.",
    ]
    if report.missing_images:
        lines.append(
            f"{count(sum(report.missing_images.values()), 'item')} kept without image "
            f"({by_reason(report.missing_images)}): missing-images/{report.source} in the data root lists them."
        )
    if report.images_kept:
        lines.append(f"{count(report.images_kept, 'image')} could not be had again: the items keep those they have.")
    for image_hash, items in list(report.shared_images.items())[:3]:
        lines.append(
            f"{count(items, 'item')} have one and the same image, {image_hash[:12]}…: probably it stands for no image. "
            "They are not grouped by it."
        )
    if report.most_images_missing is not None:
        lines.append(most_images_missing(report.most_images_missing))
    if report.gone:
        fate = "removed" if report.pruned else "kept: --prune removes them"
        lines.append(f"{count(report.gone, 'item')} no longer in the files, {fate}.")
    if rejected + report.duplicates:
        lines.append(f"Rejected rows, each with its reason: rejects/{report.source} in the data root.")
    lines.append(f"Graph version {loaded.version}." if outcome.changed else "Unchanged: all of it was there.")
    return "\n".join(lines)


def by_reason(counts: Mapping[str, int]) -> str:
    """`image_empty 2, image_missing 1,040`."""
    return ", ".join(f"{reason} {rows:,}" for reason, rows in sorted(counts.items()))


def most_images_missing(found: MostImagesMissing) -> str:
    lines = [
        f"Most images could not be had: {found.missing:,} of {found.wanted:,}. "
        f"Looked for, for example: {found.example} ({found.problem})"
    ]
    if found.found_in is not None:
        lines.append(f"Files of the same names are in: {found.found_in}")
    return "\n".join(lines)


def exported(report: ExportReport) -> str:
    rows = ", ".join(f"{split} {rows:,}" for split, rows in report.rows.items())
    skipped = ", ".join(f"{reason} {items:,}" for reason, items in report.skipped.items() if items)
    return (
        f"{'Wrote' if report.changed else 'Unchanged:'} {report.folder}: rows of {rows or 'nothing'}; "
        f"{count(report.images, 'image')}." + (f" Left out: {skipped}." if skipped else "")
    )


def embedded(outcome: EmbedOutcome) -> str:
    report, index = outcome.embed, outcome.index
    if report.changed:
        done = (
            f"{count(report.images_new, 'image')} and {count(report.texts_new, 'text')} embedded with "
            f"{report.encoder}{', trained for it,' if report.trained else ''} in {report.seconds:.0f} s; "
            f"{report.images_existing:,} and {report.texts_existing:,} had vectors already."
        )
    else:
        done = (
            f"Unchanged: {count(report.images_existing, 'image')} and {count(report.texts_existing, 'text')} "
            f"have vectors of {report.encoder}."
        )
    if report.images_unreadable:
        done += (
            f"\n{count(report.images_unreadable, 'image')} could not be read (unreadable/{report.encoder} has all), "
            f"such as {report.unreadable[0]}"
        )
    if index is not None:
        done += f"\nThe store has the vectors of {count(index.items, 'item')}: " + (
            f"{index.written:,} written, {index.removed:,} removed." if index.changed else "unchanged."
        )
    return done


def similar(report: SimilarItems) -> str:
    head = f"{report.item_id}: {shortened(report.title)}"
    if not report.items:
        return f"{head}\nNo other item has an image to compare."
    return f"{head}  (images compared with {report.encoder})"


def found(report: FoundItems) -> str:
    words = shortened(" ".join(report.words))
    return f"Titles with: {words}" if report.items else f"No title has any of the words: {words}"


def shortened(title: str | None) -> str:
    """A title that fits on a line or two."""
    title = " ".join((title or "")[:1000].split())
    return title if len(title) <= 120 else f"{title[:119]}…"


def sampled(report: SampleReport) -> str:
    head = "Sampled" if report.changed else "Unchanged:"
    return (
        f"{head} {count(report.neighbors, 'neighbor')} for {count(report.items, 'item')}: neighbors/{report.digest} "
        f"({report.incomplete:,} items with fewer than asked, {report.fallbacks:,} without a graph path)."
        + (
            f"\n{count(report.without_image, 'item')} without an image: not for training."
            if report.without_image
            else ""
        )
    )


def explained(explanation: NeighborExplanation) -> str:
    head = f"{explanation.item_id}: {explanation.title or ''}  ({explanation.split})"
    return "\n".join([head, *(f"Note: {note}." for note in explanation.notes)])


def trained(report: TrainReport) -> str:
    if not report.changed:
        return f"Unchanged: {report.model_id} is trained already."
    left_out = f" ({report.left_out:,} left out: withdrawn, or without a readable image)" if report.left_out else ""
    return (
        f"Trained {report.model_id} on {count(report.items, 'item')}{left_out}: {count(report.steps, 'step')} "
        f"in {report.seconds:.0f} s{'' if report.loss is None else f', loss {report.loss:.3f}'}.\n"
        f"Its card, curves and sample images: models/{report.model_id} in the data root."
    )


def generated(outcome: GenerateOutcome) -> str:
    report = outcome.generate
    lines = [
        f"{count(report.new, 'new image')} by {outcome.model_id}, {report.existing:,} existing."
        if report.changed
        else f"Unchanged: all {count(report.existing, 'image')} exist."
    ]
    if report.checked:
        flagged = f"{len(report.flagged):,} of {count(report.checked, 'image')} flagged as copies"
        shown = ", ".join(report.flagged[:5]) + (" …" if len(report.flagged) > 5 else "")
        lines.append(f"{flagged}: {shown}" if report.flagged else f"{flagged}.")
    if report.unmarked:
        lines.append(f"The watermark of {count(report.unmarked, 'new image')} cannot be read back.")
    lines += [f"Note: {note}." for note in outcome.notes]
    if len(report.generated_ids) <= 10:
        lines += [f"  {generated_id}" for generated_id in report.generated_ids]
    return "\n".join(lines)


def compared(report: ComparisonReport) -> str:
    lines = [report.headline, *(f"Note: {note}." for note in report.notes)]
    lines.append(f"Evaluation {report.evaluation_id} of {count(report.items, 'item')} of model {report.model_id}.")
    return "\n".join([*lines, f"Report: {report.report}"])


def models_compared(report: ModelComparisonReport) -> str:
    lines = [f"{report.headline}.", *(f"Note: {note}." for note in report.notes)]
    seeds = count(len(report.seeds), "seed")
    lines.append(
        f"{'Comparison' if report.changed else 'Unchanged: comparison'} {report.comparison_id} of "
        f"{count(report.items, 'item')} in {count(report.clusters, 'cluster')}, {seeds}."
    )
    return "\n".join([*lines, f"Page: {report.report}"])


def study_planned(plan: StudyPlan) -> str:
    lines = []
    for step in plan.steps:
        took = "" if step.seconds is None else f"  {'' if step.finished else 'about '}{duration(step.seconds)}"
        lines.append(f"{'done' if step.finished else 'left'}  {step.title}{took}")
    if not plan.left:
        return "\n".join([*lines, "All is finished."])
    left = "nothing alike was made yet to tell how long it takes"
    if plan.seconds_left is not None:
        left = f"about {duration(plan.seconds_left)}"
    return "\n".join([*lines, f"{count(len(plan.left), 'step')} of {len(plan.steps):,} left: {left}."])


def studied(report: StudyReport) -> str:
    lines = [f"{report.headline}.", f"{count(report.made, 'step')} made, {report.existing:,} finished before."]
    lines += [f"Failed: {name}: {reason}" for name, reason in report.failed.items()]
    if report.missing:
        lines.append(f"Not made yet: {', '.join(report.missing)}.")
    if report.report is not None:
        lines.append(f"Page: {report.report}   ({report.seconds:.0f} s, {report.overhead:.1f} s of them overhead)")
    return "\n".join(lines)


def demonstrated(report: DemoReport) -> str:
    return (
        f"\n{report.headline}\n\nReport:  {report.report}   ({report.seconds:.0f} s"
        f"{'' if report.changed else ', nothing to do'})\n"
        f'Ask:     graph2image query "MATCH (g:GeneratedImage)-[:CONDITIONED_ON]->(n) RETURN g.id, n.title LIMIT 5" '
        f"--data {report.data}"
    )


def verified(report: VerifyReport) -> str:
    lines = [f"Compared {count(report.files, 'file')} ({report.bytes / 2**20:,.0f} MiB) with their digests."]
    for finding in report.findings:
        lines += [f"  {file}" for file in finding.files]
        done = {"damaged": "", "removed": "Removed. ", "made again": "made again."}[finding.outcome]
        lines.append(f"    {done if finding.outcome == 'made again' else f'{done}Made again by: {finding.remedy}.'}")
    if not report.findings:
        lines.append("All are as they were published.")
    return "\n".join(lines)


def runs_listed(found: RunList) -> str:
    if not found.runs:
        return "No scheduled run has kept anything yet."
    lines = [
        f"{run.started_at:%Y-%m-%d %H:%M:%S}  {run.stage:<9} {run.outcome:<9} {run.seconds:>9,.1f} s "
        f"{run.peak_mib:>8,.0f} MiB" + (f"  {run.problem}" if run.problem else "")
        for run in found.runs
    ]
    return "\n".join([*lines, *(f"Slower: {sentence}." for sentence in found.slower)])


def deployed(report: DeployReport, *, check: bool) -> str:
    lines = [f"{name}: {change}" for name, change in report.changes.items()]
    if report.pool_is_new:
        lines.append(f"work pool {report.pool}: new")
    lines += [f"{name}: registered, and not in {report.file}; left alone" for name in report.others]
    if check:
        return "\n".join([*lines, "Nothing was registered."])
    return "\n".join([*lines, f"Runs start when a worker does: prefect worker start --pool {report.pool}"])
