"""Calls of the library with wrong names, shapes, types and values. What is called is imported first."""

from tests.campaign.trials import call, value

NET = "net = lambda *layers: keras.Sequential([keras.Input((8, 8, 1)), *layers])"
LOWER = f"from tflite_export import export; {NET}; x = np.zeros((4, 8, 8, 1), np.float32)"
QUANTIZE = f"from tfqnas import LSQ, quantize; {NET}"
SPACE = """from tfqnas.spaces import SearchSpace, Stage; \
stage = {"channels": 8, "stride": 1, "depths": (1,), "kernels": (3,), "expands": (3,)}; \
space = lambda **more: SearchSpace("s", (8,), 8, (Stage(**{**stage, **more}),), 8)"""
SUPERNET = "from tfqnas import LSQ, Supernet; tiny = spaces.get('tiny')"
ARCH = "from tfqnas import Arch; tiny = spaces.get('tiny'); arch = tiny.largest()"
IMAGES = (
    "import tempfile, pathlib; from tfqnas.data.data_config import DataConfig; from tfqnas.data.dataset import load"
)


def _calls(imports, *trials):
    return [call(f"{imports}; {expression}", *says) for expression, *says in trials]


TRIALS = [
    # Quantizers.
    value("quantizers.get('lsq', 4, 'weights').bits", "4"),
    call("quantizers.get('lsqq', 4, 'weights')", "did you mean lsq?"),
    call("quantizers.get('', 4, 'weights')", "expected one of", "lsq"),
    call("quantizers.get(None, 4, 'weights')", "expected one of", "None"),
    call("quantizers.get('LSQ', 4, 'weights')", "did you mean lsq?"),
    call("quantizers.get('lsq', 4, 'weight')", "role", "weights", "inputs"),
    call("quantizers.get('lsq', 4, None)", "role", "None"),
    call("quantizers.get('lsq', 1, 'weights')", "bits", "1"),
    call("quantizers.get('lsq', 0, 'weights')", "bits", "0"),
    call("quantizers.get('lsq', 33, 'weights')", "bits", "33"),
    call("quantizers.get('lsq', 4.5, 'weights')", "bits", "4.5"),
    call("quantizers.get('lsq', '4', 'weights')", "bits", "'4'"),
    call("quantizers.get('lsq', None, 'weights')", "bits", "None"),
    call("quantizers.get('lsq', True, 'weights')", "bits", "True"),
    call("quantizers.get('lsq', float('nan'), 'weights')", "bits", "nan"),
    call("quantizers.get('pact', 4, 'weights')", "pact", "inputs"),
    call("quantizers.get('lsq', 4, 'weights', colour=3)", "colour"),
    call("quantizers.LSQ(bits=1)", "bits", "1"),
    call("quantizers.LSQ(bits=4, signed='no')", "signed", "'no'"),
    call("quantizers.LSQ(bits=4, colour=3)", "colour"),
    call("quantizers.integer_range(17, True)", "bits", "17"),
    call("quantizers.clone('lsq')", "Quantizer", "str"),
    # Spaces and architectures.
    call("spaces.get('mbv_3')", "did you mean mbv3?"),
    call("spaces.get('')", "expected", "mbv3"),
    call("spaces.get(None)", "expected", "None"),
    call("spaces.get('no.json')", "no.json"),
    call("spaces.get('.json')", ".json"),
    call("spaces.SearchSpace.from_json('{}')", "missing field", "name"),
    call("spaces.SearchSpace.from_json('[')", "JSON"),
    call("spaces.SearchSpace.from_json('null')", "expected an object"),
    *_calls(
        SPACE,
        ("space(depths=(0,))", "depths", "0"),
        ("space(depths=1)", "depths", "1"),
        ("space(kernels=(4,))", "kernels", "4"),
        ("space(kernels=(5, 3))", "kernels", "ascending"),
        ("space(expands=(float('nan'),))", "expands", "nan"),
        ("space(channels=-8)", "channels", "-8"),
        ("space(channels='8')", "channels", "'8'"),
        ("space(channels=10**12)", "channels"),
        ("space(stride=3)", "stride", "3"),
        ("space(activation='elu')", "activation", "'elu'"),
        ("space(colour=3)", "colour"),
    ),
    *_calls(
        ARCH,
        ("Arch.from_json('{}')", "missing field"),
        ("Arch.from_json('no JSON')", "JSON"),
        ("Arch.from_json('[]')", "expected an object"),
        ("Arch.from_json(arch.to_json()[:-1] + ', \"colour\": 1}')", "unknown field colour"),
        ("Arch('tiny', 24, (1,), (3,), (3, 3))", "expands", "expected 1"),
        ("Arch('tiny', float('nan'), (1,), (3,), (3,))", "resolution", "nan"),
        ("Arch('tiny', -1, (1,), (3,), (3,))", "resolution", "-1"),
        ("Arch('tiny', 24, (1,), ('3',), (3,))", "kernels", "'3'"),
        ("Arch('tiny', 24, (1,), (3,), (3,), bits=((4, 9),))", "bits", "9"),
        ("Arch('tiny', 24, (1,), (3,), (3,), bits='44')", "bits", "'44'"),
        ("spaces.get('mbv3').validate(arch)", "mbv3", "tiny"),
        ("spaces.get('mbv3').encode(arch)", "mbv3", "tiny"),
        ("tfqnas.count(spaces.get('mbv3'), arch)", "mbv3", "tiny"),
    ),
    # Supernets and subnets.
    *_calls(
        SUPERNET,
        ("Supernet('tiny')", "space", "'tiny'"),
        ("Supernet(tiny, num_classes=0)", "num_classes", "0"),
        ("Supernet(tiny, num_classes='ten')", "num_classes", "'ten'"),
        ("Supernet(tiny, channels=0)", "channels", "0"),
        ("Supernet(tiny, weights='lsq')", "weights", "Quantizer", "'lsq'"),
        ("Supernet(tiny, dropout=float('nan'))", "dropout", "nan"),
        ("Supernet(tiny, dropout=1.5)", "dropout", "1.5"),
        ("Supernet(tiny, colour=3)", "colour"),
        ("tfqnas.initialize(Supernet(tiny), np.zeros((3, 8), np.float32))", "images: expected"),
        ("tfqnas.initialize(Supernet(tiny), np.zeros((2, 8, 8, 1), np.float32))", "expected (n, height, width, 3)"),
        ("tfqnas.initialize(Supernet(tiny), np.zeros((0, 8, 8, 3), np.float32))", "expected images"),
        ("tfqnas.initialize(Supernet(tiny), None)", "None"),
    ),
    # Quantizing a model.
    *_calls(
        QUANTIZE,
        ("quantize('model.keras', LSQ(bits=4), LSQ(bits=4))", "model", "str"),
        ("quantize(net(keras.layers.Conv2D(4, 3)), 'lsq', LSQ(bits=4))", "Quantizer", "str"),
        ("quantize(net(keras.layers.Conv2D(4, 3)), LSQ, LSQ(bits=4))", "Quantizer"),
        ("quantize(net(keras.layers.Conv2D(4, 3)), LSQ(bits=4), LSQ(bits=4), end_bits=1)", "end_bits", "1"),
        ("quantize(net(keras.layers.Conv2D(4, 3)), LSQ(bits=4), LSQ(bits=4), skip=['no'])", "skip", "no"),
        ("quantize(net(keras.layers.Lambda(lambda x: x)), LSQ(bits=4), LSQ(bits=4))", "lambda"),
        ("quantize(net(keras.layers.Reshape((64, 1)), keras.layers.LSTM(4)), LSQ(bits=4), LSQ(bits=4))", "lstm"),
    ),
    # Exporting.
    *[
        call(f"{LOWER}; {expression}", *says)
        for expression, *says in (
            ("export(None, x)", "model", "None"),
            ("export('model.keras', x)", "model", "str"),
            ("export(net(keras.layers.LSTM(4)), x)", "ndim"),
            (
                "export(net(keras.layers.Conv2DTranspose(4, 3, 2, output_padding=1)), x)",
                "conv2d_transpose",
                "output_padding",
            ),
            ("export(net(keras.layers.Lambda(lambda x: x + 1)), x)", "lambda"),
            ("export(net(keras.layers.Conv2D(4, 3, activation='selu')), x)", "conv2d", "selu"),
            ("export(net(keras.layers.Conv2D(4, 1, data_format='channels_first')), x)", "conv2d", "channels_first"),
            ("export(net(keras.layers.GlobalAveragePooling2D()), x * np.nan)", "calibration images", "finite"),
        )
    ],
    *[
        call(f"{LOWER}; export(net(keras.layers.GlobalAveragePooling2D()), {images}{more})", *says)
        for images, more, *says in (
            ("None", "", "calibration images", "None"),
            ("[]", "", "calibration images"),
            ("'images'", "", "calibration images"),
            ("[[1], [1, 2]]", "", "calibration images"),
            ("np.zeros((0, 8, 8, 1), np.float32)", "", "calibration images", "received 0 of"),
            ("np.zeros((4, 9, 8, 1), np.float32)", "", "expected size (8, 8, 1)", "4 of (9, 8, 1)"),
            ("np.zeros((4, 8, 8, 3), np.float32)", "", "expected size (8, 8, 1)", "(8, 8, 3)"),
            ("np.zeros((8, 8, 1), np.float32)", "", "calibration images", "(8, 8, 1)"),
            ("np.zeros((4, 8, 8, 1), np.uint8)", "", "whole numbers"),
            ("np.zeros((4, 8, 8, 1), object)", "", "calibration images"),
            ("np.full((4, 8, 8, 1), 255, np.float32)", "", "calibration images", "255"),
            ("np.full((4, 8, 8, 1), np.nan, np.float32)", "", "calibration images", "finite"),
            ("np.full((4, 8, 8, 1), np.inf, np.float32)", "", "calibration images", "finite"),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", 'maximum'", "calibration", "min_max"),
            (
                "np.zeros((4, 8, 8, 1), np.float32)",
                ", input_type='float64'",
                "int8, uint8 or float32 in",
                "received float64",
            ),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", output_type='int4'", "int8 or float32 out", "int4"),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", storage='int4'", "storage", "int4"),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", normalization=(127.5, 127.5)", "normalisation", "127.5"),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", normalization=(128, 0)", "normalisation", "positive divisor"),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", normalization=(float('nan'), 128)", "normalisation", "nan"),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", metadata={'a': object()}", "metadata"),
            ("np.zeros((4, 8, 8, 1), np.float32)", ", metadata={'a': float('nan')}", "metadata"),
        )
    ],
    # Models of LiteRT.
    *[
        call(f"from tflite_export.runtime import Runtime; Runtime({blob})", "not a .tflite model")
        for blob in ("b''", "b'TFL3'", "bytes(1000)", "b'no model' * 100")
    ],
    # Data.
    *_calls(
        IMAGES,
        ("load(DataConfig(dataset='digit'), held_out=10)", "digit"),
        ("load(DataConfig(dataset='./no'), held_out=10)", "there is none"),
        ("load(DataConfig(), held_out=-1)", "held_out", "-1"),
        ("load(DataConfig(), held_out=10**9)", "held_out"),
        ("DataConfig(test_share=float('nan'))", "test_share", "nan"),
        ("DataConfig(test_share='a')", "test_share", "received a"),
        ("DataConfig(evaluation_crop=0)", "evaluation_crop", "0"),
    ),
]
