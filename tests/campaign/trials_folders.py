"""Folders of pictures, and what becomes of them while a run is under way.

sides/ has 12 pictures in four classes, of which model.keras knows all.
"""

from tests.campaign.states import SEEN, SIDES, picture
from tests.campaign.trials import closed, delete, directory, field, link, move, pipe, refused, right, text

EVALUATE = "evaluate --model=model.keras --dataset=./sides"


def _each(edit):
    return lambda home: [edit(home / "sides" / name) for name in SIDES]


def _held(home):
    """The same pictures as sides/train and sides/test."""
    for part in ("train", "test"):
        for name in SIDES:
            (home / "sides" / part / name).mkdir(parents=True)
            picture(name).save(home / "sides" / part / name / "a.png")
            if part == "test":
                for file in (home / "sides" / name).iterdir():
                    file.unlink()
                (home / "sides" / name).rmdir()


def _another(home):
    picture("top", bright=150).save(home / "sides" / "top" / "new.png")


def scored(says, *edits, command=EVALUATE, given="model sides", **more):
    return right(command, says, given=given, edit=edits, **more)


def wrong(*says, edit, command=EVALUATE, given="model sides", **more):
    return refused(command, *says, given=given, edit=edit, **more)


ALL = "100.00% of 4 test images"

TRIALS = [
    scored(ALL),
    scored(ALL, command=f"{EVALUATE}/"),
    scored(ALL, command="evaluate --model=model.keras --dataset=sides"),
    scored(ALL, command="evaluate --model=model.keras --dataset=sides/../sides"),
    scored("100.00% of 7 train images", command=f"{EVALUATE} --split=train"),
    scored("100.00% of 4 test images", _held),
    # Links, and files that are no pictures.
    scored(ALL, link("sides/top/self", ".")),
    scored(ALL, link("sides/top/up", "..")),
    scored(ALL, link("sides/top/all", "../../sides")),
    wrong("top/others", "by a link", edit=link("sides/top/others", "../bottom")),
    scored(ALL, link("sides/top/again.png", "0.png")),
    scored(ALL, text("sides/top/notes.txt", "notes")),
    scored(ALL, text("sides/.DS_Store", "x"), text("sides/top/._0.png", "x"), text("sides/top/Thumbs.db", "x")),
    scored(ALL, text("sides/.hidden/0.png", "x")),
    scored(ALL, move("sides/top/0.png", "sides/top/0.PNG")),
    scored(ALL, move("sides/top/0.png", "sides/top/deep/er/0.png")),
    scored(ALL, move("sides", "more #1/sides ö"), command="evaluate --model=model.keras '--dataset=more #1/sides ö'"),
    wrong("top/pipe.png", edit=pipe("sides/top/pipe.png")),
    wrong("top/no.png", edit=link("sides/top/no.png", "nowhere.png")),
    scored(ALL, directory("sides/top/x.png")),
    wrong("top/0.png", "not an image", edit=text("sides/top/0.png", "no picture")),
    wrong("top/0.png", edit=text("sides/top/0.png", b"")),
    wrong("top/0.png", edit=closed("sides/top/0.png"), user=True),
    wrong("sides/top", "cannot be read", edit=closed("sides/top"), user=True),
    wrong("top/a.heic", edit=text("sides/top/a.heic", b"ftypheic")),
    scored(
        "100.00% of 4 test images", text("sides/top/bad.png", "no picture"), command=f"{EVALUATE} --max_bad_images=1"
    ),
    # Classes.
    wrong("classes 4", "./sides has 3", edit=delete("sides/right")),
    wrong("middle", edit=text("sides/middle/0.png", b"")),
    wrong("middle", edit=directory("sides/middle")),
    wrong("above", edit=move("sides/top", "sides/above")),
    wrong("sub-folder", edit=[delete(f"sides/{name}") for name in SIDES]),
    wrong("there is none", edit=delete("sides")),
    wrong("this is a file", edit=[delete("sides"), text("sides", "x")]),
    wrong("at least two classes", edit=[delete(f"sides/{name}") for name in SIDES[1:]]),
    scored(ALL, field("model.json", "class_names", ["top", "bottom", "left", "right"])),
    wrong("class", edit=field("model.json", "class_names", ["a", "b", "c", "d"])),
    wrong("digits", edit=[], command="evaluate --model=model.keras --dataset=digits"),
    # What changed since a run began.
    right("evaluate --run_dir=seen --bits=3", "of 4 test images", given="seen"),
    right("evaluate --run_dir=seen --bits=3", "of 4 test", given="seen", edit=text("sides/top/notes.txt", "x")),
    right(
        "evaluate --run_dir=seen --bits=3", "of 4 test", given="seen", edit=move("sides/top/0.png", "sides/top/z.png")
    ),
    right("evaluate --run_dir=seen --bits=3", "top/new.png", "of 4 test", given="seen", edit=_another),
    *[
        refused(f"{command} --run_dir=seen --bits=3", "dataset", says, given="seen", edit=edit)
        for command in ("evaluate", "search", f"train {SEEN}")
        for says, edit in (
            ("top/0.png", delete("sides/top/0.png")),
            ("top/0.png", text("sides/top/0.png", b"no picture")),
            ("above", move("sides/top", "sides/above")),
            ("sides", delete("sides")),
        )
    ],
]
