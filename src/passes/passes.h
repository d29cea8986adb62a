// The compiler's passes over Graph. Each takes a graph and leaves a graph that verifies; pipeline.cpp is the list.
#pragma once
#include <string>

#include "graph/graph.h"
#include "machine/machine.h"
#include "ops/lowering.h"

namespace systole {

/// Turns Constant nodes into constants, and Identity nodes that give one another name (PyTorch writes weights that are alike once).
void inline_constants(Graph& graph);

/// Folds BatchNormalization into the convolution before it, after inline_constants.
void simplify(Graph& graph);

/// Gelu 20, exact or by tanh, from the products and sums that exporters write for it: one map, whose gradient needs the input alone where those of
/// the parts need each other.
void recognise_gelu(Graph& graph);

/// LayerNormalization 17 and RMSNormalization 23 over the last axis from their parts, with constant scales: two passes over a row, and one
/// division for all of it.
void recognise_normalization(Graph& graph);

/// Inputs past* and outputs present* of a decoder, f32 [.., size], become int8 with a scale per row: `name` and `name`.scale. Fails
/// (kUnsupported) on a model without them.
void narrow_caches(Graph& graph);

/// Computes nodes whose inputs are all constants on the host (DequantizeLinear stays: it belongs to its reader).
void fold_constants(Graph& graph);

/// Rewrites DequantizeLinear - op - QuantizeLinear into integer operators where that gives ONNX Runtime's results.
void recognise_qdq(Graph& graph);

/// ONNX operators to primitives, all of them: fails (kUnsupported) where the host would have to help (partition.h).
/// `forms`: of an earlier lowering of the same constants.
Graph legalise(const Graph& graph, FloatPolicy policy, std::shared_ptr<ConstantForms> forms = nullptr);

/// Nodes that do the same with the same inputs become one.
void merge_duplicates(Graph& graph);

/// Copies that repeat their input and that only maps read become maps.
void repeats_as_maps(Graph& graph);

/// Slices that are one run of their input's bytes become views of it.
void slices_as_views(Graph& graph);

/// fp32 that is copied and then narrowed to bf16 or fp16 is narrowed first.
void narrow_early(Graph& graph);

/// Copies whose result only another copy reads become part of it.
void join_moves(Graph& graph);

/// Maps that read a reshaped value read it in its own shape where their loops can be merged for it.
void merge_loops(Graph& graph);

/// Joins maps with the maps and contracts they read, within the limits of one micro-program: a cheap one also with each of several
/// maps that read it, where that moves fewer bytes. Begins with merge_duplicates, narrow_early, slices_as_views, join_moves,
/// repeats_as_maps and merge_loops.
void fuse_maps(Graph& graph);

/// After fuse_maps: chains of contract, maps and contract whose intermediate tensors exceed the scratchpad become chains over blocks
/// of rows, each of at most `block_bytes` of them (or one row). True where there was one.
bool tile_attention(Graph& graph, int64_t scratchpad_bytes, int64_t block_bytes);

/// After fuse_maps: products of images by images whose intermediate tensors exceed the scratchpad, with the maps and moves between and around
/// them, become such runs over groups of images. True where there was one.
bool tile_heads(Graph& graph, int64_t scratchpad_bytes);

/// After fuse_maps: runs of maps whose tensors exceed the scratchpad become runs over blocks of rows. True where there was one.
bool tile_maps(Graph& graph, int64_t scratchpad_bytes);

struct LayerBlocks {
  int64_t block_bytes;         ///< of a group's tensors that are live at once, at most
  int64_t step_cycles = 2500;  ///< that a step of each group costs beside its work
  bool copies = false;         ///< runs of products of single pixels (1 x 1) hand on what others need too, copied out; who reads it block by block follows
  int64_t followed_block_bytes = 0;  ///< like block_bytes, where others follow: with what these make; 0: none do
};
/// After fuse_maps: contractions, maps and moves over a batch whose tensors exceed the scratchpad become runs over groups of its images, or of rows
/// where contractions have one tap, where that saves more than its steps cost. True where there was one.
bool tile_layers(Graph& graph, const Machine& machine, const LayerBlocks& options);

/// After fuse_maps: convolutions and maps of one image whose tensors exceed the scratchpad become cascades: stripes of rows go through all of them,
/// and keep what the next stripe needs again; of at most `block_bytes` that are live. True where there was one.
bool tile_cascades(Graph& graph, const Machine& machine, int64_t block_bytes, int64_t step_cycles = 500);

/// Precision asked for by name; "auto" is fp32 for quantised models and bf16 otherwise. Fails on another name.
FloatPolicy choose_policy(const Graph& graph, const std::string& precision);
/// The name choose_policy resolved to, for reports.
std::string policy_name(const Graph& graph, const std::string& precision);

}  // namespace systole
