// What torch-sys does not bind: the type of numbers in which a thread computes in mixed precision. It is a setting of the
// thread, and needs no headers of CUDA's.

#include <ATen/autocast_mode.h>

// From now on this thread's mixed precision is in bfloat16 on CUDA devices. 0 where it cannot be. No exception leaves.
extern "C" int spnas_autocast_bfloat16() {
  try {
    at::autocast::set_autocast_dtype(at::kCUDA, at::kBFloat16);
    return at::autocast::get_autocast_dtype(at::kCUDA) == at::kBFloat16;
  } catch (const std::exception &) {
    return 0;
  }
}
