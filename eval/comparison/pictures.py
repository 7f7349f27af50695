"""The images that a report shows, each with what every model reads in it."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from eval.comparison.answers import ComparedSplit, read_images
from eval.comparison.grouping import Model

MOST_PICTURES = 48


def show_images(indices: np.ndarray, models: Sequence[Model], split: ComparedSplit) -> str:
    """Shows images with the answers of the models.

    Args:
      indices: int64 [k], their places in the split, the most important first.
      models: whose answers to show.
      split: the images.

    Returns:
      A list in HTML of the first 48; empty where there are none.
    """
    shown = indices[:MOST_PICTURES]
    if not len(shown):
        return ""
    in_order = np.sort(shown)
    images = read_images(split, in_order)[np.searchsorted(in_order, shown)]
    names = split.manifest.class_names
    cards = [
        _show(image, int(index), models, names) for image, index in zip(images, shown, strict=True)
    ]
    return f'<ul class="pictures">{"".join(cards)}</ul>'


def _show(image: np.ndarray, index: int, models: Sequence[Model], names: Sequence[str]) -> str:
    label = html.escape(names[int(models[0].labels[index])])
    answers = "".join(
        f"<tr><th scope='row'>{html.escape(model.name)}</th>{_write_answer(model, index, names)}"
        "</tr>"
        for model in models
    )
    return (
        f'<li><img src="{_data_url(image)}" alt="image {index}">'
        f"<p><b>{label}</b> <span>image {index:,}</span></p><table>{answers}</table></li>"
    )


def _write_answer(model: Model, index: int, names: Sequence[str]) -> str:
    """Writes `✓ 4 87 %` for one run, `1 of 3 4, 9 (2)` for several."""
    right, total = int(model.num_right[index]), len(model.runs)
    answers = Counter(int(run.answers.predictions[index]) for run in model.runs)
    kind = "good" if right == total else "part" if right else "bad"
    if total == 1:
        mark = "✓" if right else "✗"
        confidence = f" <span>{model.runs[0].answers.confidences[index]:.0%}</span>"
    else:
        mark, confidence = f"{right} of {total}", ""
    texts = [
        html.escape(names[label]) + (f" ({count})" if count > 1 else "")
        for label, count in answers.most_common()
    ]
    what = {"good": "right", "part": "partly right", "bad": "wrong"}[kind]
    return (
        f'<td class="{kind}"><abbr title="{what}">{mark}</abbr></td>'
        f"<td>{', '.join(texts)}{confidence}</td>"
    )


def _data_url(image: np.ndarray) -> str:
    """Returns uint8 [height, width, channels] as the URL of a PNG that it contains itself."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
