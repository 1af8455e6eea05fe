"""LiteRT: .tflite files written directly from the aten graph, in milliseconds and without a converter."""
