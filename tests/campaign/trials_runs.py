"""What else lies in and beside a run directory, and commands that go on from there."""

from tests.campaign.states import QUANTIZE, SEARCH, SEEN, TRAIN
from tests.campaign.trials import Trial, cut, delete, directory, lines, move, pipe, refused, right, text

SEES, SEARCHED, ANALYZED = (
    "evaluate --run_dir=seen --bits=3",
    f"search --run_dir=run {SEARCH}",
    "analyze --run_dir=run --only=depth",
)
TABLE = (
    "latency-table --space=nano.json --classes=10 --channels=1 --bits=3 --output=t.json --rounds=2 --seconds=0.001 "
    "--fit_models=2 --validation_models=2"
)
EXPORT = "export --run_dir=run --bits=3 --output=new.tflite"
FLOAT = "train-float --output=new.keras --steps=1 --batch_size=8"
# What a search has made when it writes its report.
MADE = ("models.json", *(f"b3_{name}.{kind}" for name in ("2", "largest") for kind in ("keras", "md", "tflite")))
# Each file, what is given, and a command that reads it.
FILES = {"seen/data_files.csv": ("seen", SEES), "run/search/b3/reused.jsonl": ("run", SEARCHED)}
WRONG = ("[]\n", "null\n", "12\n", "{}\n", '"text"\n', "[" * 100_000 + "]" * 100_000 + "\n")
# A line that a killed process left is left out, which is said.
CUT_OFF = (b"\xff\xfe\x00\n", "what is this?\n")


def _wrong(path: str, contents: tuple) -> list[Trial]:
    given, command = FILES[path]
    name = path.rpartition("/")[2]
    edits = [*(text(path, content) for content in contents), directory(path), pipe(path)]
    return [refused(command, name, given=given, edit=edit, writes=("log.jsonl",)) for edit in edits]


def _swapped(all_lines):
    """A test image among the training images."""
    return [line.replace("test,", "train,") for line in all_lines]


TRIALS = [
    *_wrong(
        "seen/data_files.csv",
        (*WRONG, *CUT_OFF, "", "split,name\n", "split,name,sha256\na,b,c\n", "split,name,sha256\ntest\n"),
    ),
    refused(SEES, "data_files.csv", given="seen", edit=cut("seen/data_files.csv")),
    refused(SEES, "data_files.csv", given="seen", edit=delete("seen/data_files.csv")),
    refused(SEES, "data", given="seen", edit=lines("seen/data_files.csv", _swapped)),
    refused(SEES, "data", given="seen", edit=lines("seen/data_files.csv", lambda all_lines: all_lines[:-1])),
    *_wrong("run/search/b3/reused.jsonl", WRONG),
    # Only the report at the end reads what was logged: the models are made by then.
    *[
        refused(SEARCHED, "log.jsonl", given="run", edit=text("run/log.jsonl", content), writes=MADE)
        for content in ("{}\n", "[]\n")
    ],
    right(ANALYZED, "depth", given="run"),
    refused("analyze --run_dir=run --only=ranking,deep", "--only", "deep", given="run"),
    refused("analyze --run_dir=seen --only=depth", "seen", given="seen", edit=delete("seen/checkpoints")),
    # Training goes on, or begins anew.
    right(f"train --run_dir=run {TRAIN}", "already done", given="run"),
    right(
        f"train --run_dir=seen {SEEN}",
        "truncated or damaged",
        given="seen",
        edit=cut("seen/checkpoints/supernet_b3/step-00000001.npz"),
    ),
    right(f"train --run_dir=seen {SEEN}", "trained", given="seen", edit=delete("seen/checkpoints")),
    refused(f"train --run_dir=run {TRAIN} --batch_size=8", "--batch_size=16", "--batch_size=8", given="run"),
    refused(f"train --run_dir=run {TRAIN} --supernet_epochs=1", "--supernet_epochs", given="run"),
    refused("train --run_dir=run --finetune_arch=largest --finetune_bits=5", "--finetune_bits", "3", given="run"),
    refused("train --run_dir=run --finetune_arch=huge --finetune_bits=3", "huge", given="run"),
    refused("train --run_dir=run --finetune_arch=largest --finetune_bits=3 --bits=4", "--bits", given="run"),
    refused(
        "train --run_dir=run --finetune_arch=largest --finetune_bits=3 --finetune_epochs=-1",
        "--finetune_epochs",
        given="run",
    ),
    # Other bit widths, other runs.
    refused("evaluate --run_dir=run --bits=4", "--bits", "3", given="run"),
    refused("evaluate --run_dir=run --bits=mixed", "--bits", "3", given="run"),
    refused("evaluate --run_dir=run --bits=three", "--bits", "three", given="run"),
    refused("evaluate --run_dir=run --bits=3 --dataset=digits", "--dataset", given="run"),
    refused("evaluate --run_dir=run --model=b3.keras --bits=3", "expected one of", given="run quantized"),
    refused("search --run_dir=run --bits=4", "--bits", given="run"),
    refused("search --run_dir=run --max_kb=0.001", "0.001", given="run"),
    refused("search --run_dir=run --latency_table=no.json", "no.json", given="run"),
    refused("compare --run_dirs=run,seen", "seen", given="run seen"),
    right("compare --run_dirs=run,run", "fronts.png", given="run"),
    refused("compare --run_dirs=run", "run", given="run", edit=delete("run/search")),
    refused(f"{EXPORT} --arch=tiny", "--arch", "largest", given="run"),
    refused(EXPORT.replace("=3", "=4"), "--bits", "3", given="run"),
    refused(EXPORT.replace("=run", "=seen"), "config.json", given="run"),
    refused(f"{EXPORT} --dataset=digits", "--dataset", "which has its own data", given="run"),
    refused(f"{EXPORT} --noverify --verify_images=3", "--verify_images", "has no effect", given="run"),
    # Directories in the place of others.
    refused("search --run_dir=four", "four", "config.json", given="float four"),
    refused(f"quantize --model=float.keras --output=run {QUANTIZE}", "--output=run", given="float run"),
    refused(
        f"quantize --model=float.keras --output=four {QUANTIZE.replace('tune_steps=2', 'tune_steps=3')}",
        "--tune_steps",
        given="float four",
    ),
    refused(f"quantize --model=b3.keras --output=four {QUANTIZE}", "another model", given="quantized four"),
    right(f"quantize --model=float.keras --output=four {QUANTIZE}", "written: four", given="float four"),
    right(
        f"quantize --model=moved.keras --output=four {QUANTIZE}",
        "written: four",
        given="float four",
        edit=move("float.keras", "moved.keras"),
    ),
    # A float network.
    refused(FLOAT, "--output=new.keras: expected a file to write, received a directory", edit=directory("new.keras")),
    refused(f"{FLOAT} --batch_size=100000", "--batch_size: expected at most the 1399 training images of digits"),
    refused(f"{FLOAT} --dataset=./sides --net=edsr", "--dataset", given="sides"),
    refused(f"{FLOAT} --scale=2", "--scale"),
    # A finetuning without a step.
    refused(
        "train --run_dir=run --finetune_arch=largest --finetune_bits=3 --finetune_epochs=0",
        "--finetune_epochs: expected enough for at least one step",
        given="run",
    ),
    # A latency table.
    *[
        refused(TABLE, "t.jsonl", given="space", edit=edit)
        for edit in (
            *(text("t.jsonl", content) for content in WRONG),
            text("t.jsonl", "{}\n{}\n"),
            directory("t.jsonl"),
            pipe("t.jsonl"),
        )
    ],
    refused(TABLE, "--output=t.json: expected a file to write", given="space", edit=directory("t.json")),
    refused(TABLE.replace("--bits=3", "--bits=9"), "--bits", given="space"),
    refused(TABLE.replace("nano.json", "mano.json"), "mano.json", given="space"),
    refused(TABLE.replace("t.json", "t.jsonl"), "--output", given="space"),
    # The cache of images, which is made anew.
    *[
        right(
            "evaluate --model=model.keras --dataset=./sides",
            "100.00% of 4 test images",
            given="model sides",
            edit=edit,
            env={"XDG_CACHE_HOME": "cache"},
        )
        for edit in (text("cache/tfqnas", "a file"), text("cache", "a file"), directory("cache"))
    ],
]
