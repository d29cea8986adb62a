#include "ops/operator.h"

#include <vector>

namespace systole {

std::span<const Operator> operators() {
  static const std::vector<Operator> all = [] {
    std::vector<Operator> list;
    for (const auto& part : {convolution_operators(), matmul_operators(), pooling_operators(), pooling_gradient_operators(), elementwise_operators(), quantization_operators(), reduction_operators(), layout_operators(), copy_operators(), pad_operators(), recurrent_operators(),
                             resize_operators(), shape_operators(), attention_operators(), linear_attention_operators(), loss_operators(), optimizer_operators(),
                             normalization_operators(), control_operators(), matrix_operators(), indexed_operators(), product_operators(), einsum_operators(), argument_operators(), trigonometry_operators(), dynamic_quantization_operators(), wide_integer_operators(),
                             microsoft_attention_operators(), microsoft_fused_operators(), microsoft_quantized_operators()}) {
      list.insert(list.end(), part.begin(), part.end());
    }
    return list;
  }();
  return all;
}

const Operator* find_operator(std::string_view domain, std::string_view name) {
  for (const Operator& o : operators()) {
    if (domain == o.domain && name == o.name) return &o;
  }
  return nullptr;
}

}  // namespace systole
