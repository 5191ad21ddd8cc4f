"""The script that Redis runs for one exchange: the one place where gateways meet.

Owns the stored form. One key for each rule, all with one hash tag, so that a cluster keeps them
together:

- tokens: a hash of the window's number (`w`), of what each gateway has taken in it, and, after a
  loss, of what gateways had taken that died with it (`d`), told from the latest sum that one of
  the living knows (`k`, `kt`)
- concurrency: a hash of what each gateway has taken and until when
- requests: the arrival time of the next request

A gateway's field is replaced by what it reports, never added to, so that a lost answer or a
repeated call changes nothing; `seq` keeps out a call that was overtaken by a later one. A Redis
that is empty, or heard of nobody for a while, first gathers what every gateway holds and grants
nothing: so the sums are whole before anything is granted on them.
"""

from __future__ import annotations

VALUES_PER_RULE = 7

LEASE_SCRIPT = """
local base_s = 1735689600  -- 2025-01-01 in UTC: keeps microseconds exact in a double
local gateway, seq, replicas = 'g:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local settle_us, silence_us, lease_us, chunk_us =
  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local time = redis.call('TIME')
local now = (tonumber(time[1]) - base_s) * 1000000 + tonumber(time[2])

local last = redis.call('GET', KEYS[2])
if last and seq <= tonumber(last) then return {'overtaken'} end
redis.call('SET', KEYS[2], seq, 'EX', 86400)

local epoch = redis.call('HMGET', KEYS[1], 'seen', 'settled')
local seen, settled = tonumber(epoch[1] or ''), tonumber(epoch[2] or '')
if not seen or not settled or math.abs(now - seen) > silence_us then settled = now + settle_us end
redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', now), 'settled', string.format('%.0f', settled))
local is_settling = now < settled

local function granted(remaining, need, most)
  if is_settling or need <= 0 or remaining <= 0 then return 0 end
  local chunk = math.floor(remaining / (2 * replicas))
  if most and chunk > most then chunk = most end
  return math.min(remaining, math.max(need, chunk))
end

local function tokens(key, amount, period_us, number, total, need, known, known_at)
  local window = math.floor(now / period_us)
  local fields = redis.call('HGETALL', key)
  local others, own = 0, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], tonumber(fields[i + 1])
    if name ~= gateway and string.sub(name, 1, 2) == 'g:' then others = others + value
    else own[name] = value end
  end
  if own.w ~= window then
    if own.w then redis.call('DEL', key) end
    redis.call('HSET', key, 'w', window)
    redis.call('PEXPIRE', key, math.ceil(period_us / 1000) + 60000)
    others, own = 0, {}
  end
  local stored = own[gateway] or 0
  if number >= 0 and number < window then total = 0
  elseif number ~= window then total = math.max(stored, total) end
  if is_settling and number == window and known >= 0 and known_at > (own.kt or 0) then
    own.k = known
    redis.call('HSET', key, 'k', known, 'kt', string.format('%.0f', known_at))
  elseif not is_settling and own.k then
    own.d = math.max(own.k - others - total, 0)
    own.k = nil
    redis.call('HSET', key, 'd', own.d)
    redis.call('HDEL', key, 'k', 'kt')
  end
  others = others + (own.d or 0)
  local remaining = amount - math.max(others + total, own.k or 0)
  local grant = granted(remaining, need)
  if total + grant > 0 then redis.call('HSET', key, gateway, total + grant)
  elseif stored > 0 then redis.call('HDEL', key, gateway) end
  return {grant, total + grant, remaining - grant, window, (window + 1) * period_us - now, 0, 0}
end

local function calls(key, amount, total, need)
  local fields = redis.call('HGETALL', key)
  local others = 0
  for i = 1, #fields, 2 do
    local held, until_us = string.match(fields[i + 1], '(%d+):(%d+)')
    if fields[i] ~= gateway then
      if tonumber(until_us) < now then redis.call('HDEL', key, fields[i])
      else others = others + tonumber(held) end
    end
  end
  local remaining = amount - others - total
  local grant = granted(remaining, need)
  if total + grant > 0 then
    redis.call('HSET', key, gateway, string.format('%.0f:%.0f', total + grant, now + lease_us))
    redis.call('PEXPIRE', key, math.ceil(lease_us / 1000) + 60000)
  else redis.call('HDEL', key, gateway) end
  return {grant, total + grant, remaining - grant, -1, 0, 0, 0}
end

local function requests(key, burst, interval_us, need, reached, debt)
  local tolerance = (burst - 1) * interval_us
  local latest = now + tolerance + interval_us  -- later only if a clock was set back
  local next_us = math.max(tonumber(redis.call('GET', key) or '0'), reached, 0)
  next_us = math.max(math.min(next_us, latest), now)
  next_us = math.min(next_us + debt * interval_us, latest)
  local cells = math.floor((latest - next_us) / interval_us + 0.000001)
  local grant = granted(cells, need, math.ceil(chunk_us / interval_us))
  local start = next_us
  next_us = next_us + grant * interval_us
  if grant > 0 or debt > 0 or reached > 0 then
    redis.call('SET', key, string.format('%.17g', next_us), 'PX', math.ceil((next_us - now) / 1000) + 60000)
  end
  return {grant, math.min(grant, need), cells - grant, -1, 0,
    string.format('%.17g', start), string.format('%.17g', next_us)}
end

local reply = {string.format('%.0f', now), string.format('%.0f', settled), is_settling and 1 or 0}
for rule = 3, #KEYS do
  local at = 8 + (rule - 3) * 10
  local kind, amount, span_us = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local number, total, need = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local known, known_at = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local reached, debt = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  local answer
  if kind == 'tokens' then
    answer = tokens(KEYS[rule], amount, span_us, number, total, need, known, known_at)
  elseif kind == 'concurrency' then answer = calls(KEYS[rule], amount, total, need)
  else answer = requests(KEYS[rule], amount, span_us, need, reached, debt) end
  for i = 1, #answer do reply[#reply + 1] = answer[i] end
end
return reply
"""
