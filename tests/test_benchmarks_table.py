"""The table of claims, made of the results that are kept."""

import json

from benchmarks import table
from benchmarks.comparing import ROOT


def test_the_readmes_table_is_of_the_results_that_are_kept():
    readme = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    kept = readme.partition("<!-- table -->\n")[2].partition("<!-- end of the table -->\n")[0]
    assert kept == table.make_table(ROOT / "benchmarks/results")


def test_what_was_not_measured_says_so(tmp_path):
    lines = table.make_table(tmp_path).splitlines()
    assert len(lines) == 2 + len(table.ROWS)
    assert all("| not measured |" in line for line in lines[2:])


def test_figures_come_from_the_results(tmp_path):
    def write(name, results):
        (tmp_path / f"{name}.json").write_text(json.dumps(results))

    write(
        "convert",
        {
            "machine": "2 x Abacus",
            "figures": {
                "seconds": {"ours": [0.5, 0.9, 0.6], "TFDS": [12.0], "ours, 1,000 drawn": [9.0]},
                "peak_megabytes": {"ours": [50], "TFDS": [800], "ours, 1,000 drawn": [51]},
            },
        },
    )
    speeds = {"first": {"ours": [300.0], "a peer": [100.0]}, "later": {"ours": [600.0]}}
    write("read", {"machine": "2 x Abacus", "figures": speeds})
    run = {"test_accuracy": 0.9925, "seconds": 7.0, "machine": "4 x Sliderule"}
    score = {"test_accuracy": 0.998, "members": ["a-0", "b-0"], "seconds": 90.0}
    runs = {"speed99": {"0": run}, "best_lenet": {"0": run}}
    write("accuracy", {"runs": runs, "ensembles": {"best_lenet": score}})
    made = table.make_table(tmp_path)
    for row in (
        "| 0.60 s, 20 x TFDS | `convert.py` | 2 x Abacus |",
        "| 51 MB for 1,000 | `convert.py` | 2 x Abacus |",
        "| 300 images/s; 3.0 x a peer | `read.py` | 2 x Abacus |",
        "| 600 images/s | `read.py` | 2 x Abacus |",
        "| 99.25 (1) in 7 s | `accuracy.py` | 4 x Sliderule |",
        "| 99.80 % of 2 runs in 90 s | `accuracy.py` | 4 x Sliderule |",
    ):
        assert row in made


def test_writes_between_the_marks_and_nothing_else(run_script, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table -->\nold\n<!-- end of the table -->\nafter\n")
    done = run_script("benchmarks/table.py", f"--readme={readme}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = readme.read_text()
    assert text.startswith("before\n<!-- table -->\n| claim |")
    assert text.endswith("|\n<!-- end of the table -->\nafter\n")
    assert "old" not in text


def test_a_text_without_the_marks_stays(run_script, tmp_path):
    readme = tmp_path / "README.md"
    for text in (None, "before\n<!-- table -->\nold\n"):
        if text:
            readme.write_text(text)
        done = run_script("benchmarks/table.py", f"--readme={readme}")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"table.py: {readme}: expected lines <!-- table --> and <!-- end of the table -->, not "
            "found\n"
        )
    assert readme.read_text() == "before\n<!-- table -->\nold\n"
