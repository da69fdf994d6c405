"""What long work tells: a moving line on a terminal, nothing of it in a log."""

import io

from fid_med.utils import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def counted(monkeypatch, stream, total):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr", stream)
    with progress.Progress("real images", total) as line:
        for _ in range(4):
            now[0] += 1
            line.update(5)
    return stream.getvalue()


def test_a_terminal_sees_count_rate_and_what_is_left(monkeypatch):
    shown = counted(monkeypatch, Terminal(), 40)
    assert "real images: 20 of 40, 5.0/s, 4 s left" in shown
    assert shown.endswith("\r\x1b[K")  # the line is cleared for what comes next
    assert "\n" not in shown


def test_without_a_total_there_is_no_end_to_tell(monkeypatch):
    shown = counted(monkeypatch, Terminal(), None)
    assert "real images: 20, 5.0/s" in shown
    assert "left" not in shown


def test_a_log_stays_quiet(monkeypatch):
    assert counted(monkeypatch, io.StringIO(), 40) == ""


def test_messages_go_to_stderr(capsys):
    progress.say("reading")
    progress.warn("few images")
    assert capsys.readouterr() == ("", "reading\nwarning: few images\n")
