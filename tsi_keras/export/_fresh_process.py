"""Run one export and measure it; a program of its own that needs TensorFlow only.

`fresh_process.py` runs it in a new interpreter with the arguments JOB RESULT, to prove
that the export can be served where tsi_keras is not installed, and so that nothing
else counts as its memory. JOB is a pickled dict: `runtime` (`saved_model`, `tflite`,
`onnx` or `keras`), `path`, `inputs` (by signature a file of pickled clips),
`batch`, `threads` and `measure` (all signatures with their times, or only the answers
of those in `inputs`). RESULT receives a dict: `runtime` (name and version),
`memory` (bytes), and `signatures`, by name the outputs joined over all clips and the
times in milliseconds.
"""

import importlib.metadata
import pickle
import statistics
import sys
import time

import numpy as np

# Runs per time: at least so many, then until either limit is reached.
_FEWEST, _MOST, _SECONDS = 3, 20, 2.0


def main(job_file: str, result_file: str) -> None:
    """Do the job; ends with an error message and status 1 if that is impossible."""
    with open(job_file, "rb") as file:
        job = pickle.load(file)
    name, library, open_export = _RUNTIMES[job["runtime"]]()
    memory = {"after_import": _peak_bytes()}
    signatures = _chosen(open_export(library, job), job["inputs"], job["measure"])
    results = {key: {} for key in signatures}
    for key, run in signatures.items() if job["measure"] else ():
        clip = next(_stored(job["inputs"][key]))
        results[key]["latency_ms"] = _milliseconds(run, [clip])
    memory["peak"] = _peak_bytes()
    for key, run in signatures.items():
        results[key] |= _in_batches(run, job["inputs"][key], job)
    memory["peak_in_batches"] = _peak_bytes()
    if job["runtime"] != "keras" and _imported("tsi_keras"):
        raise SystemExit("tsi_keras was imported; this must work without it")
    with open(result_file, "wb") as file:
        result = {"runtime": name, "memory": memory, "signatures": results}
        pickle.dump(result, file)


def _saved_model():
    """TensorFlow, and how it opens a SavedModel."""
    import tensorflow as tf

    return f"TensorFlow {tf.__version__}", tf, _open_saved_model


def _open_saved_model(tf, job):
    """By signature a function from clips to outputs."""
    loaded = tf.saved_model.load(job["path"])

    def runner(name):
        signature = loaded.signatures[name]
        [argument] = signature.structured_input_signature[1]

        def run(clips):
            outputs = signature(**{argument: tf.constant(np.stack(clips))})
            return {key: value.numpy() for key, value in outputs.items()}

        return run

    return {name: runner(name) for name in sorted(loaded.signatures, key=_by_input)}


def _by_input(name):
    """Clips first: what another signature does before the model adds to the memory."""
    return name != "serving_default", name


def _keras():
    """The one runtime that needs tsi_keras."""
    import keras
    import tensorflow as tf

    from tsi_keras.models.loading import load_classifier

    name = f"Keras {keras.__version__} on TensorFlow {tf.__version__}"
    return name, (tf, load_classifier), _open_keras


def _open_keras(library, job):
    """The model in a graph, as `predict` and `evaluate` run it."""
    tf, load_classifier = library
    model = load_classifier(job["path"])
    shape = next(_stored(job["inputs"]["keras"])).shape

    @tf.function(
        input_signature=[tf.TensorSpec((None, *shape), tf.uint8)], autograph=False
    )
    def logits(frames):
        return model(frames, training=False)

    return {"keras": lambda clips: {"logits": logits(np.stack(clips)).numpy()}}


def _tflite():
    """LiteRT, or else TensorFlow's interpreter of the same files."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        return f"TensorFlow Lite {tf.__version__}", tf.lite.Interpreter, _open_tflite
    version = importlib.metadata.version("ai_edge_litert")
    return f"LiteRT {version}", Interpreter, _open_tflite


def _open_tflite(interpreter_class, job):
    """The only signature of a file, with one input; its batch may be fixed or not."""
    model = interpreter_class(model_path=job["path"], num_threads=job["threads"])
    signatures = model.get_signature_list()
    if len(signatures) != 1:
        raise SystemExit(f"one signature is expected. Found: {sorted(signatures)}")
    runner = model.get_signature_runner(next(iter(signatures)))
    [given] = runner.get_input_details().values()
    wanted = runner.get_output_details()
    del runner  # while it lives, the interpreter refuses to run
    dynamic = given["shape_signature"][0] == -1
    allocated = None  # clips that there is room for

    def invoke(frames):
        model.set_tensor(given["index"], _quantized(frames, given))
        model.invoke()
        found = {k: model.get_tensor(detail["index"]) for k, detail in wanted.items()}
        return {k: _dequantized(value, wanted[k]) for k, value in found.items()}

    def run(clips):
        nonlocal allocated
        size = len(clips) if dynamic else int(given["shape"][0])
        if size != allocated:
            if dynamic:
                model.resize_tensor_input(given["index"], (size, *clips[0].shape))
            model.allocate_tensors()
            allocated = size
        return _joined([invoke(part) for part in _parts(clips, size)], len(clips))

    return {"tflite": run}


def _onnx():
    """ONNX Runtime; TensorFlow is not needed."""
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}", onnxruntime, _open_onnx


def _open_onnx(library, job):
    """The network of a file, from `frames`."""
    options = library.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = library.InferenceSession(
        job["path"], options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def run(clips):
        answers = session.run(names, {"frames": np.stack(clips)})
        return dict(zip(names, answers, strict=True))

    return {"onnx": run}


def _parts(clips, size):
    """Arrays of exactly `size` clips; the last one repeats its last clip."""
    filled = [*clips, *clips[-1:] * (-len(clips) % size)]
    return [np.stack(filled[i : i + size]) for i in range(0, len(filled), size)]


def _quantized(frames, detail):
    """Frames in the type and scale of an input tensor."""
    scale, zero = detail["quantization"]
    if scale and (scale, zero) != (1, 0):
        limits = np.iinfo(detail["dtype"])
        frames = np.rint(frames / scale + zero).clip(limits.min, limits.max)
    return frames.astype(detail["dtype"])


def _dequantized(value, detail):
    """An output tensor as float32."""
    scale, zero = detail["quantization"]
    if scale:
        value = (value.astype(np.float32) - zero) * scale
    return value.astype(np.float32)


def _chosen(signatures, inputs, measure):
    """The signatures to call; whoever measures must not miss one."""
    if not signatures:
        raise SystemExit("there is no signature to call")
    unknown = set(signatures) - set(inputs) if measure else ()
    missing = () if measure else set(inputs) - set(signatures)
    for name in sorted(unknown):
        raise SystemExit(f"no clips to compare signature {name} on")
    for name in sorted(missing):
        raise SystemExit(f"there is no signature {name}")
    return {name: run for name, run in signatures.items() if name in inputs}


def _stored(path):
    """The clips in a file, one at a time, so that they take no memory."""
    with open(path, "rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


def _in_batches(run, path, job):
    """Outputs for all clips, and the time per clip of a full batch."""
    size, answers, clips, milliseconds = job["batch"], [], [], None
    for clip in _stored(path):
        clips.append(clip)
        if len(clips) == size:
            answers.append(run(clips))
            if milliseconds is None and job["measure"]:
                milliseconds = _milliseconds(run, clips) / size
            clips = []
    if clips:
        answers.append(run(clips))
    return {"outputs": _joined(answers), "batch_ms_per_clip": milliseconds}


def _joined(answers, count=None):
    """One array per output, of the first `count` clips."""
    return {
        key: np.concatenate([answer[key] for answer in answers])[:count]
        for key in answers[0]
    }


def _milliseconds(run, clips):
    """Median time of a run after one that warms up."""
    run(clips)
    seconds = []
    while len(seconds) < _FEWEST or (len(seconds) < _MOST and sum(seconds) < _SECONDS):
        start = time.perf_counter()
        run(clips)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def _peak_bytes():
    """The most memory this process has had so far."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Not on Linux, where the figure begins with that of the parent process.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _imported(package):
    return any(module.split(".")[0] == package for module in sys.modules)


_RUNTIMES = {
    "saved_model": _saved_model,
    "tflite": _tflite,
    "onnx": _onnx,
    "keras": _keras,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
