"""Adaptation under interference: python -m tests.bench.adapt --json FILE [--suite quick|full] [--work FOLDER].

Real ladders on real runtimes, in a process of their own, under nine seeded kinds of weather. In each slot every rung
runs once (the matrix, from which any policy can be replayed exactly) and every policy of the live pass answers one
request, all in random order and each after a pause of its own: asked back to back, later runs would inherit the
scheduler slice that earlier ones used up. So replay and live pass saw the same weather, and have to agree.

    settings     suites, ladders, kinds of weather
    subjects     networks, compiled and written as plans
    weather      what disturbs: a process of its own that follows a seeded schedule
    lab          the process that holds the ladder: calibrates, measures, lets policies answer
    judging      figures, targets, and which of them are met

Every pass is a file in the work folder: a run that was stopped goes on from there. `--traces FOLDER` writes the
matrices as traces for `tailorbird simulate`; those in tests/unit/adapt/traces were made so.
"""
