"""The command `fid-med`: it lists its subcommands, and runs the script of each."""

import importlib.metadata
import runpy
import types

import pytest
from helpers.script_runs import ROOT, run_script

from fid_med import __main__ as command_line
from fid_med import __version__


def run(monkeypatch, *arguments):
    """Runs the command in this process; returns its exit status."""
    monkeypatch.setattr("sys.argv", ["fid-med", *arguments])
    try:
        command_line.main()
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_script_of_the_repository_one_line_each(flag, monkeypatch, capsys):
    assert run(monkeypatch, flag) == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: fid-med COMMAND")
    scripts = [path.stem for folder in ("train", "eval") for path in (ROOT / folder).glob("*.py")]
    listed = [line.split()[0] for line in output.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(["demo", *(name.replace("_", "-") for name in scripts)])


@pytest.mark.parametrize(
    ("arguments", "word"), [([], "no command"), (["compute_fod", "--help"], "compute_fod")]
)
def test_a_wrong_command_ends_with_2_and_one_line(arguments, word, monkeypatch, capsys):
    assert run(monkeypatch, *arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert word in errors
    assert "compute-fid" in errors


@pytest.mark.parametrize("command", command_line.SCRIPTS)
def test_a_command_runs_its_script_with_the_arguments(command, monkeypatch):
    runs = []
    monkeypatch.setattr(runpy, "run_path", lambda path, run_name: runs.append((path, run_name)))
    assert run(monkeypatch, command, "one", "--flag") == 0
    ((path, name),) = runs
    assert path.endswith(command.replace("-", "_") + ".py")
    assert name == "__main__"
    assert command_line.sys.argv == [path, "one", "--flag"]


def test_without_a_checkout_the_installed_script_is_found(tmp_path, monkeypatch):
    (tmp_path / "compute_fid.py").write_text("")
    monkeypatch.setattr(command_line, "__file__", str(tmp_path / "site/fid_med/__main__.py"))
    installed = [
        types.SimpleNamespace(name=name, locate=lambda name=name: tmp_path / name)
        for name in ("compute_fid.cpython-311.pyc", "compute_fid.py")
    ]
    monkeypatch.setattr(importlib.metadata, "files", lambda distribution: installed)
    assert command_line._script("compute-fid") == tmp_path / "compute_fid.py"
    with pytest.raises(SystemExit):
        command_line._script("train-classifier")


def test_the_whole_command_shows_the_help_of_a_script():
    process = run_script("-m", "fid_med", "compute-fid", "--help")
    assert process.returncode == 0
    assert process.stdout.startswith("usage: compute_fid.py REAL GENERATED")
    assert "--batch_size" in process.stdout
    assert process.stderr == ""


def test_the_whole_command_ends_with_the_status_of_its_script():
    process = run_script("-m", "fid_med", "compute-fid", "one")
    assert process.returncode == 2
    assert "REAL GENERATED" in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_the_demo_is_a_command():
    process = run_script("-m", "fid_med", "demo", "--help")
    assert process.returncode == 0
    assert "--output_dir" in process.stdout


def test_the_citation_has_the_version_of_the_package():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
