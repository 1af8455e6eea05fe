"""Accuracy: how good subnets get on a small training budget, and how well their accuracy is predicted.

    python -m tests.bench.accuracy --data DIR --json out.json [--suite quick|full] [--nets resnet20,resnet56,digits]

Images. The published CIFAR-10 weights have seen every training image, so whatever must be held out comes from the test
part, in an order drawn once: the first 2,000 are for evaluation alone; each predictor seed takes another 2,000 as its
labelled validation images; the first of these folds also guards the full network during training. Training images train
and recalibrate, and do nothing else. The quick suite evaluates its random subnets on the first 2,000. The full suite
evaluates them on all 10,000 and keeps which images were right, so that each predictor is judged on the images that
neither it nor training saw (the headline) and, beside it, on all.

Subnets. Each random subnet draws a share from 0 to 1; each width changes with this probability, to one of its smaller
choices, all equally likely; each block is skipped with half of it. So mild and drastic ones both occur. They are drawn
by fixed seeds and used for evaluation alone: no predictor, no training and no search is told of them.

Time. A training budget is counted on a CPU clock (see `clock`), so that other work on the machine does not shorten it.
Every stage is kept in `--work`, by the content of its settings: a run that was stopped goes on where it was, and the
object always tells of everything that is there. The full suite takes most of a day on two cores: `--earlier out.json`
keeps the cases of an earlier object that the work folder knows nothing of, so it may be run case by case.
"""
