import pytest
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from data_prep.command_line import UserError
from train.precision import has_bfloat16, resolve_precision, session_config

FLAGS = "processor : 0\nflags\t\t: fpu avx512f{} sse2\n"


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(has_bfloat16, "__defaults__", (path,))
    return path


@pytest.mark.parametrize("flag", [" avx512_bf16", " amx_bf16"])
def test_bfloat16_is_taken_where_the_processor_has_it(cpuinfo, flag):
    cpuinfo.write_text(FLAGS.format(flag), encoding="utf-8")
    assert resolve_precision("auto") == "bfloat16"
    assert resolve_precision("bfloat16") == "bfloat16"
    assert resolve_precision("float32") == "float32"


@pytest.mark.parametrize("text", [FLAGS.format(""), FLAGS.format(" avx512_bf16_not"), None])
def test_bfloat16_is_refused_where_it_would_be_emulated(cpuinfo, text):
    if text is not None:  # Where there is no such file, nothing is known of the processor.
        cpuinfo.write_text(text, encoding="utf-8")
    assert resolve_precision("auto") == "float32"
    assert resolve_precision("float32") == "float32"
    with pytest.raises(
        UserError,
        match=r"^--precision=bfloat16: this processor has no bfloat16 instructions \(avx512_bf16 "
        r"or amx_bf16\); use --precision=auto or float32$",
    ):
        resolve_precision("bfloat16")


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
