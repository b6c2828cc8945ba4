"""nano's encoder and connector against torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from edgevlm.bundle.images import Fit
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.compressors.grid import GridPool
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.nano import connector, efficientnet, recipe
from edgevlm.export.nano.packages import ENCODER, class_names
from edgevlm.export.nano.vision import NanoVision
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.probe import probe_picture
from edgevlm.export.progress import Progress
from edgevlm.export.torch_legacy import read_state_dict
from edgevlm.runtime.model.load import open_backend

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
PICTURES = ["astronaut.png", "coffee.png", "random"]
SIZES = [224, 320]

torch.set_num_threads(2)


@pytest.fixture(scope="module")
def parts() -> ModelParts:
    return recipe.gather(ExportOptions())


@pytest.fixture(scope="module")
def vision(parts: ModelParts) -> NanoVision:
    found, *_ = parts.parts
    assert isinstance(found, NanoVision)
    return found


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return torch.load(ENCODER.locate(), weights_only=True, map_location="cpu")


@pytest.fixture
def picture(photograph: Callable[[str], Path]) -> Callable[[str, int], UInt8]:
    """A square uint8 picture of that many pixels."""

    def load(name: str, size: int) -> UInt8:
        if name == "random":
            values = np.random.default_rng(size).integers(0, 256, (size, size, 3))
            return values.astype(np.uint8)
        return np.asarray(Image.open(photograph(name)).convert("RGB").resize((size, size)))

    return load


def torch_outputs(state: dict[str, torch.Tensor], image: UInt8) -> tuple[Float32, Float32]:
    """Features and class logits of the published implementation, built for that image size."""
    model = EfficientNet.from_name("efficientnet-lite0", image_size=len(image)).eval()
    model.load_state_dict(state)
    pixels = torch.from_numpy((image.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.inference_mode():
        features = model.extract_features(pixels)
        logits = model(pixels)
    return features.numpy(), logits.numpy()


def graph_outputs(vision: NanoVision, folder: Path, image: UInt8) -> dict[str, NDArray]:
    vision.lower(folder, PrecisionPlan(default="fp32"), Progress(vision.steps))
    graph = open_backend("ort-cpu", threads=2, spin=False).load(folder / "vision.onnx")
    found = graph.run({"image": image})
    graph.close()
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PICTURES)
def test_features_and_logits_equal_those_of_torch(
    vision: NanoVision,
    state: dict[str, torch.Tensor],
    picture: Callable[[str, int], UInt8],
    tmp_path: Path,
    name: str,
    size: int,
) -> None:
    image = picture(name, size)
    features, logits = torch_outputs(state, image)
    sized = replace(vision, image_size=size)
    found, plain = graph_outputs(sized, tmp_path, image), sized.reference(image)
    assert features.shape == (1, 1280, size // 32, size // 32)
    for outputs, who in ((found, "graph"), (plain, "numpy")):
        errors = [
            float(np.abs(outputs[key] - wanted).max())
            for key, wanted in (("features", features), ("class_logits", logits))
        ]
        print(f"{who}: features {errors[0]:.2g}, logits {errors[1]:.2g}")
        assert max(errors) < 1e-4
        chances = torch.softmax(torch.from_numpy(logits), -1).numpy()
        assert np.abs(outputs["class_probabilities"] - chances).max() < 1e-5


@pytest.mark.parametrize("size", [64, 96, 256])
def test_every_size_pads_as_torch_does(
    vision: NanoVision,
    state: dict[str, torch.Tensor],
    picture: Callable[[str, int], UInt8],
    tmp_path: Path,
    size: int,
) -> None:
    image = picture("random", size)
    features, _ = torch_outputs(state, image)
    sized = replace(vision, image_size=size, pool=GridPool(1))
    found = graph_outputs(sized, tmp_path, image)["features"]
    assert np.abs(found - features).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "words"),
    [("coffee.png", ("espresso", "cup")), ("chelsea.png", ("cat", "tabby"))],
)
def test_the_labels_name_what_a_photograph_shows(
    vision: NanoVision,
    picture: Callable[[str, int], UInt8],
    tmp_path: Path,
    name: str,
    words: tuple[str, ...],
) -> None:
    scores = graph_outputs(vision, tmp_path, picture(name, 224))["class_logits"][0]
    best = [class_names()[i].lower() for i in np.argsort(-scores)[:5]]
    assert any(w in label for w in words for label in best), best


@pytest.mark.parametrize("tokens", [1, 4, 9, 16, 49])
@pytest.mark.parametrize("grid", [7, 10])
def test_grid_pooling_is_adaptive_average_pooling(tokens: int, grid: int) -> None:
    features = np.random.default_rng(tokens).normal(0, 1, (5, grid, grid)).astype(np.float32)
    side = math.isqrt(tokens)
    wanted = functional.adaptive_avg_pool2d(torch.from_numpy(features), (side, side))
    matrix = GridPool(tokens).matrix(grid)
    found = features.reshape(5, -1) @ matrix
    assert np.abs(found - wanted.numpy().reshape(5, -1)).max() < 1e-6
    assert np.allclose(matrix.sum(0), 1, rtol=1e-6)


@pytest.mark.parametrize("tokens", [1, 4, 9, 16, 49])
def test_any_square_count_of_tokens_gives_that_many(
    vision: NanoVision,
    state: dict[str, torch.Tensor],
    picture: Callable[[str, int], UInt8],
    tmp_path: Path,
    tokens: int,
) -> None:
    image = picture("coffee.png", 224)
    chosen = replace(vision, pool=GridPool(tokens))
    found = graph_outputs(chosen, tmp_path, image)["visual_tokens"]
    assert found.shape == (tokens, 576)
    features = torch.from_numpy(torch_outputs(state, image)[0])
    side = math.isqrt(tokens)
    cells = functional.adaptive_avg_pool2d(features, side)[0].reshape(1280, -1).T
    fitted = vision.connector
    unit = functional.normalize(
        (cells - torch.tensor(fitted.mean)) / torch.tensor(fitted.deviation)
    )
    mapped = functional.normalize(unit @ torch.tensor(fitted.weight))
    wanted = torch.tensor(fitted.centre) + fitted.length * mapped
    assert np.abs(found - wanted.numpy()).max() < 1e-4


def test_the_recipe_takes_a_count_of_tokens_and_an_image_size() -> None:
    parts = recipe.gather(ExportOptions(tokens=49, image_size=256))
    assert parts.visual_tokens is not None
    assert parts.visual_tokens.count == 49
    found, *_ = parts.parts
    assert isinstance(found, NanoVision)
    assert (found.pool, found.image_size) == (GridPool(49), 256)
    assert parts.image is not None
    assert isinstance(parts.image.policy, Fit)
    assert (parts.image.policy.height, parts.image.policy.width) == (256, 256)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ExportOptions(tokens=5), "square number of tokens, not 5"),
        (ExportOptions(tokens=0), "square number of tokens, not 0"),
        (ExportOptions(tokens=-4), "square number of tokens, not -4"),
        (ExportOptions(tokens=64), "grid of 8x8"),
        (ExportOptions(tokens=9, image_size=64), "ask for at most 4"),
        (ExportOptions(image_size=225), "multiple of 32"),
        (ExportOptions(image_size=32), "from 64 to 1024"),
        (ExportOptions(image_size=1056), "from 64 to 1024"),
        (ExportOptions(image_size=0), "--image-size 0"),
        (ExportOptions(compressor="perceiver"), "unknown name 'perceiver'"),
        (ExportOptions(compressor="grid:side=4"), "takes no settings"),
    ],
)
def test_a_choice_that_the_encoder_cannot_give_is_named(options: ExportOptions, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe.gather(options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [(0.0, 1.0), (-2.0, 0.5), (3.0, 2.0), (8.0, 1.5), (-6.0, 0.3), (5.9, 10.0), (0.1, 1e-3)],
)
def test_moments_of_a_clipped_normal_equal_numeric_integration(
    mean: float, deviation: float
) -> None:
    z = np.linspace(-12, 12, 400_001)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    clipped = np.clip(mean + deviation * z, 0, 6)
    step = z[1] - z[0]
    first = (clipped * density).sum() * step
    second = (np.square(clipped) * density).sum() * step
    found = connector.clipped_moments(np.array([mean]), np.array([deviation]))
    assert found[0][0] == pytest.approx(first, abs=1e-7)
    assert found[1][0] == pytest.approx(second - first**2, abs=1e-6)


def test_moments_of_a_clipped_normal_equal_a_draw() -> None:
    random = np.random.default_rng(0)
    mean, deviation = random.normal(0, 3, 20), random.uniform(0.2, 4, 20)
    draws = np.clip(random.normal(mean, deviation, (400_000, 20)), 0, 6)
    found = connector.clipped_moments(mean, deviation)
    assert np.abs(found[0] - draws.mean(0)).max() < 0.02
    assert np.abs(found[1] - draws.var(0)).max() < 0.05


def test_the_connector_is_the_ridge_regression_it_says() -> None:
    """The minimum of |X W - Y|^2 + ridge |W|^2, found by least squares on the stacked system."""
    random = np.random.default_rng(1)
    classes, features, hidden = 60, 24, 10
    state = {
        "_bn1.weight": random.uniform(0.5, 2, features).astype(np.float32),
        "_bn1.bias": random.normal(0.5, 1, features).astype(np.float32),
        "_fc.weight": random.normal(0, 1, (classes, features)).astype(np.float32),
    }
    names = random.normal(0.3, 1, (classes, hidden)).astype(np.float32)
    made = connector.fit(state, names, word_length=2.5)
    rows = torch.from_numpy(state["_fc.weight"]).double()
    x = functional.normalize((rows - rows.mean(0)) * torch.from_numpy(made.deviation).double())
    y = torch.from_numpy(names).double()
    y = y - y.mean(0)
    ridge = math.sqrt(connector.RIDGE) * torch.eye(features, dtype=torch.float64)
    stacked = torch.cat([x, ridge]), torch.cat([y, torch.zeros(features, hidden).double()])
    wanted = torch.linalg.lstsq(*stacked).solution
    assert np.abs(made.weight - wanted.numpy()).max() < 1e-5
    assert np.allclose(made.centre, names.mean(0), atol=1e-6)
    tokens = made.apply(random.normal(1, 1, (7, features)).astype(np.float32))
    assert np.allclose(np.linalg.norm(tokens - made.centre, axis=1), 2.5, rtol=1e-5)


def test_a_class_prototype_is_mapped_near_its_own_name(vision: NanoVision) -> None:
    """Closed form, no training: still, most names must be nearest to their own prototype."""
    fitted = vision.connector
    rows = read_state_dict(ENCODER.locate())["_fc.weight"].astype(np.float64)
    cells = (rows - rows.mean(0)) * fitted.deviation**2 + fitted.mean
    tokens = fitted.apply(cells.astype(np.float32)) - fitted.centre
    names = recipe_names(vision)
    names = names - names.mean(0)
    near = tokens @ (names / np.linalg.norm(names, axis=1, keepdims=True)).T
    found = (near.argmax(1) == np.arange(1000)).mean()
    print(f"{found:.1%} of the class names are nearest to their own prototype")
    assert found > 0.5


def recipe_names(vision: NanoVision) -> NDArray[np.float64]:
    from edgevlm.export.gguf_file import GgufFile
    from edgevlm.export.nano.packages import DECODER
    from edgevlm.export.tokenizer_gguf import build_tokenizer

    del vision
    file = GgufFile(DECODER.locate())
    tokenizer, table = build_tokenizer(file.metadata), file.get("embed_tokens.weight")
    means = [table[tokenizer.encode(f" {n}").ids].mean(0) for n in class_names()]
    return np.stack(means).astype(np.float64)


@pytest.mark.parametrize("lost", ["_conv_stem.weight", "_blocks.3._bn1.running_var", "_fc.bias"])
def test_a_missing_tensor_is_named(state: dict[str, torch.Tensor], lost: str) -> None:
    kept = {k: v.numpy() for k, v in state.items() if k != lost}
    with pytest.raises(CheckpointError, match=lost):
        efficientnet.from_state_dict(kept)


def test_another_network_is_refused(state: dict[str, torch.Tensor]) -> None:
    odd = {k: v.numpy() for k, v in state.items()}
    odd["_blocks.3._depthwise_conv.weight"] = odd["_blocks.1._depthwise_conv.weight"]
    with pytest.raises(CheckpointError, match=r"_blocks.3._depthwise_conv has the shape"):
        efficientnet.from_state_dict(odd)
    odd = {k: v.numpy() for k, v in state.items()}
    kernel = odd["_blocks.3._depthwise_conv.weight"]
    odd["_blocks.3._depthwise_conv.weight"] = kernel[:, :, 1:4, 1:4]
    with pytest.raises(CheckpointError, match="not a block of EfficientNet-Lite0"):
        efficientnet.from_state_dict(odd)


@pytest.mark.parametrize("size", [224, 320])
def test_the_probe_picture_is_the_same_everywhere_and_not_flat(size: int) -> None:
    first, second = probe_picture(size, size), probe_picture(size, size)
    assert np.array_equal(first, second)
    assert first.shape == (size, size, 3)
    assert first.dtype == np.uint8
    assert first.std() > 40
