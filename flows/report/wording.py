"""What the report says in words: names of variants, reasons of neighbors, and the claim that the figures allow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.requests import CONTROL_SCALE
from model.evaluation.metrics import Estimate, Metrics
from model.generation.variants import TEXT, TOP_NEIGHBOR, Variant

#: The variant that is compared with its controls, of which shuffled neighbors have the same graph guidance scale.
MAIN_VARIANT = Variant("graph", CONTROL_SCALE)
SHUFFLED = Variant("shuffled", CONTROL_SCALE)
#: A difference of fewer standard errors is called unclear.
CLEAR = 2.0


@dataclass(frozen=True)
class Difference:
    """A paired difference in words: `verdict` is `better`, `worse` or `unclear`."""

    figures: str
    unit: str
    verdict: str


def words(name: str) -> str:
    """A label or relation type in words: `ArticleType` is `article type`, `CREATED_BY` is `created by`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").lower()


def plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def variant_name(variant: Variant) -> str:
    """What an image was made from, in words."""
    match variant.kind:
        case "text":
            return "text only"
        case "graph":
            return f"text + graph\u00a0×\u00a0{variant.graph_guidance_scale:g}"
        case "shuffled":
            return "shuffled neighbors"
        case "mix":
            return " / ".join(f"{100 * share:.0f}" for share in variant.shares)
        case "top-neighbor":
            return "top neighbor’s image"


def via_words(via: str, between: Mapping[str, str]) -> str:
    """Why a neighbor was chosen; `between` describes the nodes that `via` may name, by id."""
    relation, _, node = via.partition(" ")
    if node:
        return between.get(node, f"{words(relation)} {node}")
    return {
        "indirect": "several steps away",
        "semantic": "fits the text; no path in the graph",
        "random": "picked at random",
    }.get(relation, f"linked directly: {words(relation)}")


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def estimate(value: Estimate, digits: int, *, sign: bool = False, scale: float = 1.0) -> str:
    """A mean and its standard error, both times `scale`: `0.512 ± 0.021`."""
    if value.mean is None:
        return "–"
    text = signed(scale * value.mean, digits) if sign else f"{scale * value.mean:.{digits}f}"
    return text if value.se is None else f"{text} ± {scale * value.se:.{digits}f}"


def verdict(value: Estimate, *, lower_is_better: bool = False) -> str:
    """Whether a difference is `better`, `worse` or `unclear`."""
    if value.mean is None or value.se is None or abs(value.mean) <= CLEAR * value.se:
        return "unclear"
    return "better" if (value.mean < 0) == lower_is_better else "worse"


def main_differences(metrics: Metrics) -> dict[str, tuple[Difference, Difference]]:
    """Similarity and palette distance of the main variant, less those of each control, by the control's kind."""
    found: dict[str, tuple[Difference, Difference]] = {}
    for baseline in (TEXT, SHUFFLED):
        row = metrics.difference(MAIN_VARIANT, baseline)
        if row is not None:
            found[baseline.kind] = (
                Difference(estimate(row.similarity, 3, sign=True), "", verdict(row.similarity)),
                Difference(
                    estimate(row.palette_distance, 2, sign=True),
                    "ΔE",
                    verdict(row.palette_distance, lower_is_better=True),
                ),
            )
    return found


def claim(differences: Mapping[str, tuple[Difference, Difference]]) -> str:
    """What the differences allow to say: a difference counts from two standard errors on."""
    verdicts = {difference.verdict for pair in differences.values() for difference in pair}
    if verdicts == {"better"} and len(differences) == 2:
        return "The graph helps"
    if "better" in verdicts:
        return "The graph helps only in part"
    return "The graph makes it worse" if "worse" in verdicts else "The graph does not measurably help"


def evidence(differences: Mapping[str, tuple[Difference, Difference]], n: int, noun: str) -> str:
    """The figures behind the claim, as the second half of a sentence."""
    if not differences:
        return f"there is nothing to compare for {n} held-out {plural(noun)}"
    against = {"text": "the same model without the graph", "shuffled": "shuffled neighbors"}
    similarity = _join(f"by {pair[0].figures} against {against[baseline]}" for baseline, pair in differences.items())
    palette = _join(pair[1].figures for pair in differences.values())
    return (
        f"similarity to the true images of {n} held-out {plural(noun) if n != 1 else noun} changes {similarity}; "
        f"palette distance by {palette} ΔE (lower is better; paired means ± standard errors)"
    )


def _join(parts: Iterable[str]) -> str:
    return " and ".join(parts)


def copying_note(metrics: Metrics) -> str:
    """What showing the top neighbor's own image would score, and what that means."""
    copied, made = metrics.of(TOP_NEIGHBOR), metrics.of(MAIN_VARIANT)
    if copied is None or made is None or copied.similarity.mean is None or made.similarity.mean is None:
        return ""
    text = (
        "Copying is a strong baseline. Showing the top neighbor’s own image instead of making one scores "
        f"{copied.similarity.mean:.3f} in similarity and {copied.palette_distance.mean:.2f} ΔE, "
        f"against {made.similarity.mean:.3f} and {made.palette_distance.mean:.2f} ΔE for "
        f"{variant_name(MAIN_VARIANT)}. "
    )
    if copied.similarity.mean > made.similarity.mean:
        text += "By similarity the copy wins: it is a real image, and a neighbor resembles its item. "
    accuracy = {
        label: (copied.attribute_accuracy[label].mean, value.mean)
        for label, value in made.attribute_accuracy.items()
        if label in copied.attribute_accuracy
    }
    labels = [
        f"{words(label)} ({100 * own:.0f}% against {100 * copy:.0f}%)"
        for label, (copy, own) in accuracy.items()
        if copy is not None and own is not None and copy < own
    ]
    if labels:
        return f"{text}The made images show the right {_join(labels)} more often."
    return f"{text}It shows what the neighbor shows, whatever the text says, and it is nothing new."


def judge_note(metrics: Metrics) -> str:
    """By what images were compared."""
    if metrics.heads:
        return "the features of a small classifier that was trained on real images, apart from the model"
    return (
        "the embeddings of the model’s own encoder: these items have no entities that a classifier could be trained "
        "to tell apart, so it is less independent of the model"
    )
