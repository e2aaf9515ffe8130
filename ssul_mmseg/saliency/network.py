"""A salient-object network in an ONNX file, run by onnxruntime or, where that is missing, by OpenCV."""
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..work_dir.files import digest

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of RGB values from 0 to 1, by which U^2-Net was trained."""
IMAGENET = f'--mean {" ".join(map(str, MEAN))} --deviation {" ".join(map(str, DEVIATION))}'
INSTALL = "pip install 'ssul_mmseg[saliency]'"

Run = Callable[[np.ndarray], np.ndarray]
"""From float32 (1, 3, h, w) to the network's first output."""


class NetworkDetector:
    """Finds salient objects with a network such as U^2-Net (Qin et al., Pattern Recognition 2020).

    A value of the file's own metadata (``mean``, ``std``: lists in JSON) stands where an argument is left out.

    Args:
        file: ONNX file with one input (1, 3, h, w) of RGB values; its first output is the map (1, 1, h, w).
        size: height and width of the input; only needed where the file leaves them open or OpenCV reads it.
        mean: mean of RGB values between 0 and 1; needed where OpenCV reads the file.
        deviation: their standard deviation; likewise.

    Raises:
        InputError: the file is missing, damaged, or a network with other inputs or outputs.
    """

    def __init__(self, file: str | Path, size: tuple[int, int] | None = None, mean: Sequence[float] | None = None,
                 deviation: Sequence[float] | None = None) -> None:
        self._arguments = (file, size, mean, deviation)
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            raise InputError(f'network {file} cannot be read ({error.strerror or error}); give an ONNX file, or '
                             '--model classical, which needs none') from error
        self._run, fixed, metadata = _open(file, content)
        if metadata is None and not (size and mean and deviation):
            raise InputError(f'OpenCV does not say which input size, mean and deviation {file} has; give them with '
                             f"--size HEIGHT WIDTH, --mean and --deviation (ImageNet's: {IMAGENET}), or install "
                             f'onnxruntime: {INSTALL}')
        metadata = metadata or {}
        self.size = _input_size(file, fixed, size)
        self.mean = tuple(mean or _colours(file, metadata, 'mean') or MEAN)
        self.deviation = tuple(deviation or _colours(file, metadata, 'std') or DEVIATION)
        self.settings = dict(detector=Path(file).name, checksum=digest(content), size=list(self.size),
                             mean=list(self.mean), deviation=list(self.deviation))
        self._probe(file)

    def __reduce__(self) -> tuple:
        """Open the file again in another process: a running network cannot be sent."""
        return type(self), self._arguments

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Score every pixel of the network's grid.

        Args:
            image: uint8 (H, W, 3) RGB, of any size.

        Returns:
            float32 (h, w): the larger, the more salient; of any range.
        """
        height, width = self.size
        # Pillow's filter covers every pixel of a large photograph; OpenCV's would skip most of them.
        small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32)
        values = (small / 255 - np.asarray(self.mean, np.float32)) / np.asarray(self.deviation, np.float32)
        return np.squeeze(self._run(values.transpose(2, 0, 1)[np.newaxis].astype(np.float32)), (0, 1))

    def _probe(self, file: str | Path) -> None:
        """Run the network once to see its output: the file may leave its shape open, and OpenCV does not report it."""
        # Noise, as a network that divides by the range of its scores may give no numbers for an image of one colour.
        noise = np.random.default_rng(0).standard_normal((1, 3, *self.size), dtype=np.float32)
        try:
            output = self._run(noise)
        except Exception as error:  # each engine has errors of its own
            raise InputError(f'network {file} does not run on an input of 1 x 3 x {self.size[0]} x {self.size[1]} '
                             f'({_first_line(error)}); give its own input size with --size HEIGHT WIDTH') from error
        if output.ndim != 4 or output.shape[:2] != (1, 1) or output.dtype != np.float32:
            shape = ' x '.join(map(str, output.shape))
            raise InputError(f'the first output of {file} is {shape} {output.dtype}, but a map of saliency is '
                             '1 x 1 x height x width float32; give a salient-object network such as u2netp.onnx')
        if not np.isfinite(output).all():
            raise InputError(f'the scores of {file} are no finite numbers for an image of noise; give a whole ONNX '
                             'file')


def _open(file: str | Path, content: bytes) -> tuple[Run, Sequence | None, dict[str, str] | None]:
    """Open a network: a function that runs it, and its input's shape and its metadata, both None with OpenCV."""
    try:
        import onnxruntime
    except ImportError:
        return _open_with_opencv(file), None, None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one process a core is faster
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    except Exception as error:
        raise InputError(f'network {file} cannot be read as ONNX ({_first_line(error)}); give a whole ONNX file') \
            from error
    inputs, output = session.get_inputs(), session.get_outputs()[0]
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != 'tensor(float)':
        found = ', '.join(f'{given.name} {given.shape} {given.type}' for given in inputs)
        raise InputError(f'the inputs of {file} are {found}, but a salient-object network has one, 1 x 3 x height x '
                         'width of tensor(float); give a network such as u2netp.onnx')

    def run(values: np.ndarray) -> np.ndarray:
        return session.run([output.name], {inputs[0].name: values})[0]

    return run, inputs[0].shape, session.get_modelmeta().custom_metadata_map


def _open_with_opencv(file: str | Path) -> Run:
    """Open a network with OpenCV, which reads most ONNX files: a function that runs it."""
    import cv2
    try:
        network = cv2.dnn.readNetFromONNX(str(file))
    except cv2.error as error:
        raise InputError(f'OpenCV cannot read the network {file} ({_first_line(error)}); install onnxruntime: '
                         f'{INSTALL}') from error
    # OpenCV lists a network's outputs in the order of the file.
    output = network.getUnconnectedOutLayersNames()[0]

    def run(values: np.ndarray) -> np.ndarray:
        network.setInput(values)
        return network.forward(output)

    return run


def _input_size(file: str | Path, fixed: Sequence | None, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of a network's input: those that the file fixes, else those that are given."""
    if fixed is None:
        assert size is not None  # OpenCV needs it, and the detector has asked for it
        return size
    batch, channels, *sides = fixed
    # A side that the file leaves open has a name or None instead of a number.
    if (isinstance(batch, int) and batch != 1) or (isinstance(channels, int) and channels != 3):
        raise InputError(f'the input of {file} is {" x ".join(map(str, fixed))}, but a salient-object network takes '
                         '1 x 3 x height x width; give a network such as u2netp.onnx')
    if all(isinstance(side, int) for side in sides):
        if size is not None and tuple(size) != tuple(sides):
            raise InputError(f'--size is {size[0]} {size[1]}, but {file} takes {sides[0]} x {sides[1]} only; leave '
                             '--size out')
        height, width = sides
        return height, width
    if size is None:
        raise InputError(f'{file} leaves its input size open; give the one it was trained with by --size HEIGHT WIDTH')
    return size


def _colours(file: str | Path, metadata: dict[str, str], key: str) -> list[float] | None:
    """Three numbers of a file's metadata, if it has them."""
    if key not in metadata:
        return None
    try:
        values = [float(value) for value in json.loads(metadata[key])]
        if len(values) == 3 and np.isfinite(values).all():
            return values
    except (ValueError, TypeError):
        pass
    raise InputError(f'the metadata {key!r} of {file} is {metadata[key]!r}, not three numbers in JSON; give --mean and '
                     '--deviation')


def _first_line(error: Exception) -> str:
    """The first line of an engine's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
