"""A learned cost model: which schedules are fast on a device of which there are few records.

features     164 numbers for each store of a schedule     corpus, harvest, collect    what there is to learn from
network      scores, trained by order within a kernel     training, adapt             how it learns, and on a new device
controller   when a kernel needs no more measurements     learned                     all of it in a tuning run
saved        a pretrained network as a file
"""
