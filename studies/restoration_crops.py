"""Shows crops of test photos side by side, the original, bicubic and super-resolution models, with their PSNR on Y.

    python studies/restoration_crops.py --models="float=runs/edsr_x2.keras;DQSS, 4 bits=runs/sr/model.keras" \\
        --crops=chelsea:110,190;motorcycle_left:240,300 --output=sr_crops.png

Below each crop stand the PSNR of the crop and that of the whole photo.

Results: docs/results/dqss_photos.md (the crops).
"""

import argparse
import sys

from tfqnas.errors import UserError

INCH = 1.55  # of a crop


def rows_of(models, crops, side, data_dir=None):
    """`[(photo's name, [(label, uint8 (side, side, 3), PSNR of the crop, of the photo), ...]), ...]`.

    Args:
        models: `[(label, Keras model)]`, all of one scale. crops: `[(name, top, left)]` in pixels of the original.
        side: of the crops, a multiple of the scale.

    Raises:
        UserError: for a photo that is not one of the test photos, or a crop that leaves it.
    """
    from tfqnas.data import photos, restoration
    from tfqnas.zoo import upscaled
    from tfqnas.zoo.super_resolution import scale_of

    found = photos.load(data_dir)
    scale, rows = scale_of(models[0][1]), []
    for name, top, left in crops:
        if name not in found.test_names:
            raise UserError(f"--crops: expected one of {', '.join(found.test_names)}, received {name}")
        original = restoration.cropped(found.test[found.test_names.index(name)], scale)
        if top + side > original.shape[0] or left + side > original.shape[1]:
            raise UserError(f"--crops: {name} has {original.shape[:2]} pixels, received {top},{left} and {side} more")
        low = restoration.downscaled(original, scale)
        images = [("bicubic", restoration.bicubic(low, scale))]
        images += [(label, upscaled(model, low)) for label, model in models]

        def cut(image, top=top, left=left):
            return image[top : top + side, left : left + side]

        row = [("original", cut(original), None, None)]
        for label, image in images:
            of_crop = restoration.psnr_y(cut(image), cut(original), 0)
            row.append((label, cut(image), of_crop, restoration.psnr_y(image, original, scale)))
        rows.append((name, row))
    return rows


def draw(rows, path):
    """A row for each crop, a column for each way."""
    from tfqnas.report.canvas import new_figure
    from tfqnas.report.style import INK

    columns = len(rows[0][1])
    figure = new_figure(INCH * columns, (INCH + 0.34) * len(rows) + 0.2)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    for line, (name, row) in enumerate(rows):
        for column, (label, image, of_crop, of_photo) in enumerate(row):
            axes = figure.add_subplot(len(rows), columns, line * columns + column + 1)
            axes.imshow(image, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            if not line:
                axes.set_title(label, fontsize=9, fontweight="bold", color=INK)
            words = name if of_crop is None else f"{of_crop:.2f} dB ({of_photo:.2f})"
            axes.set_xlabel(words, fontsize=8, color=INK)
    figure.savefig(path, format="png")


def pairs(text):
    return [tuple(part.split("=", 1)) for part in text.split(";")]


def places(text):
    found = []
    for part in text.split(";"):
        name, _, numbers = part.partition(":")
        found.append((name, *map(int, numbers.split(","))))
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pairs, required=True, help="LABEL=FILE.keras;LABEL=FILE.keras")
    parser.add_argument("--crops", type=places, required=True, help="PHOTO:TOP,LEFT;PHOTO:TOP,LEFT")
    parser.add_argument("--side", type=int, default=96, help="height and width of the crops in pixels")
    parser.add_argument("--data_dir", default="", help="of the prepared photos")
    parser.add_argument("--output", required=True, help="a .png to write")
    arguments = parser.parse_args(argv)
    from tfqnas.runs import model_files

    try:
        loaded = [(label, model_files.load_model(path)) for label, path in arguments.models]
        draw(rows_of(loaded, arguments.crops, arguments.side, arguments.data_dir or None), arguments.output)
        print(f"written: {arguments.output}")
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
