// Runs work(item) for every item, on up to `threads` threads that are gone when it returns.
//
// Threads are made anew for each call (tens of microseconds, only for work that takes longer), so
// nothing has to survive a fork and nothing spins while the interpreter computes something else.
#pragma once

#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

template <class Work>
void parallel(int64_t items, int threads, const Work& work) {
  if (threads > items) threads = static_cast<int>(items);
  if (threads <= 1) {
    for (int64_t item = 0; item < items; ++item) work(item);
    return;
  }
  std::atomic<int64_t> next{0};
  const auto take = [&] {
    for (int64_t item = next++; item < items; item = next++) work(item);
  };
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(threads - 1));
  try {
    while (static_cast<int>(others.size()) < threads - 1) others.emplace_back(take);
  } catch (const std::system_error&) {
    // The system has no more threads to give: those that started, and this one, do all of it.
  }
  take();
  for (std::thread& other : others) other.join();
}
