#include "codegen/descriptors.h"

#include <array>

#include "base/fields.h"

namespace systole {
namespace {

/// The registers of one kind of descriptor of one engine.
template <class D>
struct Registers {
  std::array<D, isa::kDescriptors> held{};
  std::array<DescriptorId, isa::kDescriptors> id{};
  std::array<uint64_t, isa::kDescriptors> used{};  ///< when last; 0: empty
};

class Assigner {
 public:
  explicit Assigner(const std::vector<Descriptor>& descriptors) : descriptors_(descriptors) {}

  std::vector<Emitted> run(std::vector<Emitted> code) {
    out_.reserve(code.size() + code.size() / 4);
    for (Emitted& e : code) {
      const int program = e.program == kNoDescriptor ? -1 : place(e.program, e.layer), desc = e.desc == kNoDescriptor ? -1 : place(e.desc, e.layer);
      std::visit(
          [&](auto& i) {
            if constexpr (requires { i.wait; i.desc; }) i.desc = static_cast<uint8_t>(desc);
            if constexpr (requires { i.wait; i.program; }) i.program = static_cast<uint8_t>(program);
          },
          e.operation);
      out_.push_back(std::move(e));
    }
    return std::move(out_);
  }

 private:
  int place(DescriptorId id, uint32_t layer) {
    using isa::Engine;
    return std::visit(Overload{[&](const isa::CopyDesc& d) { return place(copy_[static_cast<size_t>(d.engine)], d, {id, d.engine, 0}, layer); }, [&](const isa::MatrixDesc& d) { return place(matrix_, d, {id, Engine::kMatrix, 0}, layer); },
                               [&](const isa::VectorDesc& d) { return place(vector_, d, {id, Engine::kVector, 0}, layer); }, [&](const isa::VectorProgram& d) { return place(program_, d, {id, Engine::kVector, 0}, layer); }},
                      descriptors_[static_cast<size_t>(id)]);
  }

  template <class D>
  int place(Registers<D>& r, D d, WriteDescriptor write, uint32_t layer) {
    ++clock_;
    for (size_t i = 0; i < r.held.size(); ++i) {
      if (!r.used[i] || r.id[i] != write.id) continue;
      r.used[i] = clock_;
      return static_cast<int>(i);
    }
    size_t oldest = 0;
    for (size_t i = 0; i < r.held.size(); ++i) {
      d.index = static_cast<uint8_t>(i);
      if (r.used[i] && r.held[i] == d) {
        r.used[i] = clock_, r.id[i] = write.id;
        return static_cast<int>(i);
      }
      if (r.used[i] < r.used[oldest]) oldest = i;
    }
    d.index = static_cast<uint8_t>(oldest);
    r.held[oldest] = d, r.id[oldest] = write.id, r.used[oldest] = clock_;
    write.index = static_cast<uint8_t>(oldest);
    out_.push_back({write, layer, {}, kNoDescriptor, kNoDescriptor});
    return static_cast<int>(oldest);
  }

  const std::vector<Descriptor>& descriptors_;
  std::vector<Emitted> out_;
  std::array<Registers<isa::CopyDesc>, 2> copy_;
  Registers<isa::MatrixDesc> matrix_;
  Registers<isa::VectorDesc> vector_;
  Registers<isa::VectorProgram> program_;
  uint64_t clock_ = 0;
};

}  // namespace

isa::Instruction instruction_of(const Emitted& e, const std::vector<Descriptor>& descriptors) {
  return std::visit(Overload{[&](const WriteDescriptor& w) {
                               return std::visit(
                                   [&](auto d) {
                                     d.index = w.index;
                                     return isa::Instruction(d);
                                   },
                                   descriptors[static_cast<size_t>(w.id)]);
                             },
                             [](const auto& i) { return isa::Instruction(i); }},
                    e.operation);
}

void assign_descriptors(std::vector<Emitted>& code, const std::vector<Descriptor>& descriptors) { code = Assigner(descriptors).run(std::move(code)); }

}  // namespace systole
