"""Stands for `adb` and the phones behind it: replays the benchmark tool's log in its real formats.

The directory $FAKE_ADB holds `scenario.json` (see `DEFAULTS`), and says what was done: `calls` has a line for each
command, `files/SERIAL/` what lies on a device, `running/SERIAL` what the app was told and how often its log was read.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import sys

PACKAGE = "org.tensorflow.lite.benchmark"
DEFAULTS = {
    "devices": "R58N\tdevice",  # lines of `adb devices`
    "installed": True,
    "install": "Performing Streamed Install\nSuccess",
    "push": "",  # what a push that fails says
    "clear": "",  # what clearing the log says if it fails
    "start": "",  # what `am start` says if it fails
    "logs": {},  # accelerator -> name of a log, "ok" by default
    "lost_after": None,  # commands in a shell, after which the device is gone
}


def line(severity, tag, text):
    return f"{severity} {tag:<8}: {text}"


def said(*texts):
    return [line("I", "tflite", text) for text in texts]


def complained(*texts):
    return [line("E", "tflite", text) for text in texts]


def delegated(delegate, how):
    return said(f"Explicitly applied {delegate} delegate, and the model graph will be {how}")


CREATED = {
    "XNNPACK": said("Created TensorFlow Lite XNNPACK delegate for CPU.", "XNNPACK delegate created."),
    "GPU": said("Created TensorFlow Lite delegate for GPU.", "GPU delegate created."),
    None: [],
}
UNSUPPORTED = complained(
    "Following operations are not supported by GPU delegate:",
    "CONV_2D: OP is supported, but tensor type/shape isn't compatible.",
    "UNPACK: Operation is not supported.",
    "27 operations will run on the GPU, and the remaining 2 operations will run on the CPU.",
)
LIMITS = "but terminate if exceeding 150 seconds."
SESSION = said(
    "The input model file size (MB): 0.134344",
    "Initialized session in 5.685ms.",
    f"Running benchmark for at least 1 iterations and at least 0.5 seconds {LIMITS}",
)
NOTE = (
    "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual "
    "memory footprint of the model at runtime. Take the information at your discretion."
)
MEMORY = "Memory footprint delta from the start of the tool (MB): init=4.2 overall=46.1"
FINISH = line("I", "wm_finish_activity", f"[0,256052167,36,{PACKAGE}/.BenchmarkModelActivity,app-request]")
JAVA = [
    line("E", "AndroidRuntime", text)
    for text in (
        "FATAL EXCEPTION: main",
        f"Process: {PACKAGE}, PID: 4321",
        'java.lang.UnsatisfiedLinkError: dlopen failed: library "libtensorflowlite_benchmark.so" not found',
        "\tat java.lang.Runtime.loadLibrary0(Runtime.java:1087)",
    )
]
NATIVE = [
    line(
        "F",
        "libc",
        "Fatal signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x70 in tid 4321 (.lite.benchmark), "
        "pid 4321 (.lite.benchmark)",
    ),
    line("F", "DEBUG", f"pid: 4321, tid: 4321, name: .lite.benchmark  >>> {PACKAGE} <<<"),
    line("F", "DEBUG", "signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x70"),
]
FOREIGN = [
    line("E", "AndroidRuntime", "FATAL EXCEPTION: main"),
    line("E", "AndroidRuntime", "Process: com.example.other, PID: 999"),
    line("E", "AndroidRuntime", "java.lang.IllegalStateException: not ours"),
    line("F", "libc", "Fatal signal 6 (SIGABRT), code -1 (SI_QUEUE) in tid 999 (le.other), pid 999 (le.other)"),
    line("F", "DEBUG", "pid: 999, tid: 999, name: le.other  >>> com.example.other <<<"),
]
# By the name of a log: the mean, and the statistics of the runs.
RUNS = {
    "ok": (
        "14575.2",
        "count=69 first=14381 curr=14644 min=14290 max=15012 avg=14575.2 std=109 p5=14310 median=14560 p95=14820",
    ),
    "scientific": (
        "2.95034e+06",
        "count=50 first=2871234 curr=2901111 min=2801111 max=3123456 avg=2.95034e+06 "
        "std=109798 p5=2810000 median=2940000 p95=3.1e+06",
    ),
    "old": ("14575.2", "count=69 first=14381 curr=14644 min=14290 max=15012 avg=14575.2 std=109"),
    "single": ("14644", "count=1 curr=14644 p5=14644 median=14644 p95=14644"),
    "same": ("62", "count=16000 curr=62(all same) p5=62 median=62 p95=62"),
}


def log_lines(name, args, delegate):
    """The lines that the tool and the system write: severity, tag, text."""
    graph = re.search(r"--graph=(\S+)", args)[1]
    lines = [
        line("I", "tflite_BenchmarkModelActivity", f"Running TensorFlow Lite benchmark with args: {args}"),
        *said("Log parameter values verbosely: [0]", "Min num runs: [50]", "Num threads: [4]", f"Graph: [{graph}]"),
        *said(f"Loaded model {graph}", "Initialized TensorFlow Lite runtime."),
        *CREATED[delegate],
    ]
    if name == "native crash":
        return [*lines, *FOREIGN, *NATIVE]
    if name == "disallowed":
        return [*lines, *UNSUPPORTED, *complained("Disallowed CPU fallback detected."), FINISH]
    if name == "unreadable":
        return [*lines[:5], *complained(f"Could not open '{graph}'."), FINISH]
    if name == "fallback":
        lines += said(
            f"Though {delegate} delegate is explicitly applied, the model graph will not be executed by the delegate."
        )
    elif name == "partial":
        lines += [*UNSUPPORTED, *delegated(delegate, "partially executed by the delegate w/ 3 delegate kernels.")]
    elif delegate and name != "unmentioned":
        lines += delegated(delegate, "completely executed by the delegate.")
    lines += SESSION
    if name == "not invoked":
        return [*lines, *complained("Node number 3 (TfLiteGpuDelegateV2) failed to invoke."), FINISH]
    warm = "count=34 first=18535 curr=14451 min=14279 max=18535 avg=14462.3 std=812"
    warm += "" if name == "old" else " p5=14301 median=14398 p95=15100"
    lines += said(warm, "", f"Running benchmark for at least 50 iterations and at least 1 seconds {LIMITS}")
    if name in ("hang", "gone"):
        return lines
    average, statistics = RUNS.get(name, RUNS["ok"])
    lines += said(
        statistics,
        "",
        "Inference timings in us: Init: 5685, First inference: 18535, Warmup (avg): 14462.3, "
        f"Inference (avg): {average}",
    )
    lines += [] if name == "no memory" else said(NOTE, MEMORY)
    summary = f"Average inference timings in us: Warmup: 14462.3, Init: 5685, Inference: {average}Overall "
    return [*lines, *complained(summary), FINISH]


def logcat(lines):
    """As `logcat -v threadtime` prints them."""
    printed = ["--------- beginning of main"]
    for number, text in enumerate(lines):
        pid = 999 if text in FOREIGN else 1711 if text == FINISH else 4321
        printed.append(f"11-21 10:31:{number:02}.{number:03}  {pid}  {pid} {text}")
    return "\n".join(printed) + "\n"


def binary_output(lines):
    """As the command-line tool prints them: no line of the app or of the system."""
    severities, printed = {"I": "INFO", "E": "ERROR"}, "INFO: STARTING!\n"
    for text in lines:
        head, _, message = text.partition(": ")
        if head[2:].strip() == "tflite" and not message.startswith("Average inference"):
            printed += f"{severities[text[0]]}: {message}\n"
    return printed


class Phone:
    def __init__(self, directory, serial, scenario):
        self.files, self.scenario = directory / "files" / serial, scenario
        self.running, self.installed = directory / "running" / serial, directory / "installed" / serial
        self.shells = directory / "shells"
        for path in (self.files, self.running.parent, self.installed.parent):
            path.mkdir(parents=True, exist_ok=True)

    def push(self, local, there):
        if self.scenario["push"]:
            return 1, self.scenario["push"].format(local=local, there=there)
        shutil.copy(local, self.files / pathlib.PurePosixPath(there).name)
        return 0, f"{local}: 1 file pushed, 0 skipped. 112.3 MB/s (134344 bytes in 0.001s)\n"

    def install(self):
        if "Success" in self.scenario["install"]:
            self.installed.touch()
            return 0, self.scenario["install"] + "\n"
        return 1, self.scenario["install"] + "\n"

    def shell(self, command):
        words = shlex.split(command)
        count = len(self.shells.read_text()) if self.shells.exists() else 0
        self.shells.write_text("." * (count + 1))
        if command.startswith("getprop"):
            return 0, PROPERTIES
        if command.startswith("pm path"):
            there = self.scenario["installed"] or self.installed.exists()
            return (0, f"package:/data/app/~~Q==/{PACKAGE}-x==/base.apk\n") if there else (1, "")
        if command.startswith("am force-stop"):
            self.running.unlink(missing_ok=True)
        if command.startswith("logcat") and words[-1] == "-c":
            return int(bool(self.scenario["clear"])), self.scenario["clear"]
        if command.startswith("am start"):
            if self.scenario["start"]:
                return 1, self.scenario["start"]
            self.running.write_text(json.dumps([words[words.index("--es") + 2], 0]))
            return 0, f"Starting: Intent {{ cmp={PACKAGE}/.BenchmarkModelActivity (has extras) }}\n"
        if command.startswith("echo pid="):
            return 0, self.look()
        if command.startswith("rm -f"):
            (self.files / pathlib.PurePosixPath(words[-1]).name).unlink(missing_ok=True)
        if command.startswith("/data/local/tmp/"):
            return self.tool(words[0], " ".join(words[1:]))
        return 0, ""

    def asked(self, args):
        """The log that is asked for by the arguments, and the delegate in it."""
        graph = pathlib.PurePosixPath(re.search(r"--graph=(\S+)", args)[1]).name
        assert (self.files / graph).exists(), f"{graph} was not pushed"
        accelerator = "gpu" if "--use_gpu=true" in args else "cpu" if "--use_xnnpack=true" in args else "cpu_no_xnnpack"
        delegate = {"gpu": "GPU", "cpu": "XNNPACK", "cpu_no_xnnpack": None}[accelerator]
        return self.scenario["logs"].get(accelerator, "ok"), delegate

    def look(self):
        """The process and its log, of which each look shows more."""
        if not self.running.exists():
            return "pid=\n"
        args, looks = json.loads(self.running.read_text())
        self.running.write_text(json.dumps([args, looks + 1]))
        name, delegate = self.asked(args)
        if name == "java crash":
            return f"pid=\n{logcat([*FOREIGN, *JAVA])}"
        if looks == 0:  # still starting, and the system has just ended the one before
            return f"pid=\n{logcat([FINISH.replace('app-request', 'force-stop')])}"
        lines = log_lines(name, args, delegate)
        shown = lines[:12] if looks == 1 else lines[-8:] if name == "forgetful" else lines
        dead = shown == lines and name in ("gone", "native crash")
        return f"pid={'' if dead else 4321}\n{logcat(shown)}"

    def tool(self, path, args):
        assert (self.files / pathlib.PurePosixPath(path).name).exists()
        name, delegate = self.asked(args)
        printed = binary_output(log_lines(name, args, delegate))
        if name == "native crash":
            return 139, "INFO: STARTING!\nSegmentation fault \n"
        if name == "wrong processor":
            return 126, f"/system/bin/sh: {path}: not executable: 64-bit ELF file\n"
        if name in ("disallowed", "unreadable", "not invoked"):
            return 1, printed + "ERROR: Benchmarking failed.\n"
        return 0, printed


PROPERTIES = """[ro.build.id]: [UP1A.231005.007]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 7]
MemTotal:        7653032 kB
MemFree:          219552 kB
"""


def main(argv):
    directory = pathlib.Path(os.environ["FAKE_ADB"])
    scenario = DEFAULTS | json.loads((directory / "scenario.json").read_text())
    with open(directory / "calls", "a") as file:
        file.write(" ".join(argv) + "\n")
    serial, words = (argv[1], argv[2:]) if argv[0] == "-s" else (None, argv)
    if words == ["devices"]:
        print("* daemon not running; starting now at tcp:5037\n* daemon started successfully", file=sys.stderr)
        print(f"List of devices attached\n{scenario['devices']}\n")
        return 0
    phone = Phone(directory, serial, scenario)
    lost = scenario["lost_after"]
    if lost is not None and phone.shells.exists() and len(phone.shells.read_text()) >= lost:
        print(f"error: device '{serial}' not found", file=sys.stderr)
        return 1
    if words[0] == "push":
        code, text = phone.push(*words[1:])
    elif words[0] == "install":
        code, text = phone.install()
    else:
        assert words[0] == "shell" and len(words) == 2, words
        code, text = phone.shell(words[1])
    sys.stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
