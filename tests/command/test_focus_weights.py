"""--focus network and either, with --focus-weights: in detect, compare and evaluate."""

import json

import pytest

pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")

ALWAYS = ("--side", "96", "--padding", "0", "0", "0", "--threads", "1")


def test_compare(autofocus, square_finder, squares, bright_network, tmp_path):
    words = ("compare", squares, "--detector", square_finder(), "--annotations", "boxes.json", *ALWAYS)
    code, out, err = autofocus(
        *words, "--focus-weights", bright_network(gain=20, bias=-10), "--focus", "weak", "network", "either:0.03"
    )
    assert (code, err) == (0, "")
    rows = json.loads((tmp_path / "runs/compare/comparison.json").read_text())["rows"]
    names = [f"{kind} focus {score}" for kind, score in (("weak", 0.02), ("network", 0.02), ("either", 0.03))]
    assert all(rows[name]["AP"] == 100 for name in names) and "network focus 0.02 against" in out
    assert all(rows[name]["side"] < rows["pyramid"]["side"] for name in names)
    assert rows[names[2]]["side"] >= rows[names[0]]["side"]
    for focus, message in (
        (("--focus", "network"), "wants the weights of a focus network"),
        (("--focus", "strong"), "there is no focus 'strong'"),
        (("--focus", "weak:2"), "must be in [0, 1], got '2' in weak:2"),
    ):
        code, _, err = autofocus(*words, *focus)
        assert code == 1 and message in err and err.count("\n") == 1


def test_detect(autofocus, square_finder, squares, bright_network):
    words = ("detect", squares, "--detector", square_finder(), *ALWAYS, "--write", "csv")
    weights = ("--focus-weights", bright_network(0.5))
    for focus in ("network", "either"):
        code, out, err = autofocus(*words, "--focus", focus, *weights)
        assert (code, err) == (0, "") and "2 scales" in out
    for given in (("--focus", "network"), weights):
        code, _, err = autofocus(*words, *given)
        assert code == 1 and "do not go together" in err and err.count("\n") == 1
    code, _, err = autofocus(*words, "--focus", "either", "--focus-weights", "no.safetensors")
    assert code == 1 and "do not exist" in err and err.count("\n") == 1


def test_evaluate_tells_networks_apart(square_finder, bright_network):
    from autofocus_jax.command.trained import model_digest

    model = square_finder()
    digests = {model_digest(str(model), focus) for focus in (None, str(bright_network()), str(bright_network(0.5)))}
    assert len(digests) == 3
