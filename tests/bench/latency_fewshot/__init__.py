"""Few-shot latency on a device never seen, from proxies, on published measurements of 107 device settings.

    python -m tests.bench.latency_fewshot --data DIR --json out.json [--suite quick|full] [--work FOLDER]

Suites: help (the split and trimming of HELP, Lee et al., NeurIPS 2021), nasflat (the tasks of NASFLAT, Akhauri and
Abdelfattah, MLSys 2024, as far as their devices are published), lodo (a whole device family left out), oneproxy (one
phone is all there is). In each, a pool of architectures is measured on the proxies, 0 to 100 of them on the target, and
others, never measured on any device, are predicted. Every predictor gets the same samples, both those that
choose_samples chooses and random ones. Targets that are synthetic (sums of a table, or simulated) are told apart.

What is fixed and how: grid, kernels and constants of the hierarchical GP were chosen by leaving one proxy out of the
proxies of each NASFLAT task, with other draws of architectures (seeds from 5000 on); the samplers come from a study on
half of these tasks. No choice was made on the OFA tables, and none on a target with the proxies it is predicted from
here. A device that is a target of one task may well be a proxy of another.
"""
