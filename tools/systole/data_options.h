// The options that name a data set, shared by quantize and verify.
#pragma once
#include "command.h"

namespace systole::cli {

struct DataArguments {
  DataOptions data;
  void add_to(CLI::App& command, const char* data_option) {
    command.add_option(data_option, data.data, "samples: a folder of pictures or .npy files (or one folder per class), a .npy [N, ...], an .npz (x and y, or FILE.npz:ARRAY), or an IDX file; for several inputs an .npz with an array of each one's name");
    command.add_option("--labels", data.labels, "class (or number) of each sample: .npy, .npz or IDX; folders per class, and an .npz that has them, need none");
    command.add_option("--samples", data.samples, "at most this many, spread over the set; 0 for all")->capture_default_str();
    command.add_option("--image-scale", data.image_scale, "bytes and pictures: value / SCALE before mean and deviation")->capture_default_str();
    command.add_option("--image-mean", data.image_mean, "bytes and pictures: mean per channel")->delimiter(',');
    command.add_option("--image-std", data.image_std, "bytes and pictures: deviation per channel")->delimiter(',');
  }
};

}  // namespace systole::cli
