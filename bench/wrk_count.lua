-- SPDX-License-Identifier: Apache-2.0
-- One line that a program can read: answered requests, failures, the 99th percentile.
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("count requests=%d failures=%d p99_us=%d\n", summary.requests,
    e.connect + e.read + e.write + e.timeout + e.status, latency:percentile(99)))
end
