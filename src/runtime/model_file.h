// An ONNX file as every command reads it: with the values of its dimensions, its constants and its batch.
#pragma once
#include <string>

#include "base/bytes.h"
#include "graph/graph.h"
#include "systole/systole.h"

namespace systole {

/// The graph, named after the file. Of the options those that say what the model is: dims, input_shapes, constant_inputs, batch, int8_cache.
Graph read_onnx(const std::string& path, const CompileOptions& o);
/// The same of a file's bytes.
Graph read_onnx(const Bytes& bytes, const std::string& path, const CompileOptions& o);

std::string model_name(const std::string& path);

/// Everything but the file and the machine that decides how a model compiles.
std::string option_key(const CompileOptions& o, const std::string& name);

}  // namespace systole
