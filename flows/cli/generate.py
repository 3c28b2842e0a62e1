"""The commands that make images, compare them, and tell where they come from; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.console import Call, command
from flows.cli.options import shares

generate_app = typer.Typer()

ScaleOption = Annotated[
    float | None,
    typer.Option(
        "--scale",
        "--guidance-scale",
        min=0,
        max=1_000,
        help="Guidance scale of the text, by default 2; 7.5 for sd15, 5 for sdxl.",
    ),
]
StepsOption = Annotated[
    int | None, typer.Option(help="Number of denoising steps, by default 20; 100 for sd15, 50 for sdxl.")
]
BatchSizeOption = Annotated[int, typer.Option(help="How many images are made at a time.")]
DeviceOption = Annotated[str | None, typer.Option(help="Torch device, by default a GPU if there is one.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"] | None,
    typer.Option(
        help="Number format of the computation; auto is the device's fastest. By default fp32; auto for sd15 and sdxl."
    ),
]
StyleOption = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL",
        help="Label that the judge names the style by, such as Artist or Brand; by default the one that images "
        "tell best and texts do not.",
    ),
]
SubjectOption = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL",
        help="Label that the judge names the subject by, such as Tag or Category; by default the one that images "
        "and texts tell best.",
    ),
]
ItemsOption = Annotated[int, typer.Option(min=2, max=1_000_000, help="Number of held-out items to compare on.")]
SplitOption = Annotated[
    Literal["val", "test"], typer.Option(help="Split of the items: val for choosing a model, test for reporting.")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="ID", help="Model id, by default the promoted one or the newest."),
]


@command(generate_app, "generate")
def generate(
    call: Call,
    items: Annotated[list[str] | None, typer.Argument(metavar="ITEM…")] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option(help="Split to take items from, instead of naming them.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000_000, help="With --split: how many items.")] = 64,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENTITY=SHARE",
            help="Use works of this entity instead of the item's neighbors; give it for each entity.",
        ),
    ] = None,
    model: ModelOption = None,
    neighbors: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST",
            help="Neighbor samples to use, by default those of the training; `live`: from the graph as it is now.",
        ),
    ] = None,
    neighbor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ITEM", help="Use this item as a neighbor instead of those sampled; repeat it, best first."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Make images of this text, not the items' own.")
    ] = None,
    graph_scale: Annotated[
        float,
        typer.Option(
            "--graph-scale",
            "--graph-guidance-scale",
            min=0,
            max=1_000,
            help="Guidance scale of the neighbors; 0 makes images from the text only.",
        ),
    ] = 1.5,
    scale: ScaleOption = None,
    steps: StepsOption = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the start noise: equal calls with equal seeds make equal images.")
    ] = 0,
    negative_prompt: Annotated[str, typer.Option(help="What the images should not show.")] = "",
    interval: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="FROM TO",
            help="Part of the denoising in which guidance amplifies, two fractions from 0 to 1; by default all of it.",
        ),
    ] = None,
    rescale: Annotated[
        float, typer.Option(help="How much of the contrast that guidance adds is taken back, from 0 to 1.")
    ] = 0.0,
    scheduler: Annotated[
        str | None, typer.Option(help="Sampler: ddim, dpm++, unipc, euler or euler-a; by default the model's own.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Make images five times as fast: 5 steps of DPM-Solver++, guidance in 3.")
    ] = False,
    width: Annotated[int | None, typer.Option(help="Width of the images in pixels, by default as in training.")] = None,
    height: Annotated[
        int | None, typer.Option(help="Height of the images in pixels, by default as in training.")
    ] = None,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    watermark: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Hide this text, of at most 12 bytes, in the pixels.")
    ] = None,
    copy_check: Annotated[
        bool,
        typer.Option(
            "--copy-check/--no-copy-check", help="Flag images that are copies of neighbors or training images."
        ),
    ] = True,
    copy_similarity: Annotated[
        float | None, typer.Option(help="Flag an image as a copy from this cosine of embeddings on.")
    ] = None,
    copy_bits: Annotated[
        int | None,
        typer.Option(help="Flag an image as a copy if at most this many of 256 bits of the perceptual hash differ."),
    ] = None,
) -> None:
    """Generate images for items, with lineage."""
    from flows import requests, stages
    from flows.cli import messages as words

    if bool(items) == (split is not None):
        raise typer.BadParameter("give items, or --split")
    settings = stages.generation_settings(
        call.settings,
        model,
        fast=fast,
        seed=seed,
        guidance_scale=scale,
        num_inference_steps=steps,
        negative_prompt=negative_prompt,
        guidance_interval=interval,
        guidance_rescale=rescale,
        scheduler=scheduler,
        width=width,
        height=height,
        batch_size=batch_size,
        device=device,
        precision=precision,
        watermark=watermark,
        copy_check=copy_check,
        copy_similarity=copy_similarity,
        copy_bits=copy_bits,
    )
    model_id = model or stages.default_model(call.settings)
    if mix:
        if not items or neighbors is not None:
            raise typer.BadParameter("--mix goes with items, and without --neighbors")
        if neighbor:
            raise typer.BadParameter("--mix takes the place of --neighbor")
        parts = shares(mix, "ENTITY=SHARE")
        wanted = requests.mixtures(call.settings, model_id, items, parts, graph_scale, prompt=prompt)
    elif split is not None:
        if neighbor or prompt is not None:
            raise typer.BadParameter("--neighbor and --prompt go with items, not with --split")
        wanted = requests.for_split(call.settings, model_id, split, limit, graph_scale, neighbors)
    else:
        wanted = requests.for_items(
            call.settings, model_id, items or [], graph_scale, neighbors, prompt=prompt, chosen=neighbor or None
        )
    out = stages.generate(call.settings, model_id, wanted.requests, settings, wanted.notes)
    call.show(out, words.generated(out))


@command(generate_app, "evaluate")
def evaluate(
    call: Call,
    model: ModelOption = None,
    items: ItemsOption = 64,
    split: SplitOption = "test",
    neighbors: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST",
            help="Neighbor samples to use, by default those of the training; `live`: from the graph as it is now.",
        ),
    ] = None,
    scale: ScaleOption = None,
    steps: StepsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the start noise.")] = 0,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    style: StyleOption = None,
    subject: SubjectOption = None,
    mix_label: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="Mix works of two entities with this label, such as Artist or Brand; by default the label with the "
            "most entities that have works enough.",
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the report.")] = "Graph2Image",
    report: Annotated[Path, typer.Option(help="File that the report is written to.")] = Path("report.html"),
) -> None:
    """Compare a model with its own controls.

    On held-out items; writes report.html.
    """
    from flows import stages
    from flows.cli import messages as words
    from flows.comparison import Comparison, compare
    from flows.timing import StopWatch

    generation = stages.generation_settings(
        call.settings,
        model,
        seed=seed,
        guidance_scale=scale,
        num_inference_steps=steps,
        batch_size=batch_size,
        device=device,
        precision=precision,
    )
    model_id = model or stages.default_model(call.settings)
    wanted = Comparison(items, split, neighbors, mix_label, generation, style, subject)
    watch = StopWatch(report.with_suffix(".timings.json"))
    call.show(
        out := compare(call.settings, model_id, report, wanted, title, watch),
        words.compared(out),
    )


@command(generate_app, "compare")
def compare_command(
    call: Call,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]MODEL[/EVALUATION]…",
            help="Models to compare, the first with each other one, or evaluations of them; those with one NAME are "
            "one model, trained or evaluated with several seeds.",
        ),
    ],
    items: ItemsOption = 64,
    split: SplitOption = "test",
    neighbors: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST",
            help="Neighbor samples to use, by default those of each model's training; `live`: from the graph as it is.",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Seed of the start noise, by default 0; given several times, an item has an image for each."),
    ] = None,
    scale: ScaleOption = None,
    steps: StepsOption = None,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FOLDER",
            help="Compare features of this CLIP or DINOv2, such as openai/clip-vit-large-patch14 or "
            "facebook/dinov2-large; give it for each. By default the encoder of the first model.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="Label, such as Artist: items that share an entity of it are not independent of each other. By "
            "default the label that the judge names the style by.",
        ),
    ] = None,
    style: StyleOption = None,
    subject: SubjectOption = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Graph2Image",
    report: Annotated[Path, typer.Option(help="File that the page is written to.")] = Path("compare.html"),
) -> None:
    """Compare several models on the same items.

    Writes compare.html, and all figures as Parquet to the data root.
    """
    from flows.cli import messages as words
    from flows.cli.tables import print_rows
    from flows.model_comparison import Contender, ModelComparison, compare_models

    wanted = ModelComparison(
        items,
        split,
        neighbors,
        style,
        subject,
        tuple(seed or (0,)),
        {
            "guidance_scale": scale,
            "num_inference_steps": steps,
            "batch_size": batch_size,
            "device": device,
            "precision": precision,
        },
        tuple(extractor or ()),
        cluster,
    )
    out = compare_models(call.settings, [Contender.parse(model) for model in models], wanted, report, title)
    for source, rows in ({} if call.as_json else out.figures).items():
        typer.echo(f"By {source}:")
        print_rows(list(rows))
    call.show(out, words.models_compared(out))


@command(generate_app, "lineage")
def lineage(
    call: Call,
    image: Annotated[str, typer.Argument(metavar="ID|FILE", help="Id of a generated image, or its file.")],
) -> None:
    """Tell what a generated image was made from.

    As the graph has it, or as the image's file says.
    """
    from flows.lineage import trace

    call.show_tree(trace(call.settings, image))
