"""Where people keep their files: odd names, links, closed and full disks, and another command at work there."""

from tests.campaign.states import QUANTIZE, SEARCH, SEEN, TRAIN
from tests.campaign.trials import closed, directory, link, move, pipe, refused, right, text

EVALUATE = "evaluate --run_dir={} --bits=3"
EXPORT = "export --model=model.keras --dataset=./sides --output={}"
QUANTIZED = f"quantize --model=float.keras --output={{}} {QUANTIZE}"
TEST = "test images of digits"
ODD = (
    "a b",
    "a#1",
    "größe ö",
    "it's",
    '"quoted"',
    "100%s",
    "{run}",
    "[a]*?",
    "-dash",
    "..run",
    "~",
    "$HOME",
    "a\\b",
    "日本",
)

# A process that holds a run directory, a file or a folder of results.
HOLD = """from tfqnas.locks import writer; sys.argv = ['tfqnas', 'search']
with writer({}): print(flush=True); input()"""
HELD = HOLD.format("'run', 'run_dir'")


def _quoted(name):
    return "'" + name.replace("'", "'\\''") + "'"


TRIALS = [
    # Names.
    *[right(EVALUATE.format(_quoted(f"./{name}")), TEST, given="run", edit=move("run", name)) for name in ODD[:4]],
    *[
        right(f"compare --run_dirs={_quoted(f'./{name}')} --output={_quoted(f'./{name}.png')}", f"{name}.png", **given)
        for name in ODD
        for given in ({"given": "run", "edit": move("run", name)},)
    ],
    *[
        right(EXPORT.format(_quoted(f"./{name}.tflite")), "100.00% identical", "written", given="model sides")
        for name in ("a b", "a#1", "größe ö", "it's", "100%", "-dash", "new/deep/er")
    ],
    *[
        right(EVALUATE.format("run") + f" --arch={_quoted(f'{name}.json#0')}", TEST, given="run", edit=edit)
        for name in ("a b", "a#1")
        for edit in (move("run/search/b3/pareto.json", f"{name}.json"),)
    ],
    refused(f"train {TRAIN} --run_dir={'x' * 300}", "File name too long", given="space"),
    refused(f"train {TRAIN} --run_dir=", "--run_dir", given="space"),
    refused(f"train {TRAIN} --run_dir=nano.json", "--run_dir=nano.json", given="space"),
    refused(f"train {TRAIN} --run_dir=nano.json/new", "nano.json", given="space"),
    refused(f"train {TRAIN} --run_dir=/proc/new", "/proc/new", given="space"),
    refused(f"train {TRAIN} --run_dir=/dev/null", "/dev/null", given="space"),
    refused(f"train {TRAIN} --run_dir=link", "link", given="space", edit=link("link", "link")),
    right(EVALUATE.format("link"), TEST, given="run", edit=link("link", "run")),
    right(EVALUATE.format("."), TEST, given="run", inside="run"),
    right(EVALUATE.format("../../run"), TEST, given="run", inside="run/search"),
    # Disks that may not be written to.
    right(EVALUATE.format("run"), TEST, given="run", edit=closed("run", 0o555), user=True),
    right("compare --run_dirs=run", "fronts.png", given="run", edit=closed("run", 0o555), user=True),
    refused(f"search --run_dir=run {SEARCH} --seed=1", "run", given="run", edit=closed("run", 0o555), user=True),
    refused(f"train {TRAIN} --run_dir=run", "run", given="run", edit=closed("run", 0o555), user=True),
    refused(
        f"train {TRAIN} --run_dir=shut/new",
        "shut",
        given="space",
        edit=[directory("shut"), closed("shut", 0o555)],
        user=True,
    ),
    refused(EVALUATE.format("run"), "run", given="run", edit=closed("run"), user=True),
    refused(EVALUATE.format("run"), "supernet_b3", given="run", edit=closed("run/checkpoints/supernet_b3"), user=True),
    refused(
        EXPORT.format("shut/new.tflite"),
        "shut",
        given="model sides",
        edit=[directory("shut"), closed("shut", 0o555)],
        user=True,
    ),
    refused(
        "compare --run_dirs=run --output=shut/a.png",
        "shut",
        given="run",
        edit=[directory("shut"), closed("shut", 0o555)],
        user=True,
    ),
    refused("compare --run_dirs=run --output=run", "run", given="run"),
    refused("compare --run_dirs=run --output=a.xyz", "--output", given="run"),
    refused("compare --run_dirs=run --output=", "--output", given="run"),
    # Full disks: no file gets longer than so many bytes.
    *[refused(f"train {TRAIN} --run_dir=new", "new", given="space", disk=size) for size in (0, 100)],
    *[refused(EXPORT.format("new.tflite"), "new.tflite", given="model sides", disk=size) for size in (0, 1000)],
    *[
        refused(QUANTIZED.format("new"), "new", given="float", disk=size, writes=("quantize.json",))
        for size in (0, 100)
    ],
    refused("compare --run_dirs=run", "fronts.png", given="run", disk=1000),
    refused("train-float --output=new.keras --steps=1 --batch_size=8", "new.keras", disk=1000),
    refused(EXPORT.format("/dev/full"), "--output", ".tflite", given="model sides"),
    # Another command at work.
    *[
        refused(command, "run is being written by tfqnas search (process ", given="run", beside=HELD)
        for command in (
            f"search --run_dir=run {SEARCH}",
            f"train --run_dir=run {TRAIN}",
            f"run --run_dir=run {TRAIN} {SEARCH}",
            "analyze --run_dir=run",
        )
    ],
    refused(f"train --run_dir=./run/../run {TRAIN}", "is being written by", given="run", beside=HELD),
    refused(f"train --run_dir=link {TRAIN}", "is being written by", given="run", edit=link("link", "run"), beside=HELD),
    right(EVALUATE.format("run"), TEST, given="run", beside=HELD),
    right("compare --run_dirs=run", "fronts.png", given="run", beside=HELD),
    refused(
        QUANTIZED.format("four"), "four is being written by", given="float four", beside=HOLD.format("'four', 'output'")
    ),
    refused(
        EXPORT.format("new.tflite"),
        "is being written by",
        given="model sides",
        beside=HOLD.format("'new.tflite', 'output', ['new.tflite']"),
    ),
    right(
        EXPORT.format("other.tflite"),
        "written",
        given="model sides",
        beside=HOLD.format("'new.tflite', 'output', ['new.tflite']"),
    ),
    # What a killed command left.
    right(f"search --run_dir=run {SEARCH}", "b3_largest", given="run", edit=text("run/.lock", "{")),
    right(f"search --run_dir=run {SEARCH}", "b3_largest", given="run", edit=text("run/.lock", b"\xff" * 99)),
    right(QUANTIZED.format("new"), "new", given="float", edit=text("new/.quantize.01234567.tfqnas.json", "{")),
    refused(f"train --run_dir=run {TRAIN}", "run/.lock", given="run", edit=directory("run/.lock")),
    refused(f"train --run_dir=run {TRAIN}", "run/.lock", given="run", edit=pipe("run/.lock")),
    right(
        EVALUATE.format("run"),
        TEST,
        given="run",
        edit=text("run/checkpoints/supernet_b3/.step-00000009.01234567.tfqnas.npz", "x"),
    ),
    right(
        f"train --run_dir=new {SEEN}",
        "trained",
        given="space sides",
        edit=text("new/.config.01234567.tfqnas.json", "{"),
    ),
    # The working directory is gone.
    refused(
        "predict --model=model.keras up.png", "has been removed", inside="gone", edit=[directory("gone")], removed=True
    ),
    refused(
        f"train {TRAIN} --run_dir=new --space=tiny",
        "has been removed",
        inside="gone",
        edit=[directory("gone")],
        removed=True,
    ),
]
