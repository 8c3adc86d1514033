"""Draws architectures stage by stage, below each other and at the same scale."""

import html
from collections.abc import Mapping

from tfqnas.report.page import Html
from tfqnas.report.shown import Arch, Block, Space
from tfqnas.report.style import space_kernel_colours
from tfqnas.report.svg import tag, text

_SLOT, _BAR, _GAP, _NARROWEST = 38, 30, 16, 76  # widths of a block, its bar, a gap, the narrowest stage, in pixels
_TITLE, _HEAD, _HEIGHT, _FOOT = 26, 36, 84, 58  # heights in a row: title, stage titles, highest bar, block labels
_BITS = 28  # additional height of a row if blocks have their own bit widths

# The blocks of a stage, each with its expand ratio.
Blocks = list[tuple[Block, float]]


def architecture_drawing(space: Space, archs: Mapping[str, Arch], caption: str = "") -> Html:
    """A drawing with a bar for each block, as high as its hidden width and in the colour of its kernel size.

    Args:
        space: `SearchSpace`.
        archs: `{label: Arch}` of that space, drawn below each other with stages aligned.
        caption: a sentence below the drawing.

    Raises:
        ValueError: there are no architectures, or one does not belong to the space.
    """
    if not archs:
        raise ValueError("architecture_drawing: there are no architectures")
    blocks = {label: _stages(space, arch) for label, arch in archs.items()}
    widths = [
        max(_NARROWEST, _SLOT * max(len(stages[s]) for stages in blocks.values())) for s in range(len(space.stages))
    ]
    widest = max(block.hidden for stages in blocks.values() for stage in stages for block, _ in stage)
    height = _TITLE + _HEAD + _HEIGHT + _FOOT + (_BITS if space.mixed else 0)
    rows = "".join(
        tag("g", _row(space, label, arch, blocks[label], widths, widest), transform=f"translate(0 {height * number})")
        for number, (label, arch) in enumerate(archs.items())
    )
    width = sum(widths) + _GAP * len(widths)
    drawing = tag(
        "svg",
        rows,
        class_="drawing",
        width=width,
        viewBox=f"0 0 {width} {height * len(archs)}",
        role="img",
        aria_label="; ".join(f"{label}: {arch.key}" for label, arch in archs.items()),
    )
    # The keyboard must reach a region that scrolls.
    scroll = tag("div", drawing, class_="wide", tabindex=0, role="region", aria_label="architectures, stage by stage")
    words = html.escape(" ".join(filter(None, [caption, _outside(space)])))
    return Html(f'<figure class="archs">{_legend(space)}{scroll}<figcaption>{words}</figcaption></figure>')


def _stages(space: Space, arch: Arch) -> list[Blocks]:
    """For each stage the pairs `(Block, expand ratio)` of its blocks."""
    expands = iter(arch.expands)
    stages: list[Blocks] = [[] for _ in space.stages]
    for block in space.blocks(arch):
        stage = space.stages[block.stage]
        stages[block.stage].append((block, stage.expands[0] if stage.fixed else next(expands)))
    return stages


def _row(space: Space, label: str, arch: Arch, stages: list[Blocks], widths: list[int], widest: int) -> str:
    marks = [text(label, x=0, y=15, class_="label")]
    x = 0
    for s, (blocks, width) in enumerate(zip(stages, widths, strict=True)):
        marks.append(_stage(space, s, blocks, x, width))
        for block, expand in blocks:
            marks.append(_block(block, expand, x + _SLOT * block.index, widest, space_kernel_colours(space)))
        x += width + _GAP
    return "".join(marks)


def _stage(space: Space, number: int, blocks: Blocks, x: int, width: int) -> str:
    """Title and base line of a stage, with height, width and channels of its output."""
    last = blocks[-1][0]
    size = -(-last.size // last.stride)
    return (
        text(f"stage {number + 1}", x=x, y=_TITLE + 10, class_="muted")
        + text(f"{size}×{size}×{last.out_channels}", x=x, y=_TITLE + 24)
        + tag("line", x1=x, x2=x + width, y1=_TITLE + _HEAD + _HEIGHT, y2=_TITLE + _HEAD + _HEIGHT, class_="base")
    )


def _block(block: Block, expand: float, x: int, widest: int, colours: Mapping[int, str]) -> str:
    base = _TITLE + _HEAD + _HEIGHT
    high = max(2.0, (_HEIGHT - 14) * block.hidden / widest)
    middle = {"x": x + _BAR / 2, "text_anchor": "middle"}
    se = text("SE", y=base + 42, class_="se", **middle) if block.se_channels else ""
    return (
        tag("rect", x=x, y=base - high, width=_BAR, height=high, fill=colours[block.kernel])
        + text(block.hidden, y=base - high - 4, class_="muted", **middle)
        + text(f"{block.kernel}×{block.kernel}", y=base + 15, **middle)
        + text(f"e{expand}", y=base + 29, **middle)
        + se
        + "".join(text(line, y=base + 56 + 13 * i, class_="muted", **middle) for i, line in enumerate(_bits(block)))
    )


def _bits(block: Block) -> list[str]:
    """Bit widths of the weights and inputs of a block's convolutions such as "w432" and "a334"; empty without them."""
    columns = zip(*(block.bits or ()), strict=True)
    return [letter + "".join(map(str, widths)) for letter, widths in zip("wa", columns, strict=False)]


def _legend(space: Space) -> str:
    swatches = "".join(
        f'<span><i style="background:{colour}"></i>{kernel}×{kernel}</span>'
        for kernel, colour in space_kernel_colours(space).items()
    )
    se = "<span><b>SE</b> squeeze-excite</span>" if any(stage.se for stage in space.stages) else ""
    if space.mixed:
        se += "<span><b>w432 a334</b> bits of weights and inputs: expansion, depthwise, projection</span>"
    return (
        f'<p class="keys">{swatches}<span><b>240</b> hidden width, as high as the bar</span>'
        f"<span><b>e6</b> expand ratio 6</span>{se}"
        "<span><b>7×7×40</b> height, width and channels after a stage</span></p>"
    )


def _outside(space: Space) -> str:
    """A sentence about the layers that are the same in all subnets."""
    feature = f", feature layer ({space.feature_channels})" if space.feature_channels else ""
    return (
        f"Not drawn, since all have the same: the first convolution ({space.stem_channels} channels) and, after the "
        f"stages, the head ({space.head_channels} channels{feature}) and the classifier."
    )
