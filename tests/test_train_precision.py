import pytest
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from data_prep.command_line import UserError
from model_definition.architecture import load_architecture, parse_architecture
from train.precision import resolve_precision, session_config
from train.processor import has_bfloat16

LENET = load_architecture("lenet", image_shape=(28, 28, 1), num_classes=10)
FLAGS = "processor : 0\nflags\t\t: fpu avx512f{} sse2\n"


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(has_bfloat16, "__defaults__", (path,))
    return path


@pytest.mark.parametrize("flag", [" avx512_bf16", " amx_bf16"])
def test_bfloat16_is_taken_where_the_processor_has_it(cpuinfo, flag):
    cpuinfo.write_text(FLAGS.format(flag), encoding="utf-8")
    assert resolve_precision("auto", LENET) == "bfloat16"
    assert resolve_precision("bfloat16", LENET) == "bfloat16"
    assert resolve_precision("float32", LENET) == "float32"


@pytest.mark.parametrize("text", [FLAGS.format(""), FLAGS.format(" avx512_bf16_not"), None])
def test_bfloat16_is_refused_where_it_would_be_emulated(cpuinfo, text):
    if text is not None:  # Where there is no such file, nothing is known of the processor.
        cpuinfo.write_text(text, encoding="utf-8")
    assert resolve_precision("auto", LENET) == "float32"
    assert resolve_precision("float32", LENET) == "float32"
    with pytest.raises(
        UserError,
        match=r"^--precision=bfloat16: this processor has no bfloat16 instructions \(avx512_bf16 "
        r"or amx_bf16\); use --precision=auto or float32$",
    ):
        resolve_precision("bfloat16", LENET)


@pytest.mark.parametrize(
    ("filters", "expected"), [(16, "bfloat16"), (48, "bfloat16"), (8, "float32"), (24, "float32")]
)
def test_auto_takes_float32_where_bfloat16_normalises_slowly(cpuinfo, filters, expected):
    cpuinfo.write_text(FLAGS.format(" amx_bf16"), encoding="utf-8")
    text = f"conv {filters} 3x3\nbatchnorm\nglobal_avgpool\noutput\n"
    network = parse_architecture(text, filename="net.txt", image_shape=(28, 28, 1), num_classes=10)
    assert resolve_precision("auto", network) == expected
    assert resolve_precision("bfloat16", network) == "bfloat16"


def test_bfloat16_asks_for_onednns_rewrite():
    on, off = (
        session_config(name).graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16
        for name in ("bfloat16", "float32")
    )
    assert on == RewriterConfig.ON
    assert off == RewriterConfig.DEFAULT


@pytest.mark.parametrize("name", ["bfloat16", "float32"])
def test_layers_are_not_fused(name):
    # With oneDNN some are fused wrongly; test_model_definition_model_fn.py has such a network.
    rewrites = session_config(name).graph_options.rewrite_options
    assert rewrites.remapping == RewriterConfig.OFF
