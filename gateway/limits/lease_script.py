"""The script that Redis runs for one exchange: the one place where gateways meet.

Owns the stored form. One key for each rule, all with one hash tag, so that a cluster keeps them
together:

- tokens: a hash of the window's number (`w`), of what each gateway has taken in it, and, after a
  loss, of what gateways had taken that died before it (`d`), by the latest word (`dt`) of those
  that live
- concurrency: a hash of what each gateway has taken and until when
- requests: a hash of the arrival time of the next request (`n`), and of what each gateway may
  still admit and until when; that is not back in the burst before it is admitted

and one of the gateways: when each was heard of (`g:`), since when this memory lasts (`since`),
and, after a loss, how many were there before it (`expected`) and which of them have told what
they hold (`v:`).

A gateway's field is replaced by what it reports, never added to, so that a lost answer or a
repeated call changes nothing; `seq` keeps out a call that was overtaken by a later one. A Redis
that is empty, or heard of nobody for a while, first gathers what every gateway holds and grants
nothing: so the sums are whole before anything is granted on them. If one of the gateways that
were there before a loss does not come, nobody knows what it took last: then what is left of the
windows in which that was stays withheld until they end, or until it comes.
"""

from __future__ import annotations

HEAD_VALUES = 6
VALUES_PER_RULE = 7

LEASE_SCRIPT = """
local base_s = 1735689600  -- 2025-01-01 in UTC: keeps microseconds exact in a double
local gateway, seq, replicas = 'g:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local settle_us, silence_us, lease_us, chunk_us =
  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local known_life, known_peers = ARGV[8], tonumber(ARGV[9])
local has_told_all = ARGV[10] == '1'

local time = redis.call('TIME')
local now = (tonumber(time[1]) - base_s) * 1000000 + tonumber(time[2])
local function text(number) return string.format('%.0f', number) end

local last = redis.call('GET', KEYS[2])
if last and seq <= tonumber(last) then return {'overtaken'} end
redis.call('SET', KEYS[2], seq, 'EX', 86400)

local epoch, entries = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do epoch[entries[i]] = tonumber(entries[i + 1]) end
local since, seen, settled = epoch.since or now, epoch.seen, epoch.settled
if not seen or math.abs(now - seen) > silence_us then settled = now + settle_us end
epoch[gateway] = now
redis.call('HSET', KEYS[1], 'since', text(since), 'settled', text(settled))
redis.call('HSET', KEYS[1], 'seen', text(now), gateway, text(now))
local expected = epoch.expected or 0
if known_peers > 0 and known_life ~= text(since) then
  expected = math.max(expected, known_peers)
  redis.call('HSET', KEYS[1], 'expected', expected)
  if has_told_all then
    epoch['v:' .. ARGV[1]] = 1
    redis.call('HSET', KEYS[1], 'v:' .. ARGV[1], 1)
  end
elseif known_peers < 0 then
  epoch[gateway] = nil
  redis.call('HDEL', KEYS[1], gateway)
end
local peers, returned, is_alive = 0, 0, {}
for name, value in pairs(epoch) do
  local prefix = string.sub(name, 1, 2)
  if prefix == 'v:' then returned = returned + 1
  elseif prefix == 'g:' and now - value <= silence_us then peers, is_alive[name] = peers + 1, true
  elseif prefix == 'g:' then redis.call('HDEL', KEYS[1], name) end
end
local is_missing = returned < expected
local is_settling = now < settled or (is_missing and now < since + lease_us)

local function granted(remaining, need, wish, spare, most)
  if is_settling or remaining <= 0 then return 0 end
  local chunk = math.floor(remaining / (2 * replicas))
  if most and chunk > most then chunk = most end
  return math.min(remaining, math.max(need, math.min(wish, chunk - spare), 0))
end

local function tokens(key, amount, period_us, number, total, need, wish, spare, was_lost, lost_at)
  local window = math.floor(now / period_us)
  local fields = redis.call('HGETALL', key)
  local others, lost, own = 0, 0, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], tonumber(fields[i + 1])
    if name == gateway or string.sub(name, 1, 2) ~= 'g:' then own[name] = value
    else
      others = others + value
      if not is_alive[name] then lost = lost + value end
    end
  end
  if own.w ~= window then
    if own.w then redis.call('DEL', key) end
    redis.call('HSET', key, 'w', window)
    redis.call('PEXPIRE', key, math.ceil(period_us / 1000) + 60000)
    others, lost, own = 0, 0, {}
  end
  local stored = own[gateway] or 0
  if number >= 0 and number < window then total = 0
  elseif number ~= window then total = math.max(stored, total) end
  local is_of_loss = is_missing and window == math.floor(since / period_us)
  if number == window and lost_at < since and was_lost > 0 and lost_at > (own.dt or 0) then
    own.d = was_lost
    redis.call('HSET', key, 'd', was_lost, 'dt', text(lost_at))
  end
  lost = lost + (own.d or 0)
  local remaining = amount - others - (own.d or 0) - total
  if is_of_loss then remaining = math.min(remaining, 0) end
  local grant = granted(remaining, need, wish, spare)
  if total + grant > 0 then redis.call('HSET', key, gateway, total + grant)
  elseif stored > 0 then redis.call('HDEL', key, gateway) end
  return {grant, total + grant, remaining - grant, window, (window + 1) * period_us - now, 0, lost}
end

local function leased(key)
  local fields, own, others, lapsed, lapsed_at = redis.call('HGETALL', key), 0, 0, 0, 0
  local next_us = 0
  for i = 1, #fields, 2 do
    local held, until_us = string.match(fields[i + 1], '^(%d+):(%d+)$')
    if not held then next_us = tonumber(fields[i + 1])
    elseif tonumber(until_us) < now then
      lapsed, lapsed_at = lapsed + tonumber(held), math.max(lapsed_at, tonumber(until_us))
      redis.call('HDEL', key, fields[i])
    elseif fields[i] == gateway then own = tonumber(held)
    else others = others + tonumber(held) end
  end
  return own, others, next_us, lapsed, lapsed_at
end

local function lease(key, count)
  if count > 0 then redis.call('HSET', key, gateway, text(count) .. ':' .. text(now + lease_us))
  else redis.call('HDEL', key, gateway) end
end

local function calls(key, amount, total, need, wish, spare)
  local _, others = leased(key)
  local remaining = amount - others - total
  local grant = granted(remaining, need, wish, spare)
  lease(key, total + grant)
  redis.call('PEXPIRE', key, math.ceil(lease_us / 1000) + 60000)
  return {grant, total + grant, remaining - grant, -1, 0, 0, 0}
end

local function requests(key, burst, interval_us, total, need, wish, spare, reached, debt, back)
  local own, others, next_us, lapsed, lapsed_at = leased(key)
  local window_us = burst * interval_us
  local latest = now + window_us  -- next_us is later only if a clock was set back
  local held = others + math.max(own, total)  -- some of it was admitted meanwhile; nobody knows when
  next_us = math.max(math.min(math.max(next_us, reached), latest), now + held * interval_us)
  if lapsed > 0 then next_us = math.max(next_us, lapsed_at + (lapsed + held) * interval_us) end
  if not is_settling then
    next_us = math.max(next_us - back * interval_us, now + (others + total) * interval_us)
  end
  if is_missing then next_us = math.max(next_us, since + window_us) end
  if debt > 0 then next_us = math.min(next_us + debt * interval_us, latest) end
  local cells = math.floor((latest - next_us) / interval_us + 0.000001)
  local grant = granted(cells, need, wish, spare, math.ceil(chunk_us / interval_us))
  next_us = next_us + grant * interval_us
  lease(key, total + grant)
  redis.call('HSET', key, 'n', string.format('%.17g', next_us))
  redis.call('PEXPIRE', key, math.ceil(math.max(next_us - now, lease_us) / 1000) + 60000)
  return {grant, total + grant, cells - grant, -1, 0, string.format('%.17g', next_us), 0}
end

local reply = {text(now), text(settled), is_settling and 1 or 0, text(since), peers, is_missing and 1 or 0}
for rule = 3, #KEYS do
  local at = 11 + (rule - 3) * 13
  local kind, amount, span_us = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local number, total, need = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local wish, spare = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local was_lost, lost_at = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  local reached, debt, back = tonumber(ARGV[at + 10]), tonumber(ARGV[at + 11]), tonumber(ARGV[at + 12])
  local answer
  if kind == 'tokens' then
    answer = tokens(KEYS[rule], amount, span_us, number, total, need, wish, spare, was_lost, lost_at)
  elseif kind == 'concurrency' then answer = calls(KEYS[rule], amount, total, need, wish, spare)
  else answer = requests(KEYS[rule], amount, span_us, total, need, wish, spare, reached, debt, back) end
  for i = 1, #answer do reply[#reply + 1] = answer[i] end
end
return reply
"""
