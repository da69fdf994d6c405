"""How fast is it? Every part against the obvious code and against other programs, in one run.

`eval/benchmark.py` runs it. `timing` times contenders alternately and says how they compare,
`peers` keeps other programs alive in an interpreter of theirs, `inputs` makes what all are given,
and the `case_*` modules hold what is compared. Programs that are not installed have a row all the
same, which says so.
"""
