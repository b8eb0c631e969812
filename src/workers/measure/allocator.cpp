// What torch-sys does not bind: the statistics of a device's caching allocator. `c10::DeviceAllocator` is the interface that
// they all have since libtorch 2.8, CUDA's among them, and needs no headers of CUDA's.

#include <cstdint>
#include <exception>

#include <c10/core/CachingDeviceAllocator.h>

namespace {
// The sum over pools, beside those of small and of large blocks.
constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
} // namespace

// Forgets the peak of a CUDA device, so that the next one counts from what is allocated now. 0 where there is no such
// device, 1 otherwise. No exception leaves.
extern "C" int spnas_reset_peak_memory(int ordinal) {
  try {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(ordinal));
    return 1;
  } catch (const std::exception &) {
    return 0;
  }
}

// Gives the device back what the allocator only keeps for later, and forgets the peaks. As above.
extern "C" int spnas_forget_memory(int ordinal) {
  try {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
    return spnas_reset_peak_memory(ordinal);
  } catch (const std::exception &) {
    return 0;
  }
}

// The most bytes that the allocator has had from a CUDA device at once since then; -1 where there is no such device.
extern "C" std::int64_t spnas_peak_taken(int ordinal) {
  try {
    auto *allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    return allocator->getDeviceStats(static_cast<c10::DeviceIndex>(ordinal)).reserved_bytes[kAll].peak;
  } catch (const std::exception &) {
    return -1;
  }
}

// The most bytes that tensors on a CUDA device have had at once since the last reset; -1 where there is no such device.
extern "C" std::int64_t spnas_peak_memory(int ordinal) {
  try {
    auto *allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    return allocator->getDeviceStats(static_cast<c10::DeviceIndex>(ordinal)).allocated_bytes[kAll].peak;
  } catch (const std::exception &) {
    return -1;
  }
}
