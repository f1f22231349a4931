"""What templates of attention and of tables refuse, in one sentence that says what to do."""

import pytest
import yaml

from codesign.errors import ConfigError
from codesign.resources import data_root
from codesign.space import load_space


def space_with(folder, name, **domains):
    value = yaml.safe_load((data_root("constraints") / "spaces" / f"{name}.yaml").read_text())
    value["domains"] |= domains
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(value))
    return str(path)


@pytest.mark.parametrize("gene", ["input_bits", "result_bits", "result_bits_2"])
def test_tables_read_no_words_wider_than_their_index(gene, tmp_path):
    path = space_with(tmp_path, "tables_l1", **{gene: [4, 9]})
    with pytest.raises(ConfigError, match=f"domains.{gene} holds 9, .* words of up to 8 bits"):
        load_space(path, n_inputs=16, n_outputs=5)
    load_space(space_with(tmp_path, "tables_l1", **{gene: [4, 8]}), n_inputs=16, n_outputs=5)


def test_attention_streams_nothing(tmp_path):
    path = space_with(tmp_path, "attention_l1", io_type=["io_parallel", "io_stream"])
    with pytest.raises(ConfigError, match="leave it out, attention is io_parallel"):
        load_space(path, n_inputs=(8, 3), n_outputs=5)


@pytest.mark.parametrize(("name", "shape"), [("tables_l1", (8, 3)), ("attention_l1", (16,))])
def test_inputs_of_another_shape_are_refused(name, shape):
    with pytest.raises(ConfigError, match="template mlp"):
        load_space(name, n_inputs=shape, n_outputs=5)
