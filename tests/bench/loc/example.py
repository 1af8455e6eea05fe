from __future__ import annotations

from typing import Any

import tailorbird as tb


def serve(model: Any, train: Any, validation: Any, images: Any) -> tuple[tb.Board, tb.Served]:
    net = tb.elastic(model, (images[:1],))  # construction
    net.fit(train, epochs=1)
    accuracy = tb.accuracy_table(net, validation, recalibration=train)
    board = tb.local()
    latency = tb.latency_model(net, board)
    ladder = tb.search(net, accuracy=accuracy, latency=latency, slo="50ms")
    return board, board.deploy(ladder, inputs=images)
