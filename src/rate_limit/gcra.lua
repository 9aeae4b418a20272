-- Decides whether one request of one caller is allowed, and counts it, in one step, with GCRA. The rule is that of
-- governor, the local fallback.
--
-- KEYS[1]  the caller's allowance
-- KEYS[2]  the sorted set of callers whose allowance is not full, scored by the millisecond at which it will be full;
--          not given for configured callers, which are few
-- KEYS[3]  the allowance that callers beyond the maximum share
-- ARGV     the interval after which one more request is allowed, and the tolerance of (burst - 1) intervals, each as
--          seconds and nanoseconds; then the maximum number of callers with their own allowance
-- returns  0 if the request passes, else the nanoseconds until a request would pass
--
-- The stored value is the theoretical arrival time of GCRA: the time at which the caller's requests so far would end at
-- an even pace. The clock is that of Redis, so the replicas' clocks need not agree.
--
-- A time is a pair of seconds and nanoseconds. Lua numbers are doubles, exact to 2^53, but nanoseconds since 1970 and a
-- billion intervals of a second exceed 2^60.

local BILLION = 1000000000

local function sum(a, b)
  local seconds, nanos = a[1] + b[1], a[2] + b[2]
  if nanos >= BILLION then return { seconds + 1, nanos - BILLION } end
  return { seconds, nanos }
end

local function difference(a, b)
  local seconds, nanos = a[1] - b[1], a[2] - b[2]
  if nanos < 0 then return { seconds - 1, nanos + BILLION } end
  return { seconds, nanos }
end

local function before(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end

local interval = { tonumber(ARGV[1]), tonumber(ARGV[2]) }
local tolerance = { tonumber(ARGV[3]), tonumber(ARGV[4]) }
local time = redis.call('TIME')
local now = { tonumber(time[1]), tonumber(time[2]) * 1000 }

local function milliseconds(time)
  return time[1] * 1000 + math.ceil(time[2] / 1000000)
end

local caller = KEYS[1]
local stored = redis.call('GET', caller)
if KEYS[2] and not stored then
  -- At most 100 at a time, so that no request waits for a long removal.
  local full = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', milliseconds(now)), 'LIMIT', 0, 100)
  if #full > 0 then redis.call('ZREM', KEYS[2], unpack(full)) end
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
    caller = KEYS[3]
    stored = redis.call('GET', caller)
  end
end

local arrival = now
local seconds, nanos = string.match(stored or '', '^(%d+) (%d+)$')
if seconds then
  arrival = { tonumber(seconds), tonumber(nanos) }
  if before(arrival, now) then arrival = now end
end
-- Further ahead than a request can have set it: the clock was set back, or the settings were changed. Allow one request
-- now: that is the strictest state that is still possible, and does not refuse the caller for as long as the clock
-- jumped.
if before(sum(now, sum(tolerance, interval)), arrival) then arrival = sum(now, tolerance) end

local earliest = difference(arrival, tolerance)
if before(now, earliest) then
  local wait = difference(earliest, now)
  return wait[1] * BILLION + wait[2] -- at most one interval, so exact
end

arrival = sum(arrival, interval)
-- At that time the allowance is full again, so the key expires: nothing is left behind.
local lifetime = milliseconds(difference(arrival, now)) + 1 -- one more, since expiry has a resolution of a millisecond
redis.call('SET', caller, string.format('%.0f %.0f', arrival[1], arrival[2]), 'PX', string.format('%.0f', lifetime))
if KEYS[2] and caller == KEYS[1] then
  redis.call('ZADD', KEYS[2], string.format('%.0f', milliseconds(now) + lifetime), caller)
  -- The set expires with its last caller.
  if redis.call('PTTL', KEYS[2]) < lifetime then redis.call('PEXPIRE', KEYS[2], string.format('%.0f', lifetime)) end
end
return 0
