-- One request of one caller by GCRA, decided and charged in one step; the same as governor's, which each replica falls back on.
--
-- KEYS[1]  the caller
-- KEYS[2]  all callers who have not rested, by the millisecond at which they will have; not given for callers who are few anyway
-- KEYS[3]  what callers share of whom there are too many
-- ARGV     the interval at which requests come back, and the tolerance, (burst - 1) intervals: seconds, nanoseconds of each; and how many
--          callers are told apart
-- returns  0 when the request passes, else the nanoseconds until one would
--
-- What is kept is the caller's theoretical arrival time: when all that was asked so far would have been asked at an even pace.
-- The clock is this server's, so that the replicas' own need not agree.
--
-- A moment is a pair of seconds and nanoseconds. Numbers here are doubles, exact to 2^53, while nanoseconds since 1970 and a
-- billion intervals of a second are both beyond 2^60.

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
local kept = redis.call('GET', caller)
if KEYS[2] and not kept then
  -- A few at a time, so that no request waits for all of a crowd.
  local rested = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', milliseconds(now)), 'LIMIT', 0, 100)
  if #rested > 0 then redis.call('ZREM', KEYS[2], unpack(rested)) end
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
    caller = KEYS[3]
    kept = redis.call('GET', caller)
  end
end

local arrival = now
local seconds, nanos = string.match(kept or '', '^(%d+) (%d+)$')
if seconds then
  arrival = { tonumber(seconds), tonumber(nanos) }
  if before(arrival, now) then arrival = now end
end
-- Further ahead than any request of ours can have put it: the clock was set back, or the settings were changed. Whoever has
-- used up everything but one request is the strictest that can still be true, and is not shut out for as long as the leap.
if before(sum(now, sum(tolerance, interval)), arrival) then arrival = sum(now, tolerance) end

local earliest = difference(arrival, tolerance)
if before(now, earliest) then
  local wait = difference(earliest, now)
  return wait[1] * BILLION + wait[2] -- at most one interval, so exact
end

arrival = sum(arrival, interval)
-- Once that moment has passed, a caller has rested, and need not be known: nothing is left behind.
local rest = milliseconds(difference(arrival, now)) + 1 -- and one more, since expiry counts whole ones
redis.call('SET', caller, string.format('%.0f %.0f', arrival[1], arrival[2]), 'PX', string.format('%.0f', rest))
if KEYS[2] and caller == KEYS[1] then
  redis.call('ZADD', KEYS[2], string.format('%.0f', milliseconds(now) + rest), caller)
  -- It goes when the last of them has rested.
  if redis.call('PTTL', KEYS[2]) < rest then redis.call('PEXPIRE', KEYS[2], string.format('%.0f', rest)) end
end
return 0
