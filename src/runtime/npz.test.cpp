#include "runtime/npz.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "runtime/dataset.h"
#include "runtime/npy.h"

namespace systole {
namespace {

class Npz : public ::testing::Test {
 protected:
  Npz() : file_(::testing::TempDir() + "/" + ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".npz") { std::filesystem::remove(file_); }

  void write(const std::vector<std::pair<std::string, Tensor>>& arrays, bool deflated = false) { write_npz(file_, arrays, deflated); }
  static std::string failure_of(const std::function<void()>& work) {
    try {
      work();
    } catch (const Failure& f) {
      return f.what();
    }
    return "";
  }
  const std::string file_;
};

Tensor counting(const Shape& shape) {
  Tensor t(DType::kF32, shape);
  for (int64_t i = 0; i < t.count(); ++i) t.set(i, 0.5 * static_cast<double>(i));
  return t;
}

TEST_F(Npz, GivesArraysByName) {
  for (const bool deflated : {false, true}) {
    write({{"x", counting({3, 4})}, {"y", Tensor::from_ints({2, 0, 1}, {3})}}, deflated);
    EXPECT_EQ(npz_names(file_), (std::vector<std::string>{"x", "y"}));
    EXPECT_EQ(read_npz(file_ + ":y").to_ints(), (std::vector<int64_t>{2, 0, 1}));
    EXPECT_EQ(read_array(file_, {"images", "x"}).bytes, counting({3, 4}).bytes);
  }
  write({{"only", counting({2})}});
  EXPECT_EQ(read_array(file_).shape, (Shape{2}));
  EXPECT_TRUE(is_npz("a.npz") && is_npz("a.npz:b") && !is_npz("a.npy") && !is_npz("npz"));
}

TEST_F(Npz, SaysWhatIsWrong) {
  EXPECT_NE(failure_of([&] { read_npz(file_); }), "");
  write({{"a", counting({2})}, {"b", counting({2})}});
  const std::string unnamed = failure_of([&] { read_npz(file_, {"x"}); });
  EXPECT_TRUE(unnamed.find("a, b") != std::string::npos && unnamed.find(":NAME") != std::string::npos) << unnamed;
  EXPECT_NE(failure_of([&] { read_npz(file_ + ":c"); }).find("one of a, b"), std::string::npos);
}

/// Cut, and with every byte turned in its turn: an array that is as it was, or a failure.
TEST_F(Npz, DamageIsFound) {
  write({{"x", counting({3, 5})}}, true);
  const auto good = read_file(file_);
  const auto expected = counting({3, 5}).bytes;
  int failures = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const bool cut : {false, true}) {
      auto bytes = good;
      if (cut) bytes.resize(i);
      else bytes[i] ^= 0x5A;
      write_file(file_, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      try {
        EXPECT_EQ(read_npz(file_).bytes, expected) << i;
      } catch (const Failure&) {
        ++failures;
      }
    }
  }
  EXPECT_GT(failures, static_cast<int>(good.size()));
}

TEST_F(Npz, SamplesAndLabelsOfOneArchive) {
  const TensorInfo info{"in", DType::kF32, {1, 4}};
  write({{"x", counting({3, 4})}, {"y", Tensor::from_ints({2, 0, 1}, {3})}});
  const Dataset d = load_dataset({.data = file_}, {info});
  ASSERT_EQ(d.samples.size(), 3u);
  EXPECT_EQ(d.labels, (std::vector<int64_t>{2, 0, 1}));
  EXPECT_TRUE(d.numbers.empty());
  write({{"x_test", counting({3, 4})}, {"y_test", Tensor::from_floats({0.5f, -1.25f, 3.0f}, {3})}});
  const Dataset regression = load_dataset({.data = file_ + ":x_test"}, {info}, true);
  EXPECT_EQ(regression.numbers, (std::vector<float>{0.5f, -1.25f, 3.0f}));
  EXPECT_TRUE(regression.labels.empty()) << "numbers that are not whole are no classes";
  EXPECT_NE(failure_of([&] { load_dataset({.data = file_ + ":x_test"}, {info}); }).find("whole numbers"), std::string::npos);
  write({{"x", counting({3, 4})}, {"y", Tensor::from_floats({1, 0, 1}, {3})}});
  EXPECT_EQ(load_dataset({.data = file_}, {info}).labels, (std::vector<int64_t>{1, 0, 1})) << "floats that are classes";
}

TEST_F(Npz, AnArrayForEachInput) {
  const std::vector<TensorInfo> inputs = {{"ids", DType::kI64, {1, 3}}, {"label", DType::kF32, {1, 2}}};
  write({{"label", counting({2, 2})}, {"ids", Tensor::from_ints({5, 6, 7, 8, 9, 10}, {2, 3})}, {"y", Tensor::from_ints({1, 0}, {2})}});
  const Dataset d = load_dataset({.data = file_}, inputs);
  ASSERT_EQ(d.samples.size(), 2u);
  EXPECT_EQ(d.samples[1][0].to_ints(), (std::vector<int64_t>{8, 9, 10}));
  EXPECT_EQ(d.samples[1][1].to_floats(), (std::vector<float>{1.0f, 1.5f}));
  EXPECT_EQ(d.labels, (std::vector<int64_t>{1, 0})) << "the usual name that is no input's";
  write({{"ids", Tensor::from_ints({5, 6, 7, 8, 9, 10}, {2, 3})}});
  EXPECT_NE(failure_of([&] { load_dataset({.data = file_}, inputs); }).find("no such array"), std::string::npos);
  write({{"ids", Tensor::from_ints({5, 6, 7, 8, 9, 10}, {2, 3})}, {"label", counting({3, 2})}});
  EXPECT_NE(failure_of([&] { load_dataset({.data = file_}, inputs); }).find("3 samples for input 'label'"), std::string::npos);
  EXPECT_NE(failure_of([&] { load_dataset({.data = file_ + ":ids"}, inputs); }).find("for each of them: ids, label"), std::string::npos);
}

}  // namespace
}  // namespace systole
