"""Messages and progress bars: shown on a terminal and in a notebook, silent in a log."""

import io
import subprocess
import sys
import textwrap

from fid_med.utils import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def counted(monkeypatch, stream, total, message=None):
    now = [100.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr("sys.stderr", stream)
    with progress.Progress("real images", total) as bar:
        for _ in range(4):
            now[0] += 1
            bar.update(5)
        if message:
            progress.warn(message)
    return stream.getvalue()


def test_a_terminal_shows_count_rate_and_remaining_time(monkeypatch):
    shown = counted(monkeypatch, Terminal(), 40)
    assert "real images:  50%" in shown
    assert "20/40 [00:04<00:04,  5.00it/s]" in shown
    assert shown.rsplit("\r", 2)[1].isspace()  # the bar is cleared for what comes next
    assert shown.endswith("\r")
    assert "\n" not in shown


def test_without_a_total_there_is_no_remaining_time(monkeypatch):
    shown = counted(monkeypatch, Terminal(), None)
    assert "real images: 20it [00:04,  5.00it/s]" in shown
    assert "<" not in shown


def test_a_warning_does_not_break_the_bar(monkeypatch):
    before, after = counted(monkeypatch, Terminal(), 40, "few images").split("\n")
    assert before.rsplit("\r", 2)[1].isspace()
    assert before.endswith("\rwarning: few images")
    assert "20/40" in after


def test_short_work_shows_no_bar(monkeypatch):
    monkeypatch.setattr("tqdm.std.time", lambda: 100.0)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.Progress("real images", 2) as bar:
        bar.update(2)
    assert terminal.getvalue() == ""


def test_a_log_stays_quiet(monkeypatch):
    assert counted(monkeypatch, io.StringIO(), 40) == ""


def test_messages_go_to_stderr(capsys):
    progress.say("reading")
    progress.warn("few images")
    assert capsys.readouterr() == ("", "reading\nwarning: few images\n")


NOTEBOOK = """
import sys, time, types

def module(name, **attributes):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(attributes)

class ZMQInteractiveShell:
    config = {"IPKernelApp": {}}  # by which older versions of tqdm recognise it

module("ipykernel")
module("ipykernel.zmqshell")
module("IPython", get_ipython=ZMQInteractiveShell)
"""

WIDGETS = """
class Widget:
    def __init__(self, children=(), **attributes):
        self.children, self.value, self.bar_style = children, None, None
        self.layout, self.style = types.SimpleNamespace(), types.SimpleNamespace()
        vars(self).update(attributes)

    def close(self):
        print("closed")

module("ipywidgets", HTML=Widget, FloatProgress=Widget, HBox=Widget)
module("IPython.display", display=lambda box: print("displayed", box.children[0].value.split()))
"""

WORK = """
from fid_med.utils.progress import Progress, warn

with Progress("real images", 4) as bar:
    for _ in range(3):
        time.sleep(0.25)
        bar.update()
    warn("few images")
"""


def in_notebook(code):
    """Runs code in a process that tqdm takes for a notebook's kernel, its stderr no terminal."""
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NOTEBOOK + code)],
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout, process.stderr


def test_a_notebook_shows_a_widget():
    out, err = in_notebook(WIDGETS + WORK)
    assert out == "displayed ['real', 'images:', '25%']\nclosed\n"
    assert err == "warning: few images\n"


def test_a_notebook_without_ipywidgets_shows_text_and_no_warning_of_it():
    out, err = in_notebook('sys.modules["ipywidgets"] = None\n' + WORK)
    assert out == ""
    assert "real images:  75%" in err
    assert "warning: few images\n" in err
    assert "IProgress" not in err
    assert "TqdmWarning" not in err
