"""YAML as text, and files that would grow without end when their aliases are written out."""

import pytest
import yaml

from autofocus_jax.data.annotations import AnnotationError
from autofocus_jax.data.yaml_text import texts_of
from autofocus_jax.data.yolo import YoloSource

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


def test_values_are_as_pyyaml_reads_them():
    text = "names: &n {0: on, 1: 'no', 2: 1.0}\ntrain: [a, *n, {b: *n}]\n"
    assert texts_of(text) == yaml.load(text, yaml.BaseLoader)
    assert texts_of(text)["names"] == {"0": "on", "1": "no", "2": "1.0"}
    assert texts_of("") is None and texts_of("# nothing") is None


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "data.yaml").write_text("train: images\nnames:\n  0: cat\n  0: dog\n")
    with pytest.raises(AnnotationError, match=r"data\.yaml is not YAML \('0' is there twice, in lines 3 and 4\)"):
        YoloSource(str(tmp_path)).open("train")


@pytest.mark.parametrize("text", [BOMB, "names: &a [x, *a]\n", "&a {names: *a}"], ids=["bomb", "itself", "mapping"])
def test_aliases_without_end_are_refused(text, tmp_path):
    with pytest.raises(ValueError, match="aliases stand for more than"):
        texts_of(text)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(AnnotationError, match=r"data\.yaml is not YAML \(its aliases stand for more") as caught:
        YoloSource(str(tmp_path)).open("train")
    assert "\n" not in str(caught.value)
