-- One scan after another for wrk: each of an event of its own, or always the same. Arguments: key, store, and `new` or `same`.

local head, tail, run, same, is_new
local count = 0

function init(args)
  local key, store = args[1], args[2]
  is_new = args[3] == "new"
  -- The events of one run are not those of another.
  math.randomseed(os.time())
  run = string.format("%08x-%04x-4%03x-8%03x-", math.random(0, 0x7fffffff), math.random(0, 0xffff), math.random(0, 0xfff), math.random(0, 0xfff))
  local body = '{"requestId":"00000000-0000-4000-8000-000000000000","identityKey":"' .. key .. '","storeId":"' .. store ..
    '","authEvent":{"id":"%s","timestamp":"2026-11-28T12:00:00Z","location":"ENTRY"},"keyChannel":"OPTICAL"}'
  local length = #body - 2 + 36
  local request = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: connector\r\nContent-Type: application/json\r\nContent-Length: " ..
    length .. "\r\n\r\n" .. body
  local at = request:find("%s", 1, true)
  head, tail = request:sub(1, at - 1), request:sub(at + 2)
  same = head .. run .. "000000000000" .. tail
end

function request()
  if not is_new then return same end
  count = count + 1
  return head .. run .. string.format("%012x", count) .. tail
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
