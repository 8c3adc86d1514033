"""Runs `.tflite` models on batches of images in LiteRT, and reads metadata and tensor types from files."""

import pathlib
from typing import Any

import numpy as np

from tfqnas.errors import UserError

KERNELS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}


class Runtime:
    """A `.tflite` model in LiteRT's interpreter.

    Args:
        blob: content of the file.
        threads: number of CPU threads.
        kernels: a key of `KERNELS`. "xnnpack" is LiteRT's default on CPUs and computes as the reference does; "builtin"
            are LiteRT's optimised kernels, "reference" its plain ones.

    Raises:
        UserError: LiteRT cannot load the model.
    """

    def __init__(self, blob: bytes, threads: int = 1, kernels: str = "xnnpack") -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kind = getattr(OpResolverType, KERNELS[kernels])
        try:
            self._interpreter = Interpreter(model_content=blob, num_threads=threads, experimental_op_resolver_type=kind)
            self.inputs, self.outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            self.input, self.output = self.inputs[0], self.outputs[0]
        except (ValueError, RuntimeError, IndexError) as error:
            raise UserError(f"not a .tflite model that LiteRT can load ({error})") from None
        self._batch: int | None = None
        self._blob = blob

    @property
    def signature(self) -> tuple[str, list[str], list[str]]:
        """`(key, names of inputs, names of outputs)`."""
        ((key, names),) = self._interpreter.get_signature_list().items()
        return key, names["inputs"], names["outputs"]

    @property
    def metadata(self) -> dict[str, bytes]:
        """`{name: bytes}` of the file's metadata."""
        return metadata_of(self._blob)

    def run(self, images: Any, batch_size: int = 64) -> Any:
        """The output (n, ...) for images (n, height, width, channels) of the input's type.

        For several inputs `images` is a list of arrays, for several outputs the result is one.

        Raises:
            UserError: the images have another shape or type, or LiteRT fails.
        """
        given = [np.asarray(x) for x in (images if isinstance(images, list | tuple) else [images])]
        if len(given) != len(self.inputs):
            raise UserError(f"images: expected values for {len(self.inputs)} inputs, received {len(given)}")
        for values, wanted in zip(given, self.inputs, strict=True):
            expected = (tuple(wanted["shape"][1:]), np.dtype(wanted["dtype"]))
            if (values.shape[1:], values.dtype) != expected:
                raise UserError(
                    f"images: expected {expected[1]} of {expected[0]}, received {values.dtype} of {values.shape[1:]}"
                )
        starts = range(0, len(given[0]), batch_size)
        parts = [self._run([values[i : i + batch_size] for values in given]) for i in starts]
        results = [np.concatenate(part) for part in zip(*parts, strict=True)]
        return results if len(results) > 1 else results[0]

    def _run(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        interpreter = self._interpreter
        try:
            if self._batch != len(batch[0]):
                for values, place in zip(batch, self.inputs, strict=True):
                    interpreter.resize_tensor_input(place["index"], values.shape)
                interpreter.allocate_tensors()
                self._batch = len(batch[0])
            for values, place in zip(batch, self.inputs, strict=True):
                interpreter.set_tensor(place["index"], values)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            received = " and ".join(f"{values.dtype} of {values.shape}" for values in batch)
            raise UserError(f"LiteRT cannot run the model on {received} ({error})") from None
        return [interpreter.get_tensor(place["index"]) for place in self.outputs]


def read_model(path: str | pathlib.Path) -> bytes:
    """The content of a `.tflite` file.

    Raises:
        UserError: the file is none. OSError: it cannot be read.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():  # who reads a pipe waits for ever
        raise UserError(f"{path}: not a .tflite file, but a directory, pipe or device")
    blob = path.read_bytes()
    if blob[4:8] != b"TFL3":
        raise UserError(f"{path}: not a .tflite file (bytes 4 to 7 are {blob[4:8]!r}, expected b'TFL3')")
    return blob


def metadata_of(blob: bytes) -> dict[str, bytes]:
    """`{name: bytes}` of a `.tflite` file's metadata."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    return {m.name.decode(): bytes(bytearray(model.buffers[m.buffer].data)) for m in model.metadata or ()}


def tensor_types(blob: bytes) -> set[str]:
    """The set of the types of a `.tflite` file's tensors, such as {"int8", "int4"}.

    Raises:
        UserError: LiteRT cannot load the file.
    """
    from ai_edge_litert import schema_py_generated as schema

    Runtime(blob)
    names = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    return {names[tensor.type] for graph in model.subgraphs for tensor in graph.tensors}
