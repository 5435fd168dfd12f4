"""Compiled operations that replace slow operations of torch and DGL, with their gradients."""

from kgtool.ops.all_paths.neighbourhood import neighbourhood
from kgtool.ops.all_paths.path_loss import path_loss
from kgtool.ops.all_paths.path_step import path_step
from kgtool.ops.all_paths.path_step_torch import path_rows
from kgtool.ops.all_paths.reach import Reach, reach
from kgtool.ops.all_paths.region import Region, Task
from kgtool.ops.graph.csc import CSC, edge_norm, in_edges, offsets_of
from kgtool.ops.graph.distance import distance, distinct_ways
from kgtool.ops.graph.find_edges import find_edges, inverse_edges
from kgtool.ops.graph.grow_region import grow_region
from kgtool.ops.graph.hold_out import hold_out
from kgtool.ops.graph.relation_walks import relation_walks
from kgtool.ops.graph.sample_in_edges import sample_in_edges
from kgtool.ops.rgcn.block_sum import block_sum
from kgtool.ops.rgcn.relational_sum import relational_sum
from kgtool.ops.runtime.initial import normal_
from kgtool.ops.runtime.memory import by_row, keep_large_blocks, large, machine_bytes
from kgtool.ops.runtime.order_by import begins, order_by
from kgtool.ops.runtime.products import product
from kgtool.ops.runtime.progress import Progress, end_progress, say, show_progress
from kgtool.ops.runtime.rows import common_size, rows, rows_of_whole
from kgtool.ops.runtime.standard_state import own_random_state, standard_state
from kgtool.ops.runtime.threads import (
    autocast,
    in_threads,
    num_workers,
    product_parts,
    torch_in_one_thread,
)
from kgtool.ops.scoring.count_better import count_better, count_better_listed
from kgtool.ops.scoring.entity_loss import entity_loss
from kgtool.ops.scoring.known_among import known_among
from kgtool.ops.scoring.similarity import PRODUCT, Euclidean, Manhattan, Similarity

__all__ = [
    "CSC",
    "PRODUCT",
    "Euclidean",
    "Manhattan",
    "Progress",
    "Reach",
    "Region",
    "Similarity",
    "Task",
    "autocast",
    "begins",
    "block_sum",
    "by_row",
    "common_size",
    "count_better",
    "count_better_listed",
    "distance",
    "distinct_ways",
    "edge_norm",
    "end_progress",
    "entity_loss",
    "find_edges",
    "grow_region",
    "hold_out",
    "in_edges",
    "in_threads",
    "inverse_edges",
    "keep_large_blocks",
    "known_among",
    "large",
    "machine_bytes",
    "neighbourhood",
    "normal_",
    "num_workers",
    "offsets_of",
    "order_by",
    "own_random_state",
    "path_loss",
    "path_rows",
    "path_step",
    "product",
    "product_parts",
    "reach",
    "relation_walks",
    "relational_sum",
    "rows",
    "rows_of_whole",
    "sample_in_edges",
    "say",
    "show_progress",
    "standard_state",
    "torch_in_one_thread",
]
