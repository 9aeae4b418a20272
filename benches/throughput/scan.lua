-- One scan after another for wrk. Arguments: the store, and which scans:
--   new KEY          each of an event of its own
--   same KEY         always the same
--   badges BADGES    each of an event of its own, by one of so many badges at random
--   recorded BADGES EVENTS SCANS SPREAD
--                    each of one of so many recorded events at random: badges.rs and events.rs say which those are

local store, next_scan
local run, count = "", 0

-- A request before its key, between key and event, and from there on.
local function pieces(key_length, location)
  local key, event = "@key@", "@event@"
  local body = '{"requestId":"00000000-0000-4000-8000-000000000000","identityKey":"' .. key .. '","storeId":"' .. store ..
    '","authEvent":{"id":"' .. event .. '","timestamp":"2026-11-28T12:00:00Z","location":"' .. location .. '"},"keyChannel":"OPTICAL"}'
  local length = #body - #key - #event + key_length + 36
  local text = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: connector\r\nContent-Type: application/json\r\nContent-Length: " ..
    length .. "\r\n\r\n" .. body
  return text:match("^(.*)" .. key .. "(.*)" .. event .. "(.*)$")
end

-- Events come in no order, as those of gates do: where one is kept has nothing to do with where the last one was.
local function new_event()
  count = count + 1
  return string.format("%08x", math.random(0, 0x7fffffff)) .. run .. string.format("%012x", count)
end

-- Three digits are four characters of Base64.
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

-- The key badge-000000 and so on, in Base64.
local function badge(number)
  local thousands = math.floor(number / 1000)
  return "YmFkZ2Ut" .. triples[thousands] .. triples[number - thousands * 1000]
end

local ways = {}

function ways.new(key)
  local head, middle, tail = pieces(#key, "ENTRY")
  head = head .. key .. middle
  return function() return head .. new_event() .. tail end
end

function ways.same(key)
  local head, middle, tail = pieces(#key, "ENTRY")
  local same = head .. key .. middle .. new_event() .. tail
  return function() return same end
end

function ways.badges(badges)
  local head, middle, tail = pieces(#badge(0), "ENTRY")
  return function() return head .. badge(math.random(0, badges - 1)) .. middle .. new_event() .. tail end
end

function ways.recorded(badges, events, scans, spread)
  local head, middle, tail = pieces(#badge(0), "ENTRY")
  local exit_head, exit_middle, exit_tail = pieces(#badge(0), "EXIT")
  return function()
    local number = math.random(0, events - 1)
    local key = badge(math.floor(number / scans) % badges)
    local event = string.format("%08x-0000-4000-8000-%012x", number * spread % 4294967296, number)
    if number % scans == 0 then return head .. key .. middle .. event .. tail end
    return exit_head .. key .. exit_middle .. event .. exit_tail
  end
end

function init(args)
  store = args[1]
  -- The events of one run are not those of another.
  math.randomseed(os.time())
  run = string.format("-%04x-4%03x-8%03x-", math.random(0, 0xffff), math.random(0, 0xfff), math.random(0, 0xfff))
  local rest = {}
  for place = 3, #args do rest[#rest + 1] = tonumber(args[place]) or args[place] end
  next_scan = ways[args[2]](unpack(rest))
end

function request()
  return next_scan()
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
