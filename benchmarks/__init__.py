"""Benchmarks of every part of fid_med against baseline code and against other programs.

Run `python -m benchmarks` or `python -m benchmarks.coverage_study` from the checkout. `timing`
times contenders alternately and compares them. `peers` runs other programs in their own
interpreter. `inputs` makes the inputs that all contenders share. The `case_*` modules hold the
comparisons, which `cases` runs by name. A program that is not installed has a row that says so.
"""
