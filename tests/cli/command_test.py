"""What all commands share: words, flags that have no effect, unknown flags, help, and what their import loads."""

import dataclasses
import types
import typing

import pytest
from absl import flags

from tests.cli.calls import ROOT, process, tool
from tfqnas.cli import command, main, overview
from tfqnas.dqss.quantize_settings import QuantizeSettings
from tfqnas.errors import SettingError, UserError
from tfqnas.search.search_config import SearchConfig
from tfqnas.train.run_config import RunConfig
from tfqnas.zoo.float_config import FloatConfig

WITHOUT_WORDS = [name for name in overview.COMMANDS if not hasattr(overview.module_of(name), "WORDS")]
# A flag of each command that must be given, for those that have one.
REQUIRED = {
    "search": ["--run_dir=no/run"],
    "analyze": ["--run_dir=no/run"],
    "compare": ["--run_dirs=no/run"],
    "export": ["--output=no/m.tflite"],
    "latency-table": ["--output=no/t.json"],
    "quantize": ["--model=no/m.keras", "--output=no/out"],
    "benchmark": ["--models=no/m.tflite"],
    "predict": ["--model=no/m.keras"],
}


def called(name, *arguments, capsys):
    """Exit code and standard error of `tfqnas NAME`, in this process."""
    with pytest.raises(SystemExit) as ended:
        main.run(name, f"tfqnas {name}", list(arguments))
    return ended.value.code, capsys.readouterr().err


def said(name, *arguments, capsys):
    """The message of a command that is refused."""
    code, err = called(name, *REQUIRED.get(name, ()), *arguments, capsys=capsys)
    assert code == 1 and err.startswith("error: "), err
    return err.removeprefix("error: ").splitlines()[0]


@pytest.mark.parametrize("name", overview.COMMANDS)
def test_a_word_that_is_no_flag_is_refused(name, capsys):
    flag = next(iter(overview.module_of(name).FLAGS))
    meant = f": a flag begins with two hyphens, --{flag}"
    for word in (f"\u2013{flag}=60", f"{flag}=train", f"\u2014{flag}=1"):
        expected = getattr(overview.module_of(name), "WORDS", "")
        expected = f"{expected} and flags" if expected else "flags only"
        assert said(name, word, capsys=capsys) == f"expected {expected}, received {word}{meant}"
    if name in WITHOUT_WORDS:
        assert said(name, "train", capsys=capsys) == "expected flags only, received train"


def test_the_overview_fits_a_screen():
    lines = overview.overview().splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 80
    for name in overview.COMMANDS:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1


def test_importing_the_commands_loads_no_tensorflow():
    code, out, err = process(
        "-c",
        "import sys\n"
        "from tfqnas.cli import main, overview\n"
        "assert 'absl' not in sys.modules\n"
        "for name in overview.COMMANDS:\n"
        "    overview.module_of(name)\n"
        "    loaded = {'tensorflow', 'keras', 'tf_keras', 'tensorflow_datasets', 'keras_tuner'} & set(sys.modules)\n"
        "    assert not loaded, (name, loaded)\n",
    )
    assert code == 0, out + err


def test_there_is_a_file_for_each_command():
    files = [path.read_text() for path in (ROOT / "tools").glob("*.py")]
    assert all(sum(f'run("{name}")' in text for text in files) == 1 for name in overview.COMMANDS)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train", ["--search_budget=3"], "here, it belongs to tfqnas search and tfqnas run"),
        ("train", ["--integer_aware"], "without --finetune_arch, it belongs to --finetune_arch"),
        ("train", ["--finetune_epochs=1"], "without --finetune_arch, it belongs to --finetune_arch"),
        ("train", ["--mixed_inputs=lsq"], "with a space without bit widths, it belongs to a space of several"),
        (
            "train",
            ["--space=tiny_qfa", "--bits=4"],
            "with a space of several bit widths, it belongs to a space without",
        ),
        ("train", ["--test_share=0.3"], "with digits, it belongs to a folder of images"),
        ("train", ["--dataset=./no", "--train_split=x"], "with a folder of images, it belongs to a data set of TFDS"),
        ("run", ["--float_learning_rate=1"], "without --float_epochs, it belongs to --float_epochs"),
        ("run", ["--search=ageing", "--search_rounds=1"], "with --search=ageing, it belongs to --search=coarse"),
        (
            "search",
            ["--search_population=5"],
            "with --search=coarse_to_fine, it belongs to --search=ageing or --search=nsga2",
        ),
        (
            "search",
            ["--search_edges=1,2", "--search_bins=3"],
            "with edges of its own, it belongs to bins of equal width",
        ),
        ("analyze", ["--alone_epochs=3"], "without --alone, it belongs to --alone"),
        ("analyze", ["--only=depth", "--subnets=9"], "with --only=depth, it belongs to --only=drop or --only=ranking"),
        ("evaluate", ["--model=m", "--bits=2"], "without --run_dir, it belongs to --run_dir"),
        ("evaluate", ["--model=m", "--arch=smallest"], "with --model, it belongs to --run_dir and --checkpoint"),
        ("evaluate", ["--run_dir=r", "--bits=2", "--dataset=d"], "with a run, which has its own data"),
        ("evaluate", ["--checkpoint=c", "--evaluation_crop=0.9"], "with a run, which has its own data"),
        ("evaluate", ["--checkpoint=c", "--bits=2"], "without --run_dir, it belongs to --run_dir"),
        ("export", ["--model=m", "--arch=smallest"], "with --model, it belongs to --run_dir"),
        ("export", ["--run_dir=r", "--bits=2", "--dataset=d"], "with a run, which has its own data"),
        ("export", ["--run_dir=r", "--bits=2", "--max_psnr_drop=1"], "on a classifier, it belongs to --model"),
        ("export", ["--model=m", "--noverify", "--max_psnr_drop=1"], "with --verify=false, it belongs to --verify"),
        ("export", ["--model=m", "--noverify", "--max_accuracy_drop=1"], "with --verify=false, it belongs to --verify"),
        ("export", ["--model=m", "--noverify", "--verify_images=1"], "with --verify=false, it belongs to --verify and"),
        ("export", ["--model=m", "--noverify", "--threads=2"], "with --verify=false, it belongs to --verify"),
        ("train-float", ["--scale=4"], "with classification, it belongs to super_resolution"),
        ("train-float", ["--net=edsr", "--dataset=photos", "--flip"], "with super_resolution, it belongs to classific"),
        ("quantize", ["--search_share=0.2"], "with --mode=ptq, it belongs to --mode=qat"),
        ("quantize", ["--mode=qat", "--images=64"], "with --mode=qat, it belongs to --mode=ptq"),
        ("quantize", ["--weights=lsq", "--inputs=lsq", "--noise=0"], "with a single strategy, it belongs to several"),
        ("quantize", ["--norefine", "--refine_images=9"], "without --refine, it belongs to --refine"),
        ("latency-table", ["--run_dir=r", "--classes=3"], "with --run_dir, which has them, it belongs to --space"),
        ("latency-table", ["--run_dir=r", "--apk=a"], "with --device=host, it belongs to --device=android"),
        (
            "latency-table",
            ["--run_dir=r", "--device=vela", "--threads=2"],
            "with --device=vela, it belongs to --device=h",
        ),
        ("benchmark", ["--host", "--serials=a"], "with --host, it belongs to phones"),
        ("benchmark", ["--host", "--poll=1"], "with --host, it belongs to phones"),
        ("benchmark", ["--binary=b", "--poll=1"], "with --binary, it belongs to the app"),
    ],
)
def test_a_flag_without_effect_is_refused_and_where_it_has_one_is_named(name, arguments, message, capsys):
    flag = arguments[-1].partition("=")[0].replace("--noverify", "--verify")
    assert said(name, *arguments, capsys=capsys).startswith(f"{flag}: has no effect {message}")


@pytest.mark.tensorflow
def test_in_a_flagfile_it_may_stand(tmp_path, capsys):
    """One describes a whole run, or several searches."""
    path = tmp_path / "search.cfg"
    path.write_text("--search_population=5\n--search=coarse_to_fine\n")
    message = "--run_dir: expected a directory that tfqnas train made, no/run/config.json is not there"
    assert said("search", f"--flagfile={path}", capsys=capsys) == message


@pytest.mark.parametrize(
    ("name", "flag", "message"),
    [
        ("search", "batch_size", "it belongs to tfqnas run, tfqnas train, tfqnas train-float, tfqnas quantize"),
        ("evaluate", "search_budget", "it belongs to tfqnas run, tfqnas search"),
        ("search", "serch", "did you mean --search?"),
        ("train", "device", "it belongs to tfqnas latency-table"),
    ],
)
def test_an_unknown_flag_is_answered_with_the_command_that_has_it(name, flag, message, capsys):
    assert said(name, f"--{flag}=3", capsys=capsys) == f"--{flag}: this command has no such flag, {message}"


def test_messages_of_the_library_name_settings_and_those_of_the_command_line_flags():
    holder = command.Flags()
    command.define_flags(RunConfig, holder)
    shown = command.in_flags(SettingError("bits", "falling ones with `space=tiny`", (2, 3)), holder)
    assert shown == "--bits: expected falling ones with --space=tiny, received 2,3"
    assert command.in_flags(SettingError("other", "more", 3), holder) == "other: expected more, received 3"
    text = "`dataset=a b`: too few; give `batch_size` or `other`, or run tfqnas search --run_dir=x"
    assert command.in_flags(UserError(text), holder) == (
        "--dataset=a b: too few; give --batch_size or `other`, or run tfqnas search --run_dir=x"
    )


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("train", "--float_epochs=nan", "--float_epochs: expected a finite number from 0 to 1e+09, received nan"),
        ("search", "--max_kb=inf", "--max_kb: expected a finite number from 0 on, received inf"),
        ("benchmark", "--pause=nan", "--pause: expected a finite number from 0 on, received nan"),
        ("benchmark", "--runs=two", "--runs: expected a whole number from 1 on, received two"),
        ("export", "--verify=maybe", "--verify: expected true or false, received maybe"),
        ("export", "--storage=int4", "--storage: expected one of int8, packed, received int4, did you mean int8?"),
        ("train", "--schedule=inherits", "received inherits, did you mean inherit?"),
        ("train", "--bits=4,x", "--bits: expected whole numbers separated by commas, received 4,x"),
    ],
)
def test_values_that_cannot_be_are_refused(name, argument, message, capsys):
    assert message in said(name, argument, capsys=capsys)


@pytest.mark.parametrize("name", overview.COMMANDS)
def test_help_says_what_each_flag_is_for_and_which_values_it_has(name):
    module = overview.module_of(name)
    text = command.help_text(module)
    assert text.startswith((module.__doc__ or "").strip()) and f"tfqnas {name}" in text
    for flag in (module.FLAGS[own] for own in module.FLAGS):
        if not getattr(flag, "read_by", ()):
            switch = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
            assert f"\n  {switch}: " in text and flag.help
    assert "`" not in text.partition("Flags of")[2]


def test_help_has_ranges_and_choices_from_the_declarations():
    text = " ".join(command.help_text(overview.module_of("run")).split())
    assert "--batch_size: images a step, over all replicas (from 1 on; default: 64)" in text
    assert "(one of inherit, direct; default: inherit)" in text
    assert "see --max_file_kb (from 0 on; default: 0.0)" in text
    own = " ".join(command.help_text(overview.module_of("export")).split())
    assert "--storage: int8: a byte for each weight" in own and "(one of int8, packed; default: int8)" in own
    assert "training images for the calibration (from 1 on; default: 512)" in own


def test_help_is_printed_for_every_way_to_ask(capsys):
    for flag in ("--help", "-h", "--helpfull", "-?"):
        with pytest.raises(SystemExit) as ended:
            main.run("predict", "tfqnas predict", ["--nonsense", flag])
        assert ended.value.code == 0 and capsys.readouterr().out.startswith("Classifies image files")


@pytest.mark.parametrize(
    ("kept", "what"),
    [
        ("runs/mine", "what is done is kept in runs/mine, the same command goes on from there"),
        ("", "nothing of this command is kept, it begins anew"),
    ],
)
def test_ctrl_c_says_where_it_goes_on(kept, what, capsys):
    def stopped():
        if kept:
            command.keeps(kept)
        raise KeyboardInterrupt

    module = types.SimpleNamespace(FLAGS=command.Flags(), main=stopped)
    for program, shown in (("tools/stopped.py", "python tools/stopped.py"), ("tfqnas stopped", "tfqnas stopped")):
        with pytest.raises(SystemExit) as ended:
            command.run(module, program, [])
        assert ended.value.code == 130 and capsys.readouterr().err == f"\nstopped; {what}:\n    {shown}\n"


def test_a_process_may_run_commands_one_after_the_other(capsys):
    """Values of one call are not those of the next."""
    seen = []
    module = types.SimpleNamespace(FLAGS=command.Flags())
    value = module.FLAGS.integer("number", 3, "any")
    module.main = lambda: seen.append((value.value, value.present))
    for arguments in (["--number=5"], [], ["--number=7"]):
        with pytest.raises(SystemExit):
            command.run(module, "tfqnas some", arguments)
    assert seen == [(5, 1), (3, 0), (7, 1)]


def test_the_program_and_the_files_are_the_same():
    script = "import sys; sys.argv[0] = 'tfqnas'; from tfqnas.cli.main import main; main()"
    program, file = process("-c", script, "train", "--help"), process(ROOT / "tools" / "train.py", "--help")
    assert program == file and program[0] == 0 and program[1].startswith("Trains one supernet for each bit width")
    code, _, err = process("-c", script, "trian")
    assert (
        code == 2
        and err == "error: expected a command, received trian, did you mean train?; tfqnas --help lists them\n"
    )
    assert tool("train", "--bits=1")[2].endswith("train.py --help lists its flags\n") is False


def test_flags_are_those_of_absl_as_well():
    """`--only_check_args` parses and ends, `--flagfile` reads, `--undefok` forgives."""
    arguments = ["--flagfile=digits_oqa", "--only_check_args", "--nope=4", "--undefok=nope", "--verbosity=1"]
    assert process(ROOT / "tools" / "train.py", *arguments) == (0, "", "")


def numbers(name):
    """Names of the flags of a command with a number that need not be whole, or with several such numbers."""
    holder = overview.module_of(name).FLAGS
    own = [flag for flag in holder if isinstance(holder[flag].parser, flags.FloatParser)]
    lists = {
        field.name
        for kind in (RunConfig, SearchConfig, QuantizeSettings, FloatConfig)
        for field in dataclasses.fields(kind)
        if typing.get_origin(field.type) is tuple and float in typing.get_args(field.type)
    }
    return own + [flag for flag in holder if flag in lists]


# What comes before the settings are read, for commands that need more than `REQUIRED`.
MORE = {
    "train": ["--run_dir=no/run"],
    "run": ["--run_dir=no/run"],
    "export": ["--model=no/m.keras"],
    "evaluate": ["--model=no/m.keras"],
    "latency-table": ["--space=tiny", "--classes=10", "--channels=1"],
    "npu-check": ["no/m.tflite"],
    "predict": ["no/picture.png"],
    "prepare-data": ["mnist"],
    "train-float": ["--output=no/m.keras"],
}


@pytest.mark.parametrize("name", [name for name in overview.COMMANDS if numbers(name)])
def test_numbers_that_are_not_finite_are_refused_by_their_flag(name, capsys):
    for flag in numbers(name):
        for value in ("nan", "inf", "-inf", "1e400", "NaN"):
            code, err = called(name, *REQUIRED.get(name, ()), *MORE.get(name, ()), f"--{flag}={value}", capsys=capsys)
            assert code == 1 and err.startswith("error: ") and f"--{flag}" in err.splitlines()[0], err


def test_most_commands_have_numbers():
    assert {name: len(numbers(name)) > 0 for name in overview.COMMANDS}.items() >= {
        "train": True,
        "export": True,
    }.items()
    assert {"supernet_epochs", "supernet_learning_rate", "max_kb", "dropout"} <= set(numbers("run"))
