"""The templates of the pages, with the charts and the words that they use."""

from __future__ import annotations

import jinja2

from flows.report import figures, wording


def template(name: str) -> jinja2.Template:
    """A template of this package; what is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(whisker=figures.whisker, verdict=wording.verdict)
    environment.filters.update(
        words=wording.words,
        capitalize_first=wording.capitalize_first,
        aspect_name=wording.aspect_name,
        plural=wording.plural,
        variant_name=wording.variant_name,
        estimate=wording.estimate,
    )
    return environment.get_template(name)
