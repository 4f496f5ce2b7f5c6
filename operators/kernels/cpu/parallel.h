// Runs work(item) for every item, on up to `threads` threads.
//
// The threads are those that torch has already, where its OpenMP is GNU's: others would have to share
// the cores with torch's, which spin for a while after each of its own operations. Elsewhere threads
// are made for each call and are gone when it returns (tens of microseconds).
#pragma once

#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

// Calls body(argument) on a team of threads, one of which is the caller.
using Team = void (*)(void (*body)(void*), void* argument, unsigned threads, unsigned flags);

inline Team torch_team() {
#if defined(__linux__)
  static const Team team = reinterpret_cast<Team>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return team;
#else
  return nullptr;
#endif
}

template <class Work>
void parallel(int64_t items, int threads, const Work& work) {
  if (threads > items) threads = static_cast<int>(items);
  if (threads <= 1) {
    for (int64_t item = 0; item < items; ++item) work(item);
    return;
  }
  std::atomic<int64_t> next{0};
  auto take = [&] {
    for (int64_t item = next++; item < items; item = next++) work(item);
  };
  if (const Team team = torch_team()) {
    const auto body = [](void* taker) { (*static_cast<decltype(take)*>(taker))(); };
    team(body, &take, static_cast<unsigned>(threads), 0);
    return;
  }
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
