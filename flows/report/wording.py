"""What the report says in words: names of variants, reasons of neighbors, and the claim that the figures allow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.requests import CONTROL_SCALE

#: The variant that is compared with its controls: `shuffled` has the same graph guidance scale.
MAIN_VARIANT = f"graph-{CONTROL_SCALE:g}"
#: A difference of fewer standard errors is called unclear.
CLEAR = 2.0

_MIX = re.compile(r"mix-(\d+)-(\d+)")


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


def variant_name(variant: str) -> str:
    if variant.startswith("graph-"):
        return f"text + graph\u00a0×\u00a0{variant.removeprefix('graph-')}"
    return {
        "text": "text only",
        "shuffled": "shuffled neighbors",
        "top-neighbor": "top neighbor’s image",
    }.get(variant, variant)


def mix_shares(variant: str) -> tuple[int, int] | None:
    """Percentages of the first and the second entity; None if the variant is no mixture."""
    match = _MIX.fullmatch(variant)
    return (int(match[1]), int(match[2])) if match else None


def variant_order(variant: str) -> tuple[int, float, str]:
    """Key that sorts variants: text only, the graph scales, shuffled neighbors, the top neighbor, others."""
    if variant.startswith("graph-"):
        return 1, float(variant.removeprefix("graph-")), variant
    return {"text": 0, "shuffled": 2, "top-neighbor": 3}.get(variant, 4), 0.0, variant


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


def estimate(value: Mapping[str, float | None], digits: int, *, sign: bool = False, scale: float = 1.0) -> str:
    """A mean and its standard error, both times `scale`: `0.512 ± 0.021`."""
    mean, error = value["mean"], value["se"]
    if mean is None:
        return "–"
    text = signed(scale * mean, digits) if sign else f"{scale * mean:.{digits}f}"
    return text if error is None else f"{text} ± {scale * error:.{digits}f}"


def verdict(value: Mapping[str, float | None], *, lower_is_better: bool = False) -> str:
    mean, error = value["mean"], value["se"]
    if mean is None or error is None or abs(mean) <= CLEAR * error:
        return "unclear"
    return "better" if (mean < 0) == lower_is_better else "worse"


def paired(metrics: Mapping[str, Any], variant: str, baseline: str) -> dict[str, Any] | None:
    for row in metrics["paired"]:
        if (row["variant"], row["baseline"]) == (variant, baseline):
            return dict(row)
    return None


def main_differences(metrics: Mapping[str, Any]) -> dict[str, tuple[Difference, Difference]]:
    """Similarity and palette distance of the main variant, less those of text only and of shuffled neighbors."""
    found = {}
    for baseline in ("text", "shuffled"):
        row = paired(metrics, MAIN_VARIANT, baseline)
        if row is not None:
            similarity, palette = row["similarity"], row["palette_distance"]
            found[baseline] = (
                Difference(estimate(similarity, 3, sign=True), "", verdict(similarity)),
                Difference(estimate(palette, 2, sign=True), "ΔE", verdict(palette, lower_is_better=True)),
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


def copying_note(metrics: Mapping[str, Any]) -> str:
    """What showing the top neighbor's own image would score, and what that means."""
    variants = metrics["variants"]
    if "top-neighbor" not in variants or MAIN_VARIANT not in variants:
        return ""
    copied, made = variants["top-neighbor"], variants[MAIN_VARIANT]
    closer = copied["similarity"]["mean"] > made["similarity"]["mean"]
    text = (
        "Copying is a strong baseline. Showing the top neighbor’s own image instead of making one scores "
        f"{copied['similarity']['mean']:.3f} in similarity and {copied['palette_distance']['mean']:.2f} ΔE, "
        f"against {made['similarity']['mean']:.3f} and {made['palette_distance']['mean']:.2f} ΔE for "
        f"{variant_name(MAIN_VARIANT)}. "
    )
    if closer:
        text += "By similarity the copy wins: it is a real image, and a neighbor resembles its item. "
    right = {head: (copied["right"][head]["mean"], value["mean"]) for head, value in made["right"].items()}
    heads = [
        f"{words(head)} ({100 * own:.0f}% against {100 * copy:.0f}%)"
        for head, (copy, own) in right.items()
        if copy is not None and own is not None and copy < own
    ]
    if heads:
        return f"{text}The made images are right more often about {_join(heads)}."
    return f"{text}It shows what the neighbor shows, whatever the text says, and it is nothing new."
