"""From a PyTorch module to a graph whose every axis is understood: capture, dimension algebra, groups, blocks, cost."""

from tailorbird.graph.algebra import Atom, Dim, Dims, Pin
from tailorbird.graph.blocks import Block
from tailorbird.graph.capture import op_name
from tailorbird.graph.cost import (
    CriticalPath,
    Shapes,
    count_macs,
    count_parameters,
    critical_path,
    peak_activation_bytes,
)
from tailorbird.graph.elastic_graph import ElasticGraph, Signature, trace, trace_rigid
from tailorbird.graph.groups import Group, PinnedAxis, importance, per_index
from tailorbird.graph.inputs import Inputs, bind
from tailorbird.graph.kernels import Kernel
from tailorbird.graph.origin import error_origin, line_of, modules_of, node_origin
from tailorbird.graph.outputs import plain
from tailorbird.graph.stages import Stage, find_stages, without
from tailorbird.graph.state import kept_state
from tailorbird.graph.subgraph import Mode, Subgraph, as_module, live_nodes, specialise
from tailorbird.graph.switch import follow_mode

__all__ = [
    "Atom",
    "Block",
    "CriticalPath",
    "Dim",
    "Dims",
    "ElasticGraph",
    "Group",
    "Inputs",
    "Kernel",
    "Mode",
    "Pin",
    "PinnedAxis",
    "Shapes",
    "Signature",
    "Stage",
    "Subgraph",
    "as_module",
    "bind",
    "count_macs",
    "count_parameters",
    "critical_path",
    "error_origin",
    "find_stages",
    "follow_mode",
    "importance",
    "kept_state",
    "line_of",
    "live_nodes",
    "modules_of",
    "node_origin",
    "op_name",
    "peak_activation_bytes",
    "per_index",
    "plain",
    "specialise",
    "trace",
    "trace_rigid",
    "without",
]
