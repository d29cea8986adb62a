// GraphProto to Graph, subgraphs included. Included by the importer's own files only.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "import/onnx.h"
#include "import/tensor_reader.h"

namespace systole {

/// What all graphs of one model share.
struct ReaderContext {
  std::string source;
  const ImportOptions& options;
  std::map<std::string, int64_t> opsets;
  TensorReader tensors;
};

/// Per initializer, its raw_data where that is not in the proto; otherwise empty.
using RawInitializers = std::vector<Bytes>;

/// "" for ai.onnx.
std::string normal_domain(const std::string& domain);

/// Reads one graph. A subgraph's reader knows its parent: a name that the subgraph does not define is a capture, which
/// becomes an input of the subgraph and of the node that holds it.
class GraphReader {
 public:
  GraphReader(ReaderContext& context, GraphReader* parent) : context_(context), parent_(parent) {}
  /// `raw`: of initializers whose raw_data was left out of the proto.
  Graph run(const onnx::GraphProto& g, const RawInitializers& raw = {});

 private:
  [[noreturn]] void bad(const std::string& where, const std::string& found, const std::string& expected = {}) const;
  ValueId id_of(const std::string& name);
  ValueId define(const std::string& name, const std::string& what);
  /// The value that a node input names; in subgraphs, a capture where it is not this graph's own.
  ValueId use(const std::string& name);
  bool visible(const std::string& name) const;
  void set_constant(ValueId id, TensorPtr t);
  TensorPtr constant_input(const TensorPtr& given, const onnx::ValueInfoProto& info);
  static TensorPtr spread(const TensorPtr& number, const onnx::ValueInfoProto& info);
  void collect_names(const onnx::GraphProto& g);
  void read_input(const onnx::ValueInfoProto& info);
  Shape bind_shape(const onnx::ValueInfoProto& info);
  void check_bound_dims() const;
  void read_node(const onnx::NodeProto& n);
  bool repeats_constant(const onnx::NodeProto& n);
  void read_attribute(Node& node, const onnx::AttributeProto& a, const std::string& where);
  GraphPtr read_subgraph(Node& node, const onnx::GraphProto& g);
  void read_outputs(const onnx::GraphProto& g);
  void drop_unread_outputs();

  ReaderContext& context_;
  GraphReader* const parent_;
  Graph graph_;
  std::map<std::string, ValueId> ids_;
  std::set<std::string> own_names_;   ///< all that this graph defines anywhere, for subgraphs
  std::set<std::string> defined_, used_dims_, used_constants_;
  std::vector<std::string> unbound_;
  std::vector<std::string> captured_;  ///< names, in the order of the inputs they became
  std::map<std::string, size_t> constants_;  ///< Constant nodes by output
};

}  // namespace systole
