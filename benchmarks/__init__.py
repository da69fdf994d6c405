"""How fast is it? Every part against the obvious code and against other programs, in one run.

`python -m benchmarks` runs it. `timing` times contenders alternately and says how they compare,
`peers` keeps other programs alive in an interpreter of theirs, `inputs` makes what all are given,
and the `case_*` modules hold what is compared. Programs that are not installed have a row all the
same, which says so.
"""

# The cases, in the order of a whole run, and the module that holds each.
CASES = {
    "startup": "case_commands",
    "network": "case_network",
    "pipeline": "case_network",
    "command": "case_commands",
    "frechet": "case_numbers",
    "bootstrap": "case_numbers",
    "growth": "case_numbers",
}
