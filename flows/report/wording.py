"""What the report says in words: names of variants, reasons of neighbors, and the claim that the figures allow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.requests import CONTROL_SCALE
from model.evaluation.metrics import ASPECTS, Aspect, Estimate, Metrics
from model.evaluation.roles import Question, Role
from model.evaluation.views import Kind, Metric
from model.generation.variants import TEXT, TOP_NEIGHBOR, TRUE, Variant

#: The variant that is compared with its controls, of which shuffled neighbors have the same graph guidance scale.
MAIN_VARIANT = Variant("graph", CONTROL_SCALE)
SHUFFLED = Variant("shuffled", CONTROL_SCALE)
#: How values of a metric are written: times what, with how many digits, in which unit.
_SCALES: Mapping[Kind, tuple[float, int, str]] = {
    "style": (100, 0, "%"),
    "subject": (100, 0, "%"),
    "both": (100, 0, "%"),
    "image": (100, 1, ""),
    "text": (100, 1, ""),
    "neighbors": (100, 1, ""),
    "neighbor_divergence": (1, 3, ""),
    "fid": (1, 3, ""),
    "kid": (1000, 2, ""),
}
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


def capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:]


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
        case "top-neighbor-decoded":
            return "… through the autoencoder"
        case "same-entities":
            return "another with the same style and subject"
        case "true-decoded":
            return "true image through the autoencoder"
        case "true":
            return "true image"


def via_words(via: str, between: Mapping[str, str]) -> str:
    """Why a neighbor was chosen; `between` describes the nodes that `via` may name, by id."""
    if not via:
        return ""
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


def metric_name(metric: Metric) -> str:
    """What a metric is called where it stands alone: `image–image, DINOv2 (facebook/dinov2-large)`."""
    return metric.label if metric.kind in ASPECTS else f"{metric.label}, {metric.source}"


def figure(metric: Metric, value: Estimate | None, *, sign: bool = False) -> str:
    """A metric's mean and standard error: shares in percent, cosines times 100, KID times 1,000.

    With a sign it is a difference, which has no unit: of shares, it is in points.
    """
    if value is None:
        return "–"
    scale, digits, unit = _SCALES[metric.kind]
    text = estimate(value, digits, sign=sign, scale=scale)
    return text if value.mean is None or sign else f"{text}{unit}"


def scale(metric: Metric) -> float:
    """What a metric's values are multiplied by where they are shown."""
    return _SCALES[metric.kind][0]


def axis(metric: Metric) -> str:
    """What an axis of a plot is called: `KID × 1,000, CLIP (…)`."""
    times, _, unit = _SCALES[metric.kind]
    shown = f", {unit}" if unit else (f" × {times:,g}" if times != 1 else "")
    return f"{metric.label}{shown}"


def verdict(value: Estimate, *, lower_is_better: bool = False) -> str:
    """Whether a difference is `better`, `worse` or `unclear`."""
    if value.mean is None or value.se is None or abs(value.mean) <= CLEAR * value.se:
        return "unclear"
    return "better" if (value.mean < 0) == lower_is_better else "worse"


def headline_aspect(metrics: Metrics) -> Aspect | None:
    """What the claim is about: style and subject both right, or the one that the judge is asked; else similarity."""
    return metrics.aspects[-1] if metrics.aspects else None


def aspect_name(aspect: Aspect, questions: Mapping[Role, Question]) -> str:
    """What an image is right in, in words: `style (artist)`."""
    return "style and subject" if aspect == "both" else f"{aspect} ({words(questions[aspect].label)})"


def main_differences(metrics: Metrics) -> dict[str, tuple[Difference, ...]]:
    """The main variant less each control, by the control's kind: the headline's figure first, then palette distance.

    The headline's figure is in percentage points, or the similarity where the judge is asked nothing.
    """
    aspect = headline_aspect(metrics)
    found: dict[str, tuple[Difference, ...]] = {}
    for baseline in (TEXT, SHUFFLED):
        row = metrics.difference(MAIN_VARIANT, baseline)
        if row is None:
            continue
        if aspect is None:
            first = Difference(estimate(row.similarity, 3, sign=True), "", verdict(row.similarity))
        else:
            accuracy = row.accuracy[aspect]
            first = Difference(estimate(accuracy, 0, sign=True, scale=100), "points", verdict(accuracy))
        distance = row.palette_distance
        second = Difference(estimate(distance, 2, sign=True), "ΔE", verdict(distance, lower_is_better=True))
        found[baseline.kind] = (first, second)
    return found


def claim(differences: Mapping[str, tuple[Difference, ...]]) -> str:
    """What the headline's figures allow to say: a difference counts from two standard errors on."""
    verdicts = [pair[0].verdict for pair in differences.values()]
    if set(verdicts) == {"better"} and len(verdicts) == 2:
        return "The graph helps"
    if "better" in verdicts:
        return "The graph helps only in part"
    return "The graph makes it worse" if "worse" in verdicts else "The graph does not measurably help"


def evidence(metrics: Metrics, differences: Mapping[str, tuple[Difference, ...]], noun: str) -> str:
    """The figures behind the claim, as the second half of a sentence."""
    aspect, items = headline_aspect(metrics), plural(noun) if metrics.n != 1 else noun
    made = metrics.of(MAIN_VARIANT)
    if not differences or made is None:
        return f"there is nothing to compare for {metrics.n} held-out {items}"
    against = {"text": "the same model without the graph", "shuffled": "shuffled neighbors"}
    changes = _join(f"{pair[0].figures} against {against[baseline]}" for baseline, pair in differences.items())
    if aspect is None:
        changed = f"similarity to the true images of {metrics.n} held-out {items} changes by {changes}"
        return f"{changed} (paired means ± standard errors)"
    what = "style and subject are both" if aspect == "both" else f"the {aspect} is"
    rows = [("copying the top neighbor", metrics.of(TOP_NEIGHBOR)), ("true images", metrics.of(TRUE))]
    beside = [f"{name} {percent(row.accuracy[aspect])}" for name, row in rows if row is not None]
    return (
        f"{what} right in {percent(made.accuracy[aspect])} of the images of {metrics.n} held-out {items} "
        f"({'; '.join(beside)}), which is {changes}, in points (paired means ± standard errors)"
    )


def percent(value: Estimate) -> str:
    """A share and its standard error: `41 ± 6%`."""
    return "–" if value.mean is None else f"{estimate(value, 0, scale=100)}%"


def _join(parts: Iterable[str]) -> str:
    return " and ".join(parts)


def copying_note(metrics: Metrics) -> str:
    """What showing the top neighbor's own image would score, and what that means."""
    copied, made, aspect = metrics.of(TOP_NEIGHBOR), metrics.of(MAIN_VARIANT), headline_aspect(metrics)
    if copied is None or made is None or copied.similarity.mean is None or made.similarity.mean is None:
        return ""
    text = (
        "Copying is a strong baseline. Showing the top neighbor’s own image instead of making one scores "
        f"{copied.similarity.mean:.3f} in similarity and {copied.palette_distance.mean:.2f} ΔE, "
        f"against {made.similarity.mean:.3f} and {made.palette_distance.mean:.2f} ΔE for "
        f"{variant_name(MAIN_VARIANT)}. "
    )
    if aspect == "both":
        text += (
            f"It has the style right in {percent(copied.accuracy['style'])} and the subject in "
            f"{percent(copied.accuracy['subject'])}, both in {percent(copied.accuracy['both'])}, against "
            f"{percent(made.accuracy['both'])}. "
        )
    return f"{text}It shows what the neighbor shows, whatever the text says, and it is nothing new."


def copies_note(metrics: Metrics) -> str:
    """How many copies chance alone makes."""
    true = metrics.of(TRUE)
    if true is None or true.copy_rate.mean is None:
        return ""
    return (
        f"Of the true images, {percent(true.copy_rate)} are as near to a neighbor of their own: no copies, but alike."
    )


def judge_note(metrics: Metrics) -> str:
    """Who judges."""
    if metrics.questions:
        return (
            "the features of a judge that was trained on true images alone, apart from the model. It sees color and "
            "texture down to single brushstrokes, and no image is judged by a part of it that has seen the image, or "
            "what the image may be a copy of"
        )
    return (
        "the embeddings of the model’s own encoder: these items have no entities that can be told from images, so it "
        "is less independent of the model"
    )


def question_note(question: Question) -> str:
    """What the judge is asked in a role, and how well it knows the answer."""
    return (
        f"{question.role}: the {words(question.label)}, one of {len(question.classes)}. Of true images the judge tells "
        f"{100 * question.accuracy:.0f}% right; from the text alone {100 * question.text_accuracy:.0f}% could be told, "
        f"and by always naming the most frequent one {100 * question.chance:.0f}%"
    )
