-- The requests of wrk. Arguments: the store, the number of connections, the keys (HEAD TAIL NUMBER, see keys.rs), and
-- the scans:
--   new              new events
--   same             always the same scan
--   recorded EVENTS SCANS SPREAD
--                    recorded events, see events.rs
-- Keys and events are chosen at random.

local store, next_scan
local run, count = "", 0

-- The three parts of a request: before the key, between key and event id, and after the event id.
local function pieces(key_length, location)
  local key, event = "@key@", "@event@"
  local body = '{"requestId":"00000000-0000-4000-8000-000000000000","identityKey":"' .. key .. '","storeId":"' .. store ..
    '","authEvent":{"id":"' .. event .. '","timestamp":"2026-11-28T12:00:00Z","location":"' .. location .. '"},"keyChannel":"OPTICAL"}'
  local length = #body - #key - #event + key_length + 36
  local text = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: connector\r\nContent-Type: application/json\r\nContent-Length: " ..
    length .. "\r\n\r\n" .. body
  return text:match("^(.*)" .. key .. "(.*)" .. event .. "(.*)$")
end

-- Event ids are random, as those of gates are, so that consecutive events are far apart in an index.
local function new_event()
  count = count + 1
  return string.format("%08x", math.random(0, 0x7fffffff)) .. run .. string.format("%012x", count)
end

-- The Base64 text (four characters) for each group of three digits.
local triples = {}
for number = 0, 999 do
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local a, b, c = string.format("%03d", number):byte(1, 3)
  local bits, text = a * 65536 + b * 256 + c, ""
  for _ = 1, 4 do
    local digit = bits % 64
    text = alphabet:sub(digit + 1, digit + 1) .. text
    bits = (bits - digit) / 64
  end
  triples[number] = text
end

local head, tail, keys

-- The key of this number, in Base64.
local function key(number)
  local thousands = math.floor(number / 1000)
  return head .. triples[thousands] .. triples[number - thousands * 1000] .. tail
end

local generators = {}

function generators.new()
  local start, middle, rest = pieces(#key(0), "ENTRY")
  return function() return start .. key(math.random(0, keys - 1)) .. middle .. new_event() .. rest end
end

function generators.same()
  local same = generators.new()()
  return function() return same end
end

function generators.recorded(events, scans, spread)
  local start, middle, rest = pieces(#key(0), "ENTRY")
  local exit_start, exit_middle, exit_rest = pieces(#key(0), "EXIT")
  return function()
    local number = math.random(0, events - 1)
    local shown = key(math.floor(number / scans) % keys)
    local event = string.format("%08x-0000-4000-8000-%012x", number * spread % 4294967296, number)
    if number % scans == 0 then return start .. shown .. middle .. event .. rest end
    return exit_start .. shown .. exit_middle .. event .. exit_rest
  end
end

-- The thread that sends the requests. `done` runs in another Lua state, and reads the thread's globals through this.
local sender

function setup(thread)
  sender = thread
end

function init(args)
  connections = tonumber(args[2])
  store, head, tail, keys = args[1], args[3], args[4], tonumber(args[5])
  -- Each run has other events.
  math.randomseed(os.time())
  run = string.format("-%04x-4%03x-8%03x-", math.random(0, 0xffff), math.random(0, 0xfff), math.random(0, 0xfff))
  local numbers = {}
  for index = 7, #args do numbers[#numbers + 1] = tonumber(args[index]) end
  next_scan = generators[args[6]](unpack(numbers))
end

function request()
  return next_scan()
end

-- The latencies in ascending order, as {microseconds, count}, and the total count.
--
-- wrk corrects for coordinated omission: if an answer took more than twice the usual time, wrk adds answers for the
-- requests that would have been sent meanwhile. The usual time depends on the server, so that a faster server gets more
-- of them for the same delay. This function removes them: for each answer with the time t, wrk has added one at t -
-- usual, t - 2 * usual and so on, while the time is above `usual`.
local function as_measured(latency, usual)
  local counts, values, all = {}, {}, 0
  for index = 1, #latency do
    local value, count = latency(index)
    counts[value] = count
    values[index] = value
  end
  local measured = {}
  for _, value in ipairs(values) do
    local count = counts[value]
    if value > usual then count = count - (counts[value + usual] or 0) end
    if count > 0 then measured[#measured + 1] = { value, count } end
    all = all + count
  end
  return measured, all
end

function done(summary, latency, requests)
  local errors = summary.errors
  local usual = math.floor(summary.duration / math.floor(summary.requests / sender:get("connections")))
  local measured, all = as_measured(latency, usual)
  io.write(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, all))
  for _, share in ipairs({ 0.5, 0.99, 0.999 }) do
    local so_far, within = 0, 0
    for _, one in ipairs(measured) do
      so_far, within = so_far + one[2], one[1]
      if so_far >= share * all then break end
    end
    io.write(" ", within)
  end
  io.write("\n")
end
